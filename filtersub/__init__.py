"""filtersub: decompose convolution kernels into filter atoms, tune only the atoms.

The public names are loaded when first used, so that ``import filtersub`` and the command line start at once. The method
is known to peft once FilterSubspaceConfig has been imported, or at once where peft was imported before.
"""

import sys

from .lazy import lazy_attributes

_MODULES = {
    "Decomposition": "decomposition",
    "DecompositionConfig": "decomposition",
    "FilterSubspaceConfig": "tuning",
    "FiltersubError": "errors",
    "ModelDecomposition": "decomposition",
    "choose_atoms": "decomposition",
    "count_parameters": "parameters",
    "decompose_model": "decomposition",
    "encode": "sparse_coding",
    "layer_table": "diagnostics",
    "learn_dictionary": "dictionary",
    "load_model": "models",
    "progress_bar": "progress",
    "sharing_table": "decomposition",
    "show_explorer": "explore_widgets",
    "tune": "experiment",
    "TuneSettings": "experiment",
}
__all__ = sorted(_MODULES)
__version__ = "0.1.0"
__getattr__, __dir__ = lazy_attributes(__name__, _MODULES)

if "peft" in sys.modules:
    from . import tuning  # noqa: F401 (registers the method)
