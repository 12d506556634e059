"""The error of a layer's output on real images: not every direction of a kernel matters to what it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from ..computed_weights import current_weight, set_weight
from ..decomposition import ModelDecomposition
from ..errors import FiltersubError
from ._pairs import copied


def output_table(model: nn.Module, decomposition: ModelDecomposition, batches: Iterable[Tensor]) -> pd.DataFrame:
    """``||conv(x, F) - conv(x, F_hat)|| / ||conv(x, F)||`` of each layer, over all batches, beside its weight's error.

    Every layer sees the input x that the *original* network gives it, so errors of earlier layers do not add up, and
    biases are left out. Images stream through: one batch is held at a time, sums are kept in float64.

    Parameters
    ----------
    model : Module, as it was decomposed; run in evaluation mode and left as it was
    decomposition : of that model
    batches : of images (n, channels, height, width), as the model takes them; a pair (images, labels) counts too

    Returns
    -------
    DataFrame
        One row a layer: name, images, output_norm, output_error, weight_error. Errors are fractions; ``output_error``
        is NaN for a layer that the images never reach. ``output_norm`` is in units of the activations.

    Raises FiltersubError when there are no images, or the model lacks a layer.
    """
    modules = dict(model.named_modules())
    sums, hooks = {}, []
    for name, layer in decomposition.layers.items():
        if name not in modules:
            raise FiltersubError(f"the model has no layer {name!r}, so this is not the model that was decomposed")
        original = current_weight(modules[name]).detach()
        rebuilt = _without_bias(modules[name], layer.weight().to(original))
        sums[name] = _Sums(_without_bias(modules[name], original), rebuilt)
        hooks.append(modules[name].register_forward_hook(sums[name].see))
    images, was_training = 0, model.training
    try:
        model.eval()
        with torch.inference_mode():
            for batch in batches:
                pixels = batch if isinstance(batch, Tensor) else batch[0]
                model(pixels)
                images += pixels.shape[0]
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    if images == 0:
        raise FiltersubError("no images came, so there is no output to measure; give at least one batch")
    rows = []
    for name, layer in decomposition.layers.items():
        whole, missing = sums[name].whole, sums[name].missing
        error = (missing / whole) ** 0.5 if whole > 0 else float("nan")
        row = {"name": name, "images": images, "output_norm": whole**0.5, "output_error": error}
        rows.append({**row, "weight_error": layer.relative_error})
    return pd.DataFrame(rows)


@dataclass
class _Sums:
    """Squared norms of a layer's output and of how far the rebuilt kernel's output lies from it. Both are computed, as
    some layers (weight standardisation) are not linear in the weight that they store."""

    layer: nn.Module
    rebuilt: nn.Module
    whole: float = 0.0
    missing: float = 0.0

    def see(self, _module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        output = self.layer(*inputs).double()
        self.whole += float(output.square().sum())
        self.missing += float((output - self.rebuilt(*inputs).double()).square().sum())


def _without_bias(module: nn.Module, weight: Tensor) -> nn.Module:
    """A copy of the layer with this weight and no bias, in evaluation mode and without hooks."""
    found = copied(module).eval()
    set_weight(found, weight)
    found._forward_hooks.clear()
    found._forward_pre_hooks.clear()
    if getattr(found, "bias", None) is not None:
        found.bias = nn.Parameter(torch.zeros_like(found.bias), requires_grad=False)
    return found
