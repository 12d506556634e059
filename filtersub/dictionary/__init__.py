"""Learns atoms: a start, codes and atom updates in turn until the objective settles, a canonical form.

``learn_dictionary(rows, n_atoms, solver=..., learner=..., init=...)`` does all of it.
"""

from ..setting_fields import INITS, LEARNERS, MAX_ROUNDS, TOL
from .alternate import update_atoms
from .learn import learn_dictionary
from .result import DictionaryResult

__all__ = ["INITS", "LEARNERS", "MAX_ROUNDS", "TOL", "DictionaryResult", "learn_dictionary", "update_atoms"]
