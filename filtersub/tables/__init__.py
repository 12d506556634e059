"""Records of tuning runs as the tables that the paper has or its readers asked for, and what these say in words."""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    beside=("beside_paper", "claim_text", "claims_sentence", "claims_table", "paper_rows", "paper_sentence"),
    contrasts=("change_sentence", "changes", "equal_counts", "equal_pairs", "equal_sentence"),
    costs=(
        "COSTS",
        "cost_sentence",
        "cost_table",
        "measured_costs",
        "optimiser_sentence",
        "optimiser_table",
        "size_sentence",
        "size_table",
        "steps_to_accuracy",
    ),
    tasks=("elsewhere_sentence", "steps_elsewhere", "task_accuracies", "task_steps"),
)
