"""AdaLoRA's part in a training loop: a penalty in the loss, and ranks handed from layer to layer after each step."""

from typing import Any

import torch
from torch import Tensor, nn

from .config import OptimizationConfig, check_allocation

#: shares of all steps before ranks are taken away and after the last was: those of the example in peft's documentation
_BEFORE, _AFTER = 0.1, 0.2
_KEPT = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # importance of each entry: of the step, smoothed, and its uncertainty


class RankAllocation:
    """What peft leaves to the loop for a model that it wrapped by AdaLoRA (Zhang et al., arXiv:2303.10512).

    Ranks fall from init_r to target_r on average along a cubic, from a tenth of the ``steps`` of the whole run to four
    fifths of them. ``tuner`` is peft's AdaLoraModel.

    Raises FiltersubError for settings that keep weights of steps whose ranks were others.
    """

    def __init__(self, tuner: Any, config: OptimizationConfig, steps: int) -> None:
        check_allocation(config)
        self._tuner, self._allocator, self._done = tuner, tuner.rankallocator, 0
        self._config = tuner.peft_config[tuner.trainable_adapter_name]
        self._config.total_step = steps
        self._config.tinit, self._config.tfinal = int(_BEFORE * steps), int(_AFTER * steps)

    def penalty(self) -> Tensor:
        """The mean over all factors P of ||P P' - I||_F, over the smaller side, times peft's orth_reg_weight."""
        distances = []
        for name, factor in self._factors():
            with torch.autocast(factor.device.type, enabled=False):
                square = factor @ factor.T if ".lora_A." in name else factor.T @ factor
                distances.append(torch.linalg.matrix_norm(square - torch.eye(len(square)).to(square)))
        return self._config.orth_reg_weight * torch.stack(distances).mean()

    def update(self) -> None:
        """After a step of the optimiser, while its gradients are there."""
        self._done += 1
        for _, parameter in self._tuner.model.named_parameters():
            if parameter.requires_grad and parameter.grad is None:  # a layer that the model does not use
                parameter.grad = torch.zeros_like(parameter)
        self._tuner.update_and_allocate(self._done)

    def state_dict(self) -> dict[str, Any]:
        kept = {name: dict(getattr(self._allocator, name)) for name in _KEPT}
        return {"done": self._done, "rank_pattern": self._config.rank_pattern, **kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._done, self._config.rank_pattern = state["done"], state["rank_pattern"]
        devices = {name: p.device for name, p in self._tuner.model.named_parameters()}
        for name in _KEPT:
            setattr(self._allocator, name, {key: value.to(devices[key]) for key, value in state[name].items()})

    def _factors(self) -> list[tuple[str, nn.Parameter]]:
        named = self._tuner.model.named_parameters()
        return [(name, p) for name, p in named if p.requires_grad and (".lora_A." in name or ".lora_B." in name)]


def allocation_of(model: nn.Module, config: OptimizationConfig, steps: int) -> RankAllocation | None:
    """The allocation that a model wrapped by peft's AdaLoRA needs; None for every other model."""
    tuner = getattr(model, "base_model", None)
    return RankAllocation(tuner, config, steps) if hasattr(tuner, "rankallocator") else None
