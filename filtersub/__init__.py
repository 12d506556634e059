"""filtersub: decompose convolution kernels into filter atoms, tune only the atoms.

The public names are loaded when first used, so that ``import filtersub`` and the command line start at once.
"""

from importlib import import_module
from typing import Any

_HOME = {
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
    "tune": "experiment",
    "TuneSettings": "experiment",
}
__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'filtersub' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
