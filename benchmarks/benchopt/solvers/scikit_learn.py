"""scikit-learn: coordinate descent, all rows as targets of one fit, on one thread."""

import warnings

import numpy as np
from benchopt import BaseSolver
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso


class Solver(BaseSolver):
    name = "scikit-learn"
    requirements = ["scikit-learn"]
    sampling_strategy = "tolerance"

    def set_objective(self, rows, atoms, l1_penalty):
        self.rows, self.dictionary = rows, np.asfortranarray(atoms.T)
        self.penalty = l1_penalty / rows.shape[1]  # scikit-learn divides the squared error by d
        warnings.filterwarnings("ignore", category=ConvergenceWarning)

    def run(self, tol):
        model = Lasso(alpha=self.penalty, fit_intercept=False, tol=tol, max_iter=100_000)
        self.codes = np.atleast_2d(model.fit(self.dictionary, self.rows.T).coef_)

    def get_result(self):
        return {"codes": self.codes}
