"""peft's configurations of the rivals that peft has."""

from __future__ import annotations

from typing import Any

from peft import (
    AdaLoraConfig,
    BOFTConfig,
    HiraConfig,
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
)
from peft.config import PeftConfig

from ..parameters.baselines import adalora_start
from .options import MethodOptions


def adapter_config(method: str, options: MethodOptions, **common: Any) -> PeftConfig:
    """The configuration of ``method``; ``common`` is what all have: target_modules, modules_to_save.

    Scales: LoRA's update is multiplied by lora_alpha / r, that of LoHa and LoKr by alpha / r, here ``adapter_scale``.
    AdaLoRA's number of steps is set where training starts. (IA)^3 scales outputs: no layer is one of its feed-forward
    layers, whose inputs it would scale.
    """
    alpha = options.rank * options.adapter_scale
    if method in ("lora", "dora"):
        own = {"use_dora": method == "dora", "lora_dropout": options.update_dropout}
        return LoraConfig(r=options.rank, lora_alpha=alpha, **own, **common)
    if method in ("loha", "lokr"):
        kind = LoHaConfig if method == "loha" else LoKrConfig
        return kind(r=options.rank, alpha=alpha, **common)
    if method == "adalora":
        start = adalora_start(options.rank)
        alpha = start * options.adapter_scale  # the update is multiplied by lora_alpha / init_r
        own = {"lora_dropout": options.update_dropout}
        return AdaLoraConfig(target_r=options.rank, init_r=start, lora_alpha=alpha, total_step=1, **own, **common)
    if method == "hra":
        return HRAConfig(r=options.rank, **common)
    if method == "hira":
        return HiraConfig(r=options.rank, hira_dropout=options.update_dropout, **common)
    if method == "ia3":
        return IA3Config(feedforward_modules=[], **common)
    if method == "oft":
        return OFTConfig(oft_block_size=options.oft_block, **common)
    return BOFTConfig(boft_block_size=options.boft_block, **common)
