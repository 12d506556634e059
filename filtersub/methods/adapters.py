"""What methods put into layers: peft's configurations of the baselines that peft has, and tensors of this package."""

from collections.abc import Iterable
from typing import Any

import peft
from torch import nn

from ..computed_weights import keep_parametrized_
from ..parameters.baselines import adalora_start
from .features import Scale, ScaleShift, add_conv_adapters_, scale_and_shift_
from .low_rank import TUCKER_METHODS, LoralibUpdate, TuckerUpdate, add_loralib_, add_tucker_
from .options import MethodOptions


def adapter_config(method: str, options: MethodOptions, **common: Any) -> peft.PeftConfig:
    """The configuration of ``method``; ``common`` is what all have: target_modules, modules_to_save.

    Scales: LoRA's update is multiplied by lora_alpha / r, that of LoHa and LoKr by alpha / r, here ``adapter_scale``.
    AdaLoRA's number of steps is set where training starts. (IA)^3 scales outputs: no layer is one of its feed-forward
    layers, whose inputs it would scale.
    """
    alpha = options.rank * options.adapter_scale
    if method in ("lora", "dora"):
        own = {"use_dora": method == "dora", "lora_dropout": options.update_dropout}
        return peft.LoraConfig(r=options.rank, lora_alpha=alpha, **own, **common)
    if method in ("loha", "lokr"):
        kind = peft.LoHaConfig if method == "loha" else peft.LoKrConfig
        return kind(r=options.rank, alpha=alpha, **common)
    if method == "adalora":
        start = adalora_start(options.rank)
        alpha = start * options.adapter_scale  # the update is multiplied by lora_alpha / init_r
        own = {"lora_dropout": options.update_dropout}
        return peft.AdaLoraConfig(target_r=options.rank, init_r=start, lora_alpha=alpha, total_step=1, **own, **common)
    if method == "hra":
        return peft.HRAConfig(r=options.rank, **common)
    if method == "hira":
        return peft.HiraConfig(r=options.rank, hira_dropout=options.update_dropout, **common)
    if method == "ia3":
        return peft.IA3Config(feedforward_modules=[], **common)
    if method == "oft":
        return peft.OFTConfig(oft_block_size=options.oft_block, **common)
    return peft.BOFTConfig(boft_block_size=options.boft_block, **common)


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
