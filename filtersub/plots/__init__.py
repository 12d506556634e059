"""Figures from tidy tables, and nothing but figures: no training, no state left in matplotlib.

Each function takes a table and returns a Figure of its own (never one of pyplot's); ``figure_html`` turns it into an
inline SVG with a description for those who cannot see it, and ``show`` displays that in a notebook.
"""

from .attribution import activation_maps, active_shares
from .changes import atom_changes
from .codes import atom_usage, spectrum, support_histogram, supports
from .costs import accuracy_vs_costs, accuracy_vs_images, accuracy_vs_steps, sharing_errors
from .decomposition import atoms_grid, chosen_atoms, convergence, error_vs_atoms
from .effects import effects
from .equal import allotted_layers, equal_accuracies
from .exploration import exploration
from .grids import setting_grid
from .layers import coherence, energies, kernel_errors, layer_costs, layer_errors, level_errors, storage_formats
from .page import figure_html, show
from .runs import accuracy_vs_parameters, confusion, learning_curves
from .span import span_layers, span_shares
from .studies import network_vs_atoms, penalty_path, solver_gaps
from .style import families_style, kernel_name, lighter_colour, settings_style, short_count, text_colour

__all__ = [
    "accuracy_vs_costs",
    "accuracy_vs_images",
    "accuracy_vs_parameters",
    "accuracy_vs_steps",
    "activation_maps",
    "active_shares",
    "allotted_layers",
    "atom_changes",
    "atom_usage",
    "atoms_grid",
    "chosen_atoms",
    "coherence",
    "confusion",
    "convergence",
    "effects",
    "energies",
    "equal_accuracies",
    "error_vs_atoms",
    "exploration",
    "families_style",
    "figure_html",
    "kernel_errors",
    "kernel_name",
    "layer_costs",
    "layer_errors",
    "learning_curves",
    "level_errors",
    "lighter_colour",
    "network_vs_atoms",
    "penalty_path",
    "setting_grid",
    "settings_style",
    "sharing_errors",
    "short_count",
    "show",
    "solver_gaps",
    "span_layers",
    "span_shares",
    "spectrum",
    "storage_formats",
    "support_histogram",
    "supports",
    "text_colour",
]
