"""Closed formulas of the method: which tensors a layer trains and stores, from its layout and the recipe alone.

Per layer, with m atoms of d entries (m p q of p q k^2 in blocks; Chen, Miao and Qiu, arXiv:2403.00269, section 4):

    no expansion            dD           m d
    m_1, shared             d-alpha_1    m m_1            dD_1   m m_1 d
    m_1, per channel        d-alpha_1    c' m m_1         dD_1   m m_1 d      c' input channels of a group (or blocks)
    deeper (m_1, ..., m_n)  d-alpha_i    m m_1 ... m_i    dD_n   m m_1 ... m_n d
    frozen in all of them   alpha        n_rows m         n_rows = c c' / (p q)

Only spatial kernels are expanded (the paper's setting 4 leaves D_c of 1x1 kernels and linear layers as it is).
"""

from __future__ import annotations

from math import prod

from ..decomposition import DecompositionConfig
from ..kernels import KernelLayout


def trained_shapes(layout: KernelLayout, recipe: DecompositionConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of what is trained in one layer, by name.

    >>> trained_shapes(KernelLayout("conv", "conv2d", (64, 32, 3, 3)), DecompositionConfig(expansion=4))
    {'alpha_1': (9, 4), 'atoms': (9, 4, 9)}
    """
    sizes = expansion_of(layout, recipe)
    n_atoms, d = recipe.n_atoms(layout), layout.patch_size
    shapes: dict[str, tuple[int, ...]] = {}
    for level in range(1, len(sizes) + 1):
        per_channel = level == 1 and recipe.expansion_coefficients == "per-channel"
        own = (layout.input_channels,) if per_channel else ()
        shapes[f"alpha_{level}"] = (*own, n_atoms, *sizes[:level])
    shapes["atoms"] = (n_atoms, *sizes, d)
    return shapes


def expansion_of(layout: KernelLayout, recipe: DecompositionConfig) -> tuple[int, ...]:
    """(m_1, m_2, ...) of a layer; empty where it is not expanded."""
    return recipe.expansion_sizes if layout.is_spatial else ()


def trained(layout: KernelLayout, recipe: DecompositionConfig) -> int:
    """Trained parameters of one layer."""
    return sum(prod(shape) for shape in trained_shapes(layout, recipe).values())


def coefficients(layout: KernelLayout, recipe: DecompositionConfig) -> int:
    """Entries of the frozen alpha of one layer, n_rows x n_atoms."""
    return layout.n_rows * recipe.n_atoms(layout)


def has_linear_codes(recipe: DecompositionConfig) -> bool:
    """Whether alpha = F V is a linear map of the kernels, so that V (d, m) can stand for it."""
    return recipe.code_kind == "linear"
