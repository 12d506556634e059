"""Questions about decomposition that a notebook asks, each from settings to a record with its tables.

``solvers`` (what each takes to the optimum), ``penalty`` (what l does), ``whole_model`` (what a model costs and keeps),
``attribution`` (where a tuned model looks), ``sharing`` (one dictionary for many layers), ``span`` (what atoms could
have learnt of full tuning), ``allotment`` (a budget layer by layer). ``words`` says what is in their tables, and
imports nothing that trains.
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    allotment=("allotment_study",),
    attribution=("attribution_study", "difference_table", "share_table"),
    penalty=("accuracy_by_penalty", "penalty_study"),
    sharing=("sharing_study",),
    solvers=("solver_study",),
    span=("span_study",),
    whole_model=("model_study",),
    words=(
        "allotment_groups",
        "allotment_pairs",
        "allotment_sentence",
        "attribution_sentence",
        "choice_sentence",
        "model_sentence",
        "penalty_sentence",
        "sharing_sentence",
        "solver_sentence",
        "span_sentence",
        "spread_sentence",
        "storage_sentence",
        "study_tables",
    ),
)
