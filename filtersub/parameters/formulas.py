"""Closed formulas of the method: which tensors a layer trains and stores, from its layout and the recipe alone.

Per layer, with m atoms of d entries (m p q of p q k^2 in blocks; Chen, Miao and Qiu, arXiv:2403.00269, section 4):

    no expansion            dD           m d
    m_1, shared             d-alpha_1    m m_1            dD_1   m m_1 d
    m_1, per channel        d-alpha_1    c' m m_1         dD_1   m m_1 d      c' input channels of a group (or blocks)
    deeper (m_1, ..., m_n)  d-alpha_i    m m_1 ... m_i    dD_n   m m_1 ... m_n d
    alpha in blocks         dD_c         (m p q)^2        beside the above; D_c has m p q atoms of p m q entries
    frozen in all of them   alpha        n_rows m         n_rows = c c' / (p q)

Spatial kernels alone are expanded (the text's setting 4 leaves D_c of 1x1 kernels and linear layers as it is), unless
``expansion_layers`` is "all". ``limit_atoms`` keeps m p q within the layer's rows, and within d for linear codes.
"""

from math import prod

from ..decomposition.recipe import DecompositionConfig
from ..kernel_layout import KernelLayout


def trained_shapes(layout: KernelLayout, recipe: DecompositionConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of what is trained in one layer, by name.

    >>> trained_shapes(KernelLayout("conv", "conv2d", (64, 32, 3, 3)), DecompositionConfig(expansion=4))
    {'alpha_1': (9, 4), 'atoms': (9, 4, 9)}
    """
    sizes = recipe.expansion_of(layout)
    n_atoms, d = recipe.n_atoms(layout), layout.patch_size
    shapes: dict[str, tuple[int, ...]] = {}
    for level in range(1, len(sizes) + 1):
        per_channel = level == 1 and recipe.expansion_coefficients == "per-channel"
        own = (layout.input_channels,) if per_channel else ()
        shapes[f"alpha_{level}"] = (*own, n_atoms, *sizes[:level])
    shapes["atoms"] = (n_atoms, *sizes, d)
    blocked = recipe.coefficient_part(layout)
    if blocked is not None:
        of_alpha, its_recipe = blocked
        shapes["block_atoms"] = (its_recipe.n_atoms(of_alpha), of_alpha.patch_size)
    return shapes


def trained(layout: KernelLayout, recipe: DecompositionConfig) -> int:
    """Trained parameters of one layer."""
    return sum(prod(shape) for shape in trained_shapes(layout, recipe).values())


def coefficients(layout: KernelLayout, recipe: DecompositionConfig) -> int:
    """Entries of the frozen alpha of one layer, n_rows x n_atoms, and of alpha_c where alpha is blocked."""
    blocked = recipe.coefficient_part(layout)
    of_alpha = 0 if blocked is None else coefficients(*blocked)
    return layout.n_rows * recipe.n_atoms(layout) + of_alpha
