"""What the paper prints (Chen, Miao and Qiu, arXiv:2403.00269), as data, and when a run may stand beside it."""

from .printed import Claim, figure4_claims, printed_accuracy, printed_means
from .task import RECIPES, differing_settings, printed_method, same_task

__all__ = [
    "RECIPES",
    "Claim",
    "differing_settings",
    "figure4_claims",
    "printed_accuracy",
    "printed_means",
    "printed_method",
    "same_task",
]
