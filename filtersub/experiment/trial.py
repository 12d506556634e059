"""Whether a model can take the images of a data set, seen on the first one before anything is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import FiltersubError


@torch.no_grad()
def try_image(model: nn.Module, image: Tensor, n_classes: int, name: str) -> None:
    """Run the model, left as it is, on one image (3, height, width).

    Raises FiltersubError where it fails, mostly by the images' size, and where it puts out no (1, n_classes) scores.
    """
    training, size = model.training, " x ".join(map(str, image.shape[1:]))
    model.eval()
    try:
        found = model(image[None])
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise FiltersubError(
            f"{name} cannot take images of {size} pixels ({words[0][:160]}); choose another image_size"
        ) from None
    finally:
        model.train(training)
    if not isinstance(found, Tensor) or found.shape != (1, n_classes):
        shape = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise FiltersubError(f"{name} puts out {shape} for an image, not (1, {n_classes}) scores; it is no classifier")
