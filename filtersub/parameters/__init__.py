"""How many parameters a setting trains and what it costs, from layer shapes alone: no weights, no decomposition.

Every formula equals the ``numel`` of the really injected model (tests/test_parameters.py, over many architectures).
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    allotment=("Allotment", "allot"),
    architectures=("architecture", "load_architecture"),
    baselines=("METHODS", "BaselineOptions"),
    budget=("Suggestion", "parse_budget", "suggest_settings", "suggestions_table"),
    cost=("Cost", "count_cost"),
    counting=("compare_methods", "comparison_table", "count_parameters", "count_trained"),
    criterion=("GradientEnergy",),
    readings=("PRESETS", "compute", "readings_table"),
    result=("LayerCount", "ParameterCount"),
)
