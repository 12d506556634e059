"""Figures from tidy tables, and nothing but figures: no training, no state left in matplotlib.

Each function takes a table and returns a Figure of its own (never one of pyplot's); ``figure_html`` turns it into an
inline SVG with a description for those who cannot see it, and ``show`` displays that in a notebook.
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    codes=("atom_usage", "spectrum", "support_histogram", "supports"),
    contrasts=("allotted_layers", "effects", "equal_accuracies", "setting_grid", "task_accuracies", "task_steps"),
    costs=("accuracy_vs_costs", "accuracy_vs_images", "accuracy_vs_steps", "parameter_landscape", "sharing_errors"),
    decomposition=("atom_changes", "atoms_grid", "chosen_atoms", "convergence", "error_vs_atoms"),
    figure=("figure_html", "show"),
    layers=("coherence", "energies", "kernel_errors", "layer_costs", "layer_errors", "level_errors", "storage_formats"),
    looks=("exploration", "kernel_codes"),
    runs=("accuracy_vs_parameters", "confusion", "learning_curves"),
    studies=(
        *("activation_maps", "active_shares", "network_vs_atoms", "penalty_path", "solver_gaps"),
        *("span_layers", "span_shares"),
    ),
    style=(
        *("families_style", "kernel_name", "lighter_colour", "metric_words", "settings_style", "short_count"),
        "text_colour",
    ),
)
