"""The paper's two-step forms of settings 1 to 4, in both readings, by hand in float64: forward and gradients.

Maps lie channel by channel, atom by atom within a channel: map i m + j is input channel i with atom j, so alpha is read
as (c, c', m), not (c, m, c').
"""

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.nn.functional import conv2d

from filtersub.tuning import FilterSubspaceConfig

LAYERS = {
    "plain": lambda: nn.Conv2d(8, 12, 3, padding=1),
    "strided": lambda: nn.Conv2d(8, 12, 3, stride=2, padding=2, dilation=2),
    "grouped": lambda: nn.Conv2d(8, 12, 3, groups=2),
    "not square": lambda: nn.Conv2d(4, 8, (3, 1), padding=(1, 0)),
    "1x1": lambda: nn.Conv2d(8, 12, 1, bias=False),
    "1x1 strided": lambda: nn.Conv2d(8, 12, 1, stride=2),
    "linear": lambda: nn.Linear(8, 12),
}
PER_CHANNEL = {"expansion_coefficients": "per-channel"}
EVERY_LAYER = {**PER_CHANNEL, "expansion_layers": "all"}
SETTINGS = {
    "1": {"block": 1},
    "1, atoms without limits": {"block": 1, "atoms": 11, "limit_atoms": False, "solver": "pca"},
    "2, shared": {"block": 1, "expansion": 3, "expansion_layers": "all"},
    "2, per channel": {"block": 1, "expansion": 3, **EVERY_LAYER},
    "2, two levels": {"block": 1, "expansion": (2, 3), **EVERY_LAYER},
    "3, text": {"block": 2},
    "3, blocks on every layer": {"block": (4, 2), "block_spatial": True},
    "4, text": {"block": 2, "expansion": 3},
    "4, text, per channel": {"block": 2, "expansion": 3, **PER_CHANNEL},
    "4, expanded in blocks": {"block": (4, 2), "block_spatial": True, "expansion": 3, **EVERY_LAYER},
    "4, authors": {"block": 2, "block_coefficients": True, "expansion": 3, **EVERY_LAYER},
    "4, authors, shared": {"block": (2, 4), "block_coefficients": True, "expansion": 3, "expansion_layers": "all"},
    "3, blocks of alpha": {"block": 4, "block_coefficients": True},
}  # fmt: skip


def tuned(layer, **options):
    """The tuner layer around a float64 layer, what it trains moved off its start."""
    options = {"atoms": 3, "solver": "random", "hold_coefficients": True, **options}
    model = get_peft_model(nn.Sequential(layer).double(), FilterSubspaceConfig(target_modules=["0"], **options))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model.base_model.model[0]


def as_convolution(layer):
    """(weight (c, c', k, k), options of conv2d); a linear layer is a 1x1 convolution of images of one pixel."""
    if isinstance(layer, nn.Linear):
        return layer.weight.detach()[:, :, None, None], {}
    names = ("stride", "padding", "dilation", "groups")
    return layer.weight.detach(), {name: getattr(layer, name) for name in names}


def each_channel_with_each_atom(x, atoms, inputs, options):
    """D * X: atoms (c', m, k, k) of each input channel of a group; maps (n, c' m, h, w), the atom running fastest."""
    n_atoms, groups = atoms.shape[1], x.shape[1] // inputs
    kernels = atoms.repeat(groups, 1, 1, 1).reshape(x.shape[1] * n_atoms, 1, *atoms.shape[2:])
    return conv2d(x, kernels, **{**options, "groups": x.shape[1]})


def summed_by_alpha(maps, alpha, groups):
    """alpha x Z': a 1x1 convolution, alpha (c, c', m)."""
    return conv2d(maps, alpha.flatten(1)[:, :, None, None], groups=groups)


def blocks_by_reshaping(x, alpha, atoms, options):
    """alpha_c (c / p, c' / q, m_c) and D_c (m_c, p, k, k, q): blocks of q channels with each atom, then their sum."""
    m_c, p, *kernel, q = atoms.shape
    blocks, groups = x.shape[1] // q, options.get("groups", 1)
    kernels = atoms.permute(0, 1, 4, 2, 3).reshape(m_c * p, q, *kernel).repeat(blocks, 1, 1, 1)
    maps = conv2d(x, kernels, **{**options, "groups": blocks}).unflatten(1, (groups, -1, m_c, p))
    out = torch.einsum("goim,ngimphw->ngophw", alpha.unflatten(0, (groups, -1)), maps)
    return out.flatten(1, 3)


