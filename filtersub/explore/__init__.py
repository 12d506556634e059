"""Looking around in JupyterLab: a layer decomposed while a slider moves, two settings side by side, finished results.

A look is quick because it is a sketch: the atoms are learned on a sample of the layer's kernels, in few rounds, from
the atoms of the look before. For every solver of the LASSO the exact one learns the atoms, and the named one codes the
sample over them. Errors and densities are those of the sample; ``every_kernel`` decomposes the layer in full.
filtersub.explore_widgets shows it all.
"""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    explorer=("Explorer", "SAMPLE_ROWS", "explorer_of"),
    figures=("comparison_html", "export_html", "kernel_html", "look_figure", "look_html"),
    look=("Look", "comparison"),
    tuning_runs=("explorers_of_run",),
)
