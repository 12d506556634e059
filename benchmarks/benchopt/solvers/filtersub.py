"""filtersub: every row exactly, by a table of supports (m <= 13) or the solution path, on torch's threads."""

import torch
from benchopt import BaseSolver

from filtersub.sparse_coding import lasso


class Solver(BaseSolver):
    name = "filtersub"
    requirements = ["pip::filtersub"]
    sampling_strategy = "run_once"

    def set_objective(self, rows, atoms, l1_penalty):
        self.rows, self.atoms, self.l1_penalty = torch.from_numpy(rows), torch.from_numpy(atoms), l1_penalty

    def warm_up(self):
        self.run_once()  # compiles

    def run(self, _):
        self.codes = lasso(self.rows, self.atoms, self.l1_penalty).codes

    def get_result(self):
        return {"codes": self.codes.numpy()}