def two_steps(tuner, x):
    """The layer's output by the paper's steps, from what the tuner holds and trains; x (n, c', h, w)."""
    base, layout = tuner.get_base_layer(), tuner.layouts["default"]
    weight, options = as_convolution(base)
    (outs, inputs), (p, q), kernel = weight.shape[:2], layout.block, weight.shape[2:]
    atoms = tuner.filtersub_atoms["default"]
    alpha = tuner.coefficients("default").reshape(outs // p, inputs // q, -1)
    m = alpha.shape[2]
    levels = list(tuner.filtersub_expansion["default"]) if "default" in tuner.filtersub_expansion else []
    before = conv2d(x, weight, **options)
    if (p, q) != (1, 1):
        if len(levels) == 1:  # the atoms of a block, or of each block of input channels, out of those below
            if levels[0].ndim == 2:
                atoms = sum(levels[0][:, j, None] * atoms[:, j] for j in range(atoms.shape[1]))
            else:
                own = [sum(one[:, j, None] * atoms[:, j] for j in range(atoms.shape[1])) for one in levels[0]]
                weights = [one.reshape(m, p, *kernel, q) for one in own]
                return before + own_atoms_in_blocks(x, alpha, weights, options)
        return before + blocks_by_reshaping(x, alpha, atoms.reshape(m, p, *kernel, q), options)
    maps = z_prime(x, atoms, levels, inputs, m, kernel, options)
    if "default" not in tuner.filtersub_block_atoms:
        return before + summed_by_alpha(maps, alpha, options.get("groups", 1))
    dictionary = tuner.filtersub_dictionary["default"].reshape(m, *kernel).expand(inputs, m, *kernel)
    of_dictionary = each_channel_with_each_atom(x, dictionary, inputs, options)
    moved = alpha + moved_coefficients(tuner, outs, inputs, m)
    groups = options.get("groups", 1)
    changed = summed_by_alpha(of_dictionary + maps, moved, groups) - summed_by_alpha(of_dictionary, alpha, groups)
    return before + changed


def z_prime(x, atoms, levels, inputs, m, kernel, options):
    """Z' (n, c' m, h, w): the finest atoms with every input channel, then alpha_2 and alpha_1 as grouped 1x1."""
    finest = atoms.reshape(-1, *kernel)
    maps = each_channel_with_each_atom(x, finest.expand(inputs, *finest.shape), inputs, options)
    for coefficients in reversed(levels):
        flat = coefficients.flatten(0, -2)
        times = maps.shape[1] // flat.numel()  # of all channels where alpha_1 is shared, else of the groups
        maps = conv2d(maps, flat.repeat(times, 1)[:, :, None, None], groups=times * len(flat))
    return maps


def moved_coefficients(tuner, outs, inputs, m):
    """alpha_c x dD_c as (c, c', m): block (o', i') of alpha is the sum over D_c's atoms (p, m, q)."""
    codes = tuner.filtersub_block_coefficients["default"]  # (c / p, m_c, c' / q)
    p, q = outs // codes.shape[0], inputs // codes.shape[2]
    atoms = tuner.filtersub_block_atoms["default"].reshape(-1, p, m, q)
    return torch.einsum("oai,apmq->opiqm", codes, atoms).reshape(outs, inputs, m)


def own_atoms_in_blocks(x, alpha, own, options):
    """blocks_by_reshaping with atoms of each block of input channels of a group."""
    groups, q = options.get("groups", 1), own[0].shape[-1]
    total = 0
    for i, atoms in enumerate(own):
        of_group = alpha.shape[1] * q
        channels = [g * of_group + i * q + c for g in range(groups) for c in range(q)]
        total = total + blocks_by_reshaping(x[:, channels], alpha[:, i : i + 1], atoms, options)
    return total


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_two_step_form(kind, setting):
    torch.manual_seed(0)
    tuner = tuned(LAYERS[kind](), **SETTINGS[setting])
    base = tuner.get_base_layer()
    is_linear = isinstance(base, nn.Linear)
    x = torch.randn((5, 8) if is_linear else (2, base.in_channels, 9, 8), dtype=torch.float64, requires_grad=True)
    trained = [p for p in tuner.parameters() if p.requires_grad]
    ours = tuner(x)
    theirs = two_steps(tuner, x[:, :, None, None] if is_linear else x)
    theirs = theirs.flatten(1) if is_linear else theirs
    if base.bias is not None:
        theirs = theirs + (base.bias if is_linear else base.bias[:, None, None])
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
    probe = torch.randn_like(ours)
    gradients = [torch.autograd.grad((out * probe).sum(), [x, *trained]) for out in (ours, theirs)]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-9, rtol=1e-9)
        assert bool(other.any())
