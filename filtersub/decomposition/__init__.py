"""A layer's kernel as ``coefficients x atoms``, and a whole model's: compute, save, load, go on, rebuild.

``F = alpha x D`` (Chen, Miao and Qiu, arXiv:2403.00269, equation 2), with alpha the atom coefficients (n_rows, n_atoms)
and D the filter atoms (n_atoms, d) of the kernel matrix that filtersub.kernels describes.
"""

from ..lazy import lazy_attributes
from ..setting_fields import CODES, EXPANSION_COEFFICIENTS, INITS, LEARNERS

_names, __getattr__, __dir__ = lazy_attributes(
    __name__,
    automatic=("AtomChoice", "choose_atoms"),
    expansion=("Level", "chained_atoms", "combine", "expand"),
    file=("ModelDecomposition",),
    layer=("decompose_weight",),
    model=("DecompositionInterrupted", "decompose_model", "sharing_table"),
    plan=("plan_layers",),
    recipe=("DecompositionConfig",),
    result=("Decomposition",),
)
__all__ = ["CODES", "EXPANSION_COEFFICIENTS", "INITS", "LEARNERS", *_names]
__all__.sort()
