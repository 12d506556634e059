"""Sparse combinations of random unit-norm atoms, with noise."""

import numpy as np
from benchopt import BaseDataset


class Dataset(BaseDataset):
    name = "Simulated"
    requirements = ["numpy"]
    parameters = {"n_rows": [2000], "n_atoms": [9], "dim": [9]}
    test_parameters = {"n_rows": [20], "n_atoms": [6], "dim": [9]}

    def get_data(self):
        rng = np.random.default_rng(self.get_seed(use_repetition=True))
        atoms = rng.standard_normal((self.n_atoms, self.dim))
        atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
        codes = rng.standard_normal((self.n_rows, self.n_atoms)) * (rng.random((self.n_rows, self.n_atoms)) < 0.3)
        return {"rows": codes @ atoms + 0.05 * rng.standard_normal((self.n_rows, self.dim)), "atoms": atoms}
