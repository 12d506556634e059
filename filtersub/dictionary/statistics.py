"""What an atom update needs to know of the codes, and what a round of coding returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """``gram`` = C^T C (n_atoms, n_atoms) and ``target`` = C^T rows (n_atoms, d), float64, with the objective.

    They determine the best atoms for these codes; no pass over the residuals is needed (Mairal, Bach, Ponce and
    Sapiro, JMLR 11, 2010). The objective is that of the codes and of the atoms they were made for, ``energy`` is
    ``1/2 ||rows||_F^2``; both are sums over rows.
    """

    gram: np.ndarray
    target: np.ndarray
    objective: float
    energy: float
