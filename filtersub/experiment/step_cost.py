"""Floating-point operations of one training step, counted on shapes alone."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from ..meta_copy import meta_copy
from ..training import set_training_mode_


def step_flops(model: nn.Module, image_shape: tuple[int, ...], batch_size: int, batch_norm: str) -> int | None:
    """Operations (a multiplication and an addition count two) of one forward and backward pass of a batch.

    Matrix products and convolutions, as torch.utils.flop_counter knows them: the gradients that nothing needs are not
    computed and not counted, the sums of weights and updates are. Counted on a copy without memory, so that the model,
    its statistics and the random state stay as they are. None where an operation cannot run on shapes alone.
    """
    copied = meta_copy(model)
    set_training_mode_(copied, batch_norm)
    images = torch.empty(batch_size, *image_shape, device="meta")
    labels = torch.zeros(batch_size, dtype=torch.long, device="meta")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            with FlopCounterMode(display=False) as counter:
                cross_entropy(copied(images), labels).backward()
        except (NotImplementedError, RuntimeError, ValueError):  # batch norm of a single image is a ValueError
            return None
    return int(counter.get_total_flops())
