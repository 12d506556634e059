"""Tensors that this package itself puts into layers: the methods that neither peft nor torch has."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from .bottleneck import add_conv_adapters_
from .features import Scale, ScaleShift, scale_and_shift_
from .low_rank import LoralibUpdate, add_loralib_
from .options import MethodOptions
from .parametrizations import keep_parametrized_
from .tucker import TUCKER_METHODS, TuckerUpdate, add_tucker_


def add_(model: nn.Module, method: str, layers: Iterable[str], options: MethodOptions) -> None:
    """Put the tensors of a method of ``METHODS`` that ``adds`` some into these layers, which compute what they did."""
    if method == "conv-adapter":
        add_conv_adapters_(model, layers, options.reduction)
    elif method == "lora-loralib":
        add_loralib_(model, layers, options)
    elif method in TUCKER_METHODS:
        add_tucker_(model, layers, method, options.rank, options.adapter_scale)
    else:
        scale_and_shift_(model, layers)


def merge_added_(model: nn.Module) -> None:
    """Fold these tensors into the weights; what cannot be folded (Conv-Adapter's branches, for one) stays."""
    keep_parametrized_(model, (Scale, ScaleShift, LoralibUpdate, TuckerUpdate))
