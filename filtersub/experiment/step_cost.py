"""Floating-point operations of one training step, counted on shapes alone."""

import copy
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from math import prod

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from ..engine.conv import spatial
from ..training import set_training_mode_


def _backward(grad_output, features, weight, _bias, _stride, _padding, _dilation, transposed, *rest, **_) -> int:
    """Operations of aten.convolution_backward, its tensors given by their shapes: of a convolution, of its gradient for
    the input, and of that for the weight, each costs the same.

    Every number of the weight (c_out, c_in / groups, k_1, k_2) meets every position once: 2 n h w c_out (c_in / groups)
    k_1 k_2, where h w are the positions of the output, or of the input where the convolution is transposed. torch's own
    formula multiplies the gradient of a grouped weight by the number of groups.
    """
    needed = rest[2]  # whether the gradients of input, weight and bias are
    n, _, *positions = features if transposed else grad_output
    return sum(needed[:2]) * 2 * prod(weight) * n * prod(positions)


_MAPPING = {torch.ops.aten.convolution_backward: _backward}


class _NoHooks:
    """In the place of what FlopCounterMode knows modules by: hooks on every module, with which tuned layers run in
    another way."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def flops_of(work: Callable[[], object]) -> int:
    """Operations of matrix products and convolutions, a multiplication and an addition count two."""
    counter = FlopCounterMode(display=False, custom_mapping=_MAPPING)
    counter.mod_tracker = _NoHooks()
    with counter:
        work()
    return int(counter.get_total_flops())


def step_flops(
    model: nn.Module, image_shape: tuple[int, ...], batch_size: int, batch_norm: str, *, on_cpu: bool = False
) -> int | None:
    """Operations (a multiplication and an addition count two) of one forward and backward pass of a batch.

    Matrix products, as torch.utils.flop_counter counts them, and convolutions by their shapes: the gradients that
    nothing needs are not computed and not counted, the sums of weights and updates are. Counted on a copy without
    memory, so that the model, its statistics and the random state stay as they are. None where an operation cannot run
    on shapes alone.

    on_cpu : whether the step runs on the CPU, in channels-last memory and without mixed precision, where some layers do
        without a weight gradient (engine.conv.spatial)
    """
    copied = meta_copy(model)
    set_training_mode_(copied, batch_norm)
    images = torch.empty(batch_size, *image_shape, device="meta")
    labels = torch.zeros(batch_size, dtype=torch.long, device="meta")
    with (
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),
        spatial.meta_as_cpu() if on_cpu else nullcontext(),
    ):
        warnings.simplefilter("ignore")
        try:
            return flops_of(lambda: cross_entropy(copied(images), labels).backward())
        except (NotImplementedError, RuntimeError, ValueError):  # batch norm of a single image is a ValueError
            return None


def meta_copy(module: nn.Module) -> nn.Module:
    """The module with every parameter and buffer on the meta device; shared tensors stay shared, nothing is allocated.

    >>> copied = meta_copy(nn.Linear(2, 3))
    >>> copied.weight.device.type, tuple(copied.weight.shape), copied.weight.requires_grad
    ('meta', (3, 2), True)
    """
    memo: dict[int, object] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(module, memo)
