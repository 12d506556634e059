"""Looking around in JupyterLab: a layer decomposed while a slider moves, two settings side by side, finished results.

A look is quick because it is a sketch: the atoms are learned on a sample of the layer's kernels, in few rounds, from
the atoms of the look before. Errors and densities are those of the sample; ``every_kernel`` decomposes the layer in
full. filtersub.explore_widgets shows it all.
"""

from ..lazy import lazy_attributes

_MODULES = {
    "Explorer": "explorer",
    "Look": "look",
    "SAMPLE_ROWS": "explorer",
    "comparison": "look",
    "comparison_html": "figures",
    "explorer_of": "results",
    "explorers_of_run": "results",
    "export_html": "figures",
    "kernel_html": "figures",
    "look_figure": "figures",
    "look_html": "figures",
}
__all__ = sorted(_MODULES)
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)
