"""How the coefficients of expanded atoms start; the atoms themselves start at zero."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from ..decomposition import DecompositionConfig
from ..kernels import KernelLayout


def start_of_expansion(
    layout: KernelLayout, recipe: DecompositionConfig, init: str, scale: float, generator: torch.Generator
) -> list[Tensor]:
    """d-alpha_1, d-alpha_2, ... of a layer, float32, of shapes (m, m_1), (m, m_1, m_2), ...; d-alpha_1 per channel:
    (c', m, m_1).

    init : "uniform": Kaiming uniform (He et al., arXiv:1502.01852) whose fan-in is the m_l summands, of standard
        deviation sqrt(2 / m_l). "fan-in-normal", that of the authors' code: Kaiming normal with a = sqrt(5) over the
        c' m m_1 ... m_l maps that the two-step form sums, of standard deviation 1 / sqrt(3 m m_1 ... m_l c')
    scale : a factor on either
    """
    n_atoms, sizes = recipe.n_atoms(layout), recipe.expansion_of(layout)
    drawn = []
    for level in range(1, len(sizes) + 1):
        own = (layout.input_channels,) if level == 1 and recipe.expansion_coefficients == "per-channel" else ()
        shape = (*own, n_atoms, *sizes[:level])
        values = torch.empty(shape).reshape(-1, shape[-1])
        if init == "uniform":
            nn.init.kaiming_uniform_(values, generator=generator)
        else:
            maps = layout.input_channels * n_atoms * prod(sizes[:level])
            values.normal_(0.0, (3 * maps) ** -0.5, generator=generator)
        drawn.append(values.mul_(scale).reshape(shape))
    return drawn
