"""Figures from tidy tables, and nothing but figures: no training, no state left in matplotlib.

Each function takes a table and returns a Figure of its own (never one of pyplot's); ``figure_html`` turns it into an
inline SVG with a description for those who cannot see it, and ``show`` displays that in a notebook.
"""

from ..lazy import lazy_attributes

_MODULES = {
    "accuracy_vs_costs": "costs",
    "accuracy_vs_images": "costs",
    "accuracy_vs_parameters": "runs",
    "accuracy_vs_steps": "costs",
    "activation_maps": "attribution",
    "active_shares": "attribution",
    "allotted_layers": "contrasts",
    "atom_changes": "decomposition",
    "atom_usage": "codes",
    "atoms_grid": "decomposition",
    "chosen_atoms": "decomposition",
    "coherence": "layers",
    "confusion": "runs",
    "convergence": "decomposition",
    "effects": "contrasts",
    "energies": "layers",
    "equal_accuracies": "contrasts",
    "error_vs_atoms": "decomposition",
    "exploration": "looks",
    "families_style": "style",
    "figure_html": "page",
    "kernel_codes": "looks",
    "kernel_errors": "layers",
    "kernel_name": "style",
    "layer_costs": "layers",
    "layer_errors": "layers",
    "learning_curves": "runs",
    "level_errors": "layers",
    "lighter_colour": "style",
    "network_vs_atoms": "studies",
    "penalty_path": "studies",
    "setting_grid": "contrasts",
    "settings_style": "style",
    "sharing_errors": "costs",
    "short_count": "style",
    "show": "page",
    "solver_gaps": "studies",
    "span_layers": "studies",
    "span_shares": "studies",
    "spectrum": "codes",
    "storage_formats": "layers",
    "support_histogram": "codes",
    "supports": "codes",
    "task_accuracies": "contrasts",
    "task_steps": "contrasts",
    "text_colour": "style",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
