"""What a setting costs beside its trained parameters: memory, files, arithmetic. A multiply-add is 2 FLOPs.

Per layer, with n_rows patches of d = p q k^2 entries and m atoms (M = m m_1 ... m_n where atoms are expanded):

    forming alpha x dD               2 n_rows m d      a step, whatever the batch; the gradient of dD as much again
    forming (alpha_c x dD_c) x D     2 m_c (p m q) d + 2 n_rows m_c d      dD_c with D first, then alpha_c with both
    convolution with F + alpha x dD  2 numel(F)        an output position
    the paper's two steps            2 (c_in M p k^2 + sums + n_rows m p)   an output position: D * X, then alpha
    after merging                    0                 the weight is a plain weight again
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..decomposition import DecompositionConfig
from ..decomposition.recipe import recipe_of
from ..errors import FiltersubError, reason
from ..kernels import KernelLayout, layout_of, named_layers
from ..settings import MOST_PIXELS, check_kind, check_whole
from .result import ADAM_STATES, BYTES, ParameterCount


@dataclass(frozen=True)
class LayerFlops:
    """FLOPs of one layer: of the update a step, of the two forms of the convolution an image."""

    update: int
    update_gradient: int
    one_step: int
    two_step: int


@dataclass(frozen=True)
class Cost:
    """Of a whole model and setting.

    Attributes
    ----------
    trained : parameters with a gradient, head included
    stored_coefficients : entries of alpha that are held while training; with linear codes those of V (d, m) would do
    linear_code_entries : entries of V where the codes are linear, else None
    coefficient_bytes, gradient_bytes, optimizer_bytes : float32; Adam holds two numbers a parameter
    adapter_bytes : the trained parameters as float32, what a saved adapter holds without coefficients
    update_flops, update_gradient_flops : extra arithmetic of one training step, whatever the batch
    one_step_flops, two_step_flops : convolutions of the layers that take part, an image; None without an image size
    merged_flops : extra arithmetic after merging, none
    """

    trained: int
    stored_coefficients: int
    linear_code_entries: int | None
    coefficient_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    adapter_bytes: int
    update_flops: int
    update_gradient_flops: int
    one_step_flops: int | None
    two_step_flops: int | None
    merged_flops: int = 0

    def to_json(self) -> dict[str, int | None]:
        return asdict(self)


def layer_flops(layout: KernelLayout, recipe: DecompositionConfig, positions: tuple[int, int] = (1, 1)) -> LayerFlops:
    """FLOPs of one layer; ``positions`` are its input and output positions an image (height x width, or tokens)."""
    m, (p, q) = recipe.n_atoms(layout), layout.block
    rows, d, area = layout.n_rows, layout.patch_size, prod(layout.kernel_size)
    sizes, c_in = recipe.expansion_of(layout), layout.channels[1] * layout.groups
    own_atoms = layout.input_channels if sizes and recipe.expansion_coefficients == "per-channel" else 1
    levels = [prod((m, *sizes[:level])) for level in range(1, len(sizes) + 1)]  # products that each level sums over
    update = 2 * rows * m * d + 2 * own_atoms * sum(levels) * d
    gradient = 2 * rows * m * d + 4 * own_atoms * sum(levels) * d
    part = recipe.coefficient_part(layout)
    if part is not None:
        of_alpha, m_c = part[0], part[1].n_atoms(part[0])
        patches = 2 * max(1, own_atoms // of_alpha.block[1]) * m_c * of_alpha.patch_size * d  # of dD_c and D
        with_codes = 2 * of_alpha.n_rows * m_c * prod(of_alpha.block) * d
        update, gradient = update + patches + with_codes, gradient + 2 * patches + with_codes
    entering, leaving = positions
    transposed = layout.kind.startswith("conv_transpose")
    one_step = 2 * prod(layout.shape) * (entering if transposed else leaving)
    every_atom = prod((m, *sizes))
    atoms_step = 2 * c_in * every_atom * p * area * (entering if transposed else leaving)
    sums_step = 2 * (c_in // q * sum(levels) + rows * m) * p * leaving
    return LayerFlops(update, gradient, one_step, atoms_step + sums_step)


def count_cost(
    model: nn.Module | Mapping[str, Tensor],
    count: ParameterCount,
    recipe: DecompositionConfig,
    image_size: int | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Cost, str]:
    """The cost of what count_parameters counted, and why its convolutions have no FLOPs, where they have none."""
    check_kind("count", count, ParameterCount)
    check_kind("recipe", recipe, DecompositionConfig)
    modules = dict(named_layers(model))
    recipes = {layer.name: recipe_of(layer.name, recipe, overrides or {}) for layer in count.layers}
    layouts = {name: layout_of(name, modules[name], **own.kernel_blocks) for name, own in recipes.items()}
    positions, note = None, "a bare file of weights has no architecture to run"
    if isinstance(model, nn.Module):
        try:
            positions, note = layer_positions(model, image_size), ""
        except FiltersubError as error:
            if image_size is not None:
                raise
            note = str(error)
    at = positions or {}
    each = [layer_flops(layout, recipes[name], at.get(name, (0, 0))) for name, layout in layouts.items()]
    trained, linear_codes = count.trainable + count.head, None
    if all(own.code_kind == "linear" for own in recipes.values()):
        linear_codes = sum(layout.patch_size * recipes[name].n_atoms(layout) for name, layout in layouts.items())
    cost = Cost(
        trained=trained,
        stored_coefficients=count.coefficients,
        linear_code_entries=linear_codes,
        coefficient_bytes=BYTES * count.coefficients,
        gradient_bytes=BYTES * trained,
        optimizer_bytes=BYTES * ADAM_STATES * trained,
        adapter_bytes=BYTES * trained,
        update_flops=sum(flops.update for flops in each),
        update_gradient_flops=sum(flops.update_gradient for flops in each),
        one_step_flops=None if positions is None else sum(flops.one_step for flops in each),
        two_step_flops=None if positions is None else sum(flops.two_step for flops in each),
    )
    return cost, note


def layer_positions(model: nn.Module, image_size: int | None = None) -> dict[str, tuple[int, int]]:
    """(input positions, output positions) an image of each convolution and linear layer that a forward pass meets.

    The model runs once on its own device, for a model on the meta device without arithmetic. ``image_size`` in pixels;
    default what the model says of itself, else 224 (512 for a UNet of diffusers). A layer that runs several times is
    counted as often.

    Raises FiltersubError where the model cannot run on an image of that size.
    """
    seen: dict[str, tuple[int, int]] = {}

    def note(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        entering, leaving = seen.get(name, (0, 0))
        seen[name] = entering + _positions(layer, inputs[0]), leaving + _positions(layer, output)

    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    handles = [m.register_forward_hook(partial(note, n)) for n, m in model.named_modules() if isinstance(m, kinds)]
    size = _usual_size(model) if image_size is None else image_size
    check_whole("image_size", size, 1, MOST_PIXELS)
    try:
        inputs, named = _example(model, size)
        with torch.no_grad():
            model(*inputs, **named)
    except Exception as error:  # models refuse sizes in ways of their own
        raise FiltersubError(f"the model does not run on images of {size} pixels: {reason(error, 160)}") from None
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _positions(layer: nn.Module, features: Tensor) -> int:
    """Positions of features (1, c, *positions) of a convolution or (1, *positions, c) of a linear layer."""
    if isinstance(layer, nn.Linear):
        return prod(features.shape[:-1])
    return prod(features.shape[2:])


def _usual_size(model: nn.Module) -> int:
    known = getattr(model, "default_cfg", None) or {}
    config = getattr(model, "config", None)
    if hasattr(config, "cross_attention_dim"):
        return 512
    named = known.get("input_size", (3, 224, 224)) if isinstance(known, dict) else (3, 224, 224)
    size = getattr(config, "image_size", None)
    return size if isinstance(size, int) else named[-1]


def _example(model: nn.Module, size: int) -> tuple[tuple[Tensor, ...], dict[str, object]]:
    """Arguments of one forward pass."""
    config, device = getattr(model, "config", None), next(model.parameters()).device
    if not hasattr(config, "cross_attention_dim"):
        channels = getattr(config, "num_channels", None) or getattr(config, "in_channels", None) or 3
        image = torch.empty(1, channels, size, size, device=device)
        needs_time = type(model).__name__.startswith("UNet2D")
        return ((image, torch.ones(1, device=device)) if needs_time else (image,)), {}
    latent = torch.empty(1, config.in_channels, size // 8, size // 8, device=device)
    words = torch.empty(1, 77, config.cross_attention_dim, device=device)
    more = {}
    if config.addition_embed_type == "text_time":
        text = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        more["added_cond_kwargs"] = {
            "text_embeds": torch.empty(1, text, device=device),
            "time_ids": torch.empty(1, 6, device=device),
        }
    return (latent, torch.ones(1, device=device), words), more
