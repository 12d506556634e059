"""What goes wrong inside libraries while a model is trained, in one line each."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import FiltersubError


def scores(output: Any) -> Tensor:
    """What a classifier puts out while it is trained. Raises FiltersubError where that is not one tensor."""
    if not isinstance(output, Tensor):
        raise FiltersubError(
            f"in training the model puts out {type(output).__name__}; what can be trained gives one tensor of scores"
        )
    return output


def explained(error: ValueError) -> ValueError:
    """The error as a FiltersubError of one line where its cause is known, else as it is.

    torch puts the whole traceback of a process that reads images into the message of the error that it raises again.
    """
    text = str(error)
    if "more than 1 value per channel" in text:
        return FiltersubError(
            "batch norm has a single value a channel to average over, in a batch, or a part of one, of a single image; "
            "change batch_size, accumulation or image_size, or set batch_norm frozen"
        )
    if isinstance(error, FiltersubError) and "\n" in text:
        return FiltersubError(text.strip().splitlines()[-1].rpartition("FiltersubError: ")[2])
    return error
