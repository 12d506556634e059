"""celer: coordinate descent with working sets and dual extrapolation (Massias et al., ICML 2018), row by row."""

import warnings

import numpy as np
from benchopt import BaseSolver
from celer import Lasso
from sklearn.exceptions import ConvergenceWarning


class Solver(BaseSolver):
    name = "celer"
    requirements = ["pip::celer"]
    sampling_strategy = "tolerance"

    def set_objective(self, rows, atoms, l1_penalty):
        self.rows, self.dictionary = rows, np.asfortranarray(atoms.T)
        self.penalty = l1_penalty / rows.shape[1]  # celer divides the squared error by d
        warnings.filterwarnings("ignore", category=ConvergenceWarning)

    def run(self, tol):
        model = Lasso(alpha=self.penalty, fit_intercept=False, tol=tol)
        self.codes = np.stack([model.fit(self.dictionary, row).coef_ for row in self.rows])

    def get_result(self):
        return {"codes": self.codes}
