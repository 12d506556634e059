"""What the network predicts once each kernel is replaced by ``alpha x D``."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor, nn

from ..decomposition import ModelDecomposition
from ..errors import FiltersubError
from ._pairs import copied


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
