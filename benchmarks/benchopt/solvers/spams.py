"""spams: LARS in C++ (Mairal et al., JMLR 11, 2010)."""

import numpy as np
import spams
import torch
from benchopt import BaseSolver


class Solver(BaseSolver):
    name = "spams"
    requirements = ["pip::spams-bin", "pip::torch"]
    sampling_strategy = "run_once"

    def set_objective(self, rows, atoms, l1_penalty):
        self.signals, self.dictionary = np.asfortranarray(rows.T), np.asfortranarray(atoms.T)
        self.l1_penalty = l1_penalty

    def run(self, _):
        # spams sets the threads of the whole process, those of torch too: the number stays what it is
        settings = {"lambda1": self.l1_penalty, "mode": 2, "numThreads": torch.get_num_threads()}
        self.codes = spams.lasso(self.signals, self.dictionary, **settings)

    def get_result(self):
        return {"codes": self.codes.toarray().T}
