"""What a decomposition does to a network on real images: errors of layers' outputs, and its predictions."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from ..computed_weights import current_weight, set_weight
from ..decomposition import ModelDecomposition
from ..decomposition.file import check_decomposition
from ..errors import FiltersubError
from .kernels import copied


def prediction_table(
    model: nn.Module, decomposition: ModelDecomposition, batches: Iterable[Tensor | tuple[Tensor, Tensor]]
) -> pd.DataFrame:
    """Predictions of a network and of its rebuilt copy, side by side.

    Parameters
    ----------
    model : Module that gives logits (n, classes), as it was decomposed; left as it was
    decomposition : of that model
    batches : of images (n, channels, height, width), or pairs of images and labels (n,)

    Returns
    -------
    DataFrame
        One row an image: image (from 0), predicted, predicted_rebuilt, agrees, probability and probability_rebuilt (of
        each one's own prediction), logit_error (``||logits - rebuilt|| / ||logits||``), and where labels came label,
        correct, correct_rebuilt.

    Raises FiltersubError when there are no images.
    """
    check_decomposition(decomposition)
    rebuilt = decomposition.rebuild_(copied(model)).eval()
    tables, was_training, seen = [], model.training, 0
    try:
        model.eval()
        with torch.inference_mode():
            for batch in batches:
                images, labels = (batch, None) if isinstance(batch, Tensor) else (batch[0], batch[1])
                tables.append(_compared(model(images), rebuilt(images), labels, seen))
                seen += images.shape[0]
    finally:
        model.train(was_training)
    if not seen:
        raise FiltersubError("no images came, so there is nothing to predict; give at least one batch")
    return pd.concat(tables, ignore_index=True)


def agreement(predictions: pd.DataFrame) -> pd.DataFrame:
    """A prediction_table in one row: images, agreement, logit_error (root mean square), and with labels accuracy,
    accuracy_rebuilt, accuracy_change. All but ``images`` are fractions; ``agreement`` is that of the most likely class.
    """
    row = {
        "images": len(predictions),
        "agreement": float(predictions["agrees"].mean()),
        "logit_error": float((predictions["logit_error"] ** 2).mean() ** 0.5),
    }
    if "correct" in predictions:
        before, after = (float(predictions[name].mean()) for name in ("correct", "correct_rebuilt"))
        row |= {"accuracy": before, "accuracy_rebuilt": after, "accuracy_change": after - before}
    return pd.DataFrame([row])


def _compared(logits: Tensor, rebuilt: Tensor, labels: Tensor | None, first: int) -> pd.DataFrame:
    logits, rebuilt = logits.detach().cpu().double(), rebuilt.detach().cpu().double()
    (probability, predicted), (probability_rebuilt, predicted_rebuilt) = (
        values.softmax(1).max(1) for values in (logits, rebuilt)
    )
    values = {
        "image": range(first, first + len(logits)),
        "predicted": predicted.numpy(),
        "predicted_rebuilt": predicted_rebuilt.numpy(),
        "agrees": (predicted == predicted_rebuilt).numpy(),
        "probability": probability.numpy(),
        "probability_rebuilt": probability_rebuilt.numpy(),
        "logit_error": ((logits - rebuilt).norm(dim=1) / logits.norm(dim=1)).numpy(),
    }
    if labels is not None:
        truth = labels.cpu()
        values |= {
            "label": truth.numpy(),
            "correct": (predicted == truth).numpy(),
            "correct_rebuilt": (predicted_rebuilt == truth).numpy(),
        }
    return pd.DataFrame(values)


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
    check_decomposition(decomposition)
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
