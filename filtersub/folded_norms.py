"""Batch norms that stand still, folded into the convolutions before them.

With s = weight / sqrt(variance + eps) and t = bias - s mean, ``s (W * x + b) + t`` is the convolution with the weight
``s W`` and the bias ``s b + t``, which saves a pass over its outputs and one over their gradients. This is what
convolutions and batch norms ask while they run; training/norm_folding.py finds which of them belong together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

Pairs = list[tuple[Tensor, nn.Module]]  # weight of a convolution, its batch norm

#: positions of the output for each entry of a kernel (i, *k), below which a pass over the weight takes longer than one
#: over the output
FEWEST = 2

_MARK = "_filtersub_folded"  # attribute of the output of a scaled convolution: the running mean of its batch norm


@dataclass(frozen=True)
class Calls:
    """What ran while someone looked on: for each call the tensor that the layer is known by, the output of the
    convolution or the input of the batch norm, and its place in autograd's graph at that moment."""

    convolutions: list[tuple[Tensor, Tensor, Any]] = field(default_factory=list)  # by the weight
    norms: list[tuple[Tensor, Tensor, Any]] = field(default_factory=list)  # by the running mean


class Folding:
    """The pairs in use, in all threads.

    A convolution asks ``norm_behind`` for its batch norm, runs with what ``scale_and_bias`` gives and hands its output
    to ``ran``; the batch norm gives its input back where it ``is_done``.

    Attributes
    ----------
    active : whether there is anything to ask
    """

    def __init__(self) -> None:
        self.active = False
        self._calls: Calls | None = None
        self._within: list[tuple[Pairs, int]] = []  # of each ``of`` that is open
        # by the id of a weight, which is held so that it stays
        self._norms: dict[int, tuple[Tensor, nn.Module, int]] = {}
        self._waiting: dict[int, Tensor] = {}  # running means of norms whose convolution was scaled, until they run
        self._lock = Lock()

    @contextmanager
    def of(self, pairs: Pairs, fewest: int | None = None) -> Iterator[None]:
        """Within, these weights have these batch norms folded in wherever the norms are in evaluation mode.

        fewest : in place of FEWEST

        Convolutions and batch norms ask only within training.needed_activations.
        """
        own = (pairs, FEWEST if fewest is None else fewest)
        with self._lock:
            self._within.append(own)
            self._put_together()
        try:
            yield
        finally:
            with self._lock:
                self._within = [others for others in self._within if others is not own]
                self._put_together()

    def _put_together(self) -> None:
        self._norms = {id(pair[0]): (*pair, fewest) for pairs, fewest in self._within for pair in pairs}
        self.active = bool(self._norms) or self._calls is not None
        self._waiting = self._waiting if self._norms else {}

    @contextmanager
    def watch(self) -> Iterator[Calls]:
        """Within, what runs is written down."""
        self._calls, self.active = Calls(), True
        try:
            yield self._calls
        finally:
            with self._lock:
                self._calls = None
                self._put_together()

    def norm_behind(self, weight: Tensor, input: Tensor, stride: Any) -> nn.Module | None:
        """The batch norm to fold into the convolution of ``input`` with this weight; None where there is none, where it
        moves now, or where folding takes longer."""
        _, norm, fewest = self._norms.get(id(weight), (None, None, 0))
        if norm is None:
            return None
        self._waiting.pop(id(norm.running_mean), None)
        positions = input.shape[0] * prod(input.shape[2:])
        strides = stride ** (weight.ndim - 2) if isinstance(stride, int) else prod(stride)
        own = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        alike = all(t is None or (t.dtype, t.device) == (weight.dtype, weight.device) for t in own)
        # the gradient of a norm's weight is cheap by itself; folded in it asks for the gradient of a whole kernel
        cheap = weight.requires_grad or norm.weight is None or not norm.weight.requires_grad
        many = input.ndim == weight.ndim and positions >= fewest * strides * weight[0].numel()
        return norm if alike and cheap and many and not norm.training and not autocasts(weight.device.type) else None

    def ran(self, weight: Tensor, output: Tensor, norm: nn.Module | None) -> Tensor:
        """The output of the convolution with this weight, scaled for ``norm``."""
        if norm is not None:
            setattr(output, _MARK, norm.running_mean)
            self._waiting[id(norm.running_mean)] = norm.running_mean
        elif self._calls is not None:
            self._calls.convolutions.append((weight, output, output.grad_fn))
        return output

    def is_done(self, input: Tensor, running_mean: Tensor) -> bool:
        """Whether the convolution that made ``input`` did the work of the batch norm with this running mean.

        Raises RuntimeError where it did that work, but something else became of its output.
        """
        scaled = self._waiting.pop(id(running_mean), None) is not None
        if getattr(input, _MARK, None) is running_mean:
            delattr(input, _MARK)
            return True
        if scaled:
            raise RuntimeError("a batch norm was folded into a convolution that it does not follow")
        if self._calls is not None:
            self._calls.norms.append((running_mean, input, input.grad_fn))
        return False


folding = Folding()


def scale_and_bias(norm: nn.Module, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """s, in the shape that multiplies ``weight`` (o, i, *k), and the bias (o,) of a convolution with a folded norm.

    Differentiable in the norm's weight and bias.
    """
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    mean = norm.running_mean if bias is None else norm.running_mean - bias
    shift = -mean * scale
    return scale.view(-1, *[1] * (weight.ndim - 1)), shift if norm.bias is None else shift + norm.bias


def autocasts(kind: str) -> bool:
    """Whether autocast is on for a kind of device; some have none (meta)."""
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
