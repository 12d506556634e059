"""Questions about decomposition that a notebook asks, each from settings to a record with its tables.

``solvers`` (what each takes to the optimum), ``penalty`` (what l does), ``whole_model`` (what a model costs and keeps),
``attribution`` (where a tuned model looks), ``sharing`` (one dictionary for many layers); ``tables`` reads them back
and ``words`` says what is in them.
"""

from .attribution import attribution_study, difference_table, share_table
from .penalty import accuracy_by_penalty, penalty_study
from .sharing import sharing_sentence, sharing_study
from .solvers import solver_study
from .tables import study_tables
from .whole_model import model_study
from .words import (
    attribution_sentence,
    choice_sentence,
    model_sentence,
    penalty_sentence,
    solver_sentence,
    spread_sentence,
    storage_sentence,
)

__all__ = [
    "accuracy_by_penalty",
    "attribution_sentence",
    "attribution_study",
    "choice_sentence",
    "difference_table",
    "model_sentence",
    "model_study",
    "penalty_sentence",
    "penalty_study",
    "share_table",
    "sharing_sentence",
    "sharing_study",
    "solver_sentence",
    "solver_study",
    "spread_sentence",
    "storage_sentence",
    "study_tables",
]
