"""A layer's kernel as ``coefficients x atoms``, and a whole model's: compute, save, load, go on, rebuild.

``F = alpha x D`` (Chen, Miao and Qiu, arXiv:2403.00269, equation 2), with alpha the atom coefficients (n_rows, n_atoms)
and D the filter atoms (n_atoms, d) of the kernel matrix that filtersub.kernels describes.
"""

from ..setting_fields import CODES, EXPANSION_COEFFICIENTS, INITS, LEARNERS
from .automatic import AtomChoice, choose_atoms
from .expansion import Level, chained_atoms, combine, expand
from .file import ModelDecomposition
from .layer import decompose_weight
from .model import DecompositionInterrupted, decompose_model
from .plan import plan_layers
from .recipe import DecompositionConfig
from .result import Decomposition
from .shared import sharing_table

__all__ = [
    "CODES",
    "EXPANSION_COEFFICIENTS",
    "INITS",
    "LEARNERS",
    "AtomChoice",
    "Decomposition",
    "DecompositionConfig",
    "DecompositionInterrupted",
    "Level",
    "ModelDecomposition",
    "chained_atoms",
    "choose_atoms",
    "combine",
    "decompose_model",
    "decompose_weight",
    "expand",
    "plan_layers",
    "sharing_table",
]
