"""Many small LASSO problems that share one dictionary of few atoms, as in decomposing the kernels of a network."""

import numpy as np
from benchopt import BaseObjective


class Objective(BaseObjective):
    """``1/2 ||rows - codes atoms||_F^2 + l ||codes||_1`` over codes (n, m), for rows (n, d) and atoms (m, d).

    l is ``reg`` times the median over the rows of the penalty from which on their codes are zero.
    """

    name = "Batched LASSO coding over a tiny dictionary"
    min_benchopt_version = "1.8"
    requirements = ["numpy"]
    parameters = {"reg": [0.1, 0.5]}
    test_config = {"dataset": {"name": "Simulated"}}

    def set_data(self, rows, atoms):
        self.rows, self.atoms = rows, atoms
        self.l1_penalty = self.reg * float(np.median(np.abs(rows @ atoms.T).max(axis=1)))

    def get_objective(self):
        return {"rows": self.rows, "atoms": self.atoms, "l1_penalty": self.l1_penalty}

    def evaluate_result(self, codes):
        """``kkt_violation``: the largest violation of the optimality conditions, over l."""
        residual = codes @ self.atoms - self.rows
        gradient = residual @ self.atoms.T
        on_support = np.abs(gradient + self.l1_penalty * np.sign(codes))
        off_support = np.maximum(np.abs(gradient) - self.l1_penalty, 0)
        violation = float(np.where(codes != 0, on_support, off_support).max())
        return {
            "value": float(0.5 * np.sum(residual**2) + self.l1_penalty * np.abs(codes).sum()),
            "kkt_violation": violation / self.l1_penalty,
            "density": float(np.mean(codes != 0)),
        }

    def get_one_result(self):
        return {"codes": np.zeros((len(self.rows), len(self.atoms)))}
