"""filtersub: decompose convolution kernels into filter atoms, tune only the atoms.

The public names are loaded when first used, so that ``import filtersub`` and the command line start at once. The method
is known to peft once FilterSubspaceConfig has been imported, or at once where peft was imported before.
"""

import sys

from .lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    decomposition=(
        "Decomposition",
        "DecompositionConfig",
        "ModelDecomposition",
        "choose_atoms",
        "decompose_model",
        "sharing_table",
    ),
    diagnostics=("layer_table",),
    dictionary=("learn_dictionary",),
    errors=("FiltersubError",),
    experiment=("TuneSettings", "tune"),
    explore_widgets=("show_explorer",),
    models=("load_model",),
    parameters=("count_parameters",),
    progress=("progress_bar",),
    sparse_coding=("encode",),
    tuning=("FilterSubspaceConfig",),
)
__version__ = "0.1.0"

if "peft" in sys.modules:
    from . import tuning  # noqa: F401 (registers the method)
