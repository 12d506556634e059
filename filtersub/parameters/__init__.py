"""How many parameters a setting trains and what it costs, from layer shapes alone: no weights, no decomposition.

Every formula equals the ``numel`` of the really injected model (tests/test_parameters.py, over many architectures).
"""

from .allotment import Allotment, allot
from .architectures import load_architecture
from .baselines import BaselineOptions
from .budget import Suggestion, parse_budget, suggest_settings, suggestions_table
from .cost import Cost, count_cost
from .counting import METHODS, compare_methods, comparison_table, count_parameters, count_trained
from .criterion import GradientEnergy
from .readings import PRESETS, compute, readings_table
from .result import LayerCount, ParameterCount

__all__ = [
    "METHODS",
    "PRESETS",
    "Allotment",
    "BaselineOptions",
    "Cost",
    "GradientEnergy",
    "LayerCount",
    "ParameterCount",
    "Suggestion",
    "allot",
    "compare_methods",
    "comparison_table",
    "compute",
    "count_cost",
    "count_parameters",
    "count_trained",
    "load_architecture",
    "parse_budget",
    "readings_table",
    "suggest_settings",
    "suggestions_table",
]
