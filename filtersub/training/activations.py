"""Activations that a training step keeps for its backward pass: none that no gradient needs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional

from ..engine.conv.depthwise import gradients
from ..folded_norms import Pairs, autocasts, folding, scale_and_bias
from . import depthwise

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_TORCHS: dict[str, Callable[..., Tensor]] = {name: getattr(functional, name) for name in ("batch_norm", *_CONVOLUTIONS)}
# torch has no public check for torch.func. If this private one goes, torch.func raises torch's own error within.
_transforms_are_active: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
_LOCK = Lock()
_within: list[None] = []  # one for each needed_activations that is open, in all threads


@contextmanager
def needed_activations(folded: Pairs | None = None) -> Iterator[None]:
    """Within it, convolutions whose weight stands still, and batch norms that train nothing, keep no input for the
    backward pass.

    The gradient of a convolution's input needs the weight alone, and so does that of a batch norm whose statistics
    stand still, y = s x + t with s = weight / sqrt(variance + eps) per channel: s dy. torch keeps both inputs all the
    same. Outputs are torch's to the bit, gradients too (of batch norms and biases to rounding), in mixed precision as
    well. The weight gradient of depthwise convolutions that train is the engine's where torch is slow (to rounding).
    Other weights that train, batch norms that move, complex numbers, subclasses of Tensor, torch.func, forward-mode
    gradients and tracing get torch's functions as before.

    folded : batch norms to fold into convolutions, as foldable_norms finds them; their outputs and gradients are
        torch's to rounding

    Replaces functions of torch.nn.functional for all threads, except those that another library has replaced. Run the
    backward pass within it, too: checkpointed blocks compute there again and must save the same tensors.

    >>> layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).requires_grad_(False).eval()
    >>> images = torch.randn(2, 3, 8, 8, requires_grad=True)
    >>> with needed_activations():
    ...     found = layers(images)
    >>> torch.equal(found, layers(images))
    True
    """
    with _LOCK:
        _within.append(None)
        _replace(_TORCHS, _OWN)
    ours = functional.batch_norm is _OWN["batch_norm"]  # else no norm would know what a convolution has done for it
    try:
        with folding.of(folded) if folded and ours else nullcontext():
            yield
    finally:
        with _LOCK:
            _within.pop()
            if not _within:
                _replace(_OWN, _TORCHS)


def _replace(old: dict[str, Callable[..., Tensor]], new: dict[str, Callable[..., Tensor]]) -> None:
    for name, function in new.items():
        if getattr(functional, name) is old[name]:  # not those of a profiler, say, which counts calls
            setattr(functional, name, function)


def _is_plain(*tensors: Tensor | None) -> bool:
    """Whether these are torch's own tensors of real numbers, and nothing but its reverse mode is at work."""
    given = [t for t in tensors if t is not None]
    if any(type(t) not in (Tensor, nn.Parameter) for t in given):  # before anything else is asked of them
        return False
    if _transforms_are_active() or getattr(forward_ad, "_current_level", -1) >= 0 or torch.jit.is_tracing():
        return False
    return not any(t.is_complex() for t in given)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    own = (running_mean, running_var, weight, bias)
    if folding.active and running_mean is not None and folding.is_done(input, running_mean):
        return input
    moves = training or running_mean is None or running_var is None
    plain = not moves and _is_plain(input, *own)  # before anything else is asked of them
    if not plain or not input.requires_grad or any(t is not None and t.requires_grad for t in own):
        return _TORCHS["batch_norm"](input, *own, training, momentum, eps)
    return _BatchNorm.apply(input, *own, eps)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, mean: Tensor, variance: Tensor, *weight_bias_eps: Any) -> Tensor:
        weight, bias, ctx.eps = weight_bias_eps
        ctx.save_for_backward(variance, weight)
        return _TORCHS["batch_norm"](input, mean, variance, weight, bias, False, 0.0, ctx.eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        variance, weight = ctx.saved_tensors
        scale = (variance + ctx.eps).rsqrt()
        scale = scale if weight is None else scale * weight
        along = (1, -1, *[1] * (gradient.ndim - 2))
        found = gradient * scale.view(along)  # in mixed precision of float32, rounded once
        return found.to(gradient.dtype), None, None, None, None, None


def _convolution(name: str) -> Callable[..., Tensor]:
    torchs, dimensions = _TORCHS[name], int(name[-2])

    def convolve(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        settings = (stride, padding, dilation)
        if not folding.active:
            return run(input, weight, bias, settings, groups)
        norm = folding.norm_behind(weight, input, stride)
        if norm is None:
            return folding.ran(weight, run(input, weight, bias, settings, groups), None)
        scale, bias = scale_and_bias(norm, weight, bias)
        return folding.ran(weight, run(input, weight * scale, bias, settings, groups), norm)

    def run(input: Tensor, weight: Tensor, bias: Tensor | None, settings: tuple[Any, ...], groups: int) -> Tensor:
        numbers = all(type(v) in (int, tuple, list, torch.Size) for v in settings)
        if not numbers or not _is_plain(input, weight, bias) or input.ndim != dimensions + 2:
            return torchs(input, weight, bias, *settings, groups)
        lists = [list(v) if isinstance(v, (tuple, list)) else [v] * dimensions for v in settings]
        kind = input.device.type
        low = torch.get_autocast_dtype(kind) if autocasts(kind) else None
        stands_still = torch.is_grad_enabled() and not weight.requires_grad
        if stands_still and (input.requires_grad or (bias is not None and bias.requires_grad)):
            if low is not None:  # autocast would be at work inside the function, out of its gradient's sight
                cast = [t if t is None or t.dtype == torch.float64 else t.to(low) for t in (input, weight, bias)]
                input, weight, bias = cast
            return _Convolution.apply(input, weight, bias, torchs, lists, groups)
        found = None
        if dimensions == 2 and groups == input.shape[1] and low is None:
            found = depthwise.convolve(torchs, input, weight, bias, lists)
        return torchs(input, weight, bias, *settings, groups) if found is None else found

    return convolve


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, torchs: Any, lists: list[list[int]], groups: int
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.lists, ctx.groups = lists, groups
        ctx.like = {"size": input.shape, "stride": input.stride(), "dtype": input.dtype, "device": input.device}
        return torchs(input, weight, bias, *lists, groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        unread = torch.empty_strided(**ctx.like)  # its shape and order in memory choose the kernel that torch takes
        asked = (ctx.needs_input_grad[0], False, ctx.needs_input_grad[2])
        found = gradients(gradient, unread, weight, *ctx.lists, ctx.groups, asked, only_torch=True)
        return *found, None, None, None


_OWN: dict[str, Callable[..., Tensor]] = {"batch_norm": _batch_norm}
_OWN |= {name: _convolution(name) for name in _CONVOLUTIONS}
