"""Learns atoms: a start, codes and atom updates in turn until the objective settles, a canonical form.

``learn_dictionary(rows, n_atoms, solver=..., learner=..., init=...)`` does all of it.
"""

from __future__ import annotations

from .alternate import MAX_ROUNDS, TOL, update_atoms
from .learn import LEARNERS, learn_dictionary
from .result import DictionaryResult
from .starts import INITS

__all__ = ["INITS", "LEARNERS", "MAX_ROUNDS", "TOL", "DictionaryResult", "learn_dictionary", "update_atoms"]
