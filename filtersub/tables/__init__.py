"""Records of tuning runs as the tables that the paper has or its readers asked for, and what these say in words."""

from .beside import beside_paper, paper_rows, paper_sentence
from .claims import claim_text, claims_sentence, claims_table
from .contrasts import change_sentence, changes, equal_counts, equal_pairs, equal_sentence
from .costs import (
    COSTS,
    cost_sentence,
    cost_table,
    measured_costs,
    optimiser_sentence,
    optimiser_table,
    size_sentence,
    size_table,
    steps_to_accuracy,
)
from .tasks import elsewhere_sentence, steps_elsewhere, task_accuracies, task_steps

__all__ = [
    "COSTS",
    "beside_paper",
    "change_sentence",
    "changes",
    "claim_text",
    "claims_sentence",
    "claims_table",
    "cost_sentence",
    "cost_table",
    "elsewhere_sentence",
    "equal_counts",
    "equal_pairs",
    "equal_sentence",
    "measured_costs",
    "optimiser_sentence",
    "optimiser_table",
    "paper_rows",
    "paper_sentence",
    "size_sentence",
    "size_table",
    "steps_elsewhere",
    "steps_to_accuracy",
    "task_accuracies",
    "task_steps",
]
