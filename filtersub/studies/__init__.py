"""Questions about decomposition that a notebook asks, each from settings to a record with its tables.

``solvers`` (what each takes to the optimum), ``penalty`` (what l does), ``whole_model`` (what a model costs and keeps),
``attribution`` (where a tuned model looks), ``sharing`` (one dictionary for many layers), ``span`` (what atoms could
have learnt of full tuning), ``allotment`` (a budget layer by layer); ``tables`` reads them back and ``words`` says
what is in them.
"""

from ..lazy import lazy_attributes

_MODULES = {
    "accuracy_by_penalty": "penalty",
    "allotment_groups": "allotment",
    "allotment_pairs": "allotment",
    "allotment_sentence": "allotment",
    "allotment_study": "allotment",
    "attribution_sentence": "words",
    "attribution_study": "attribution",
    "choice_sentence": "words",
    "difference_table": "attribution",
    "model_sentence": "words",
    "model_study": "whole_model",
    "penalty_sentence": "words",
    "penalty_study": "penalty",
    "share_table": "attribution",
    "span_sentence": "span",
    "span_study": "span",
    "sharing_sentence": "sharing",
    "sharing_study": "sharing",
    "solver_sentence": "words",
    "solver_study": "solvers",
    "spread_sentence": "words",
    "storage_sentence": "words",
    "study_tables": "words",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
