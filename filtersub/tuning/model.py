"""The tuner: finds the layers that take part, wraps them, and says what belongs to a saved adapter."""

from __future__ import annotations

import re
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, _ExcludedModule, check_target_module_exists
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from ..errors import FiltersubError
from ..kernels import layout_of
from ..models import head_name
from .config import FilterSubspaceConfig
from .layer import PREFIX, FilterSubspaceLayer, same_fingerprint

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class FilterSubspaceModel(BaseTuner):
    """Injects FilterSubspaceLayer into a model; use it through ``peft.get_peft_model``."""

    prefix = PREFIX
    tuner_layer_cls = FilterSubspaceLayer
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 (peft's own form)

    def _prepare_adapter_config(self, peft_config: FilterSubspaceConfig, model_config: dict) -> FilterSubspaceConfig:
        """Resolve target_modules to the layers that take part, as one pattern of full names.

        A list would not do: peft matches its entries as endings too, and ``conv1`` then means every block's conv1.
        """
        peft_config.target_modules = "|".join(re.escape(name) for name in _participants(self.model, peft_config))
        return peft_config

    def _create_and_replace(
        self,
        peft_config: FilterSubspaceConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        layer = target if isinstance(target, FilterSubspaceLayer) else FilterSubspaceLayer(target, current_key)
        layer.add_adapter(adapter_name, peft_config.recipe, save_coefficients=peft_config.save_coefficients)
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)
        elif adapter_name not in self.active_adapters:
            layer.filtersub_atoms[adapter_name].requires_grad_(False)

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: FilterSubspaceConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        **rest: Any,
    ) -> dict[str, Tensor]:
        kept = super()._get_adapter_state_dict(model, config, adapter_name, state_dict, **rest)
        if config.save_batch_norm:
            kept.update({k: v for k, v in state_dict.items() if k.rpartition(".")[2] in _STATISTICS})
        return kept

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: FilterSubspaceConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        remapped = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        if not config.save_coefficients:
            _check_fingerprints(model, adapter_name, remapped)
        return remapped


def _participants(model: nn.Module, config: FilterSubspaceConfig) -> list[str]:
    """Full names of the layers to wrap. Raises FiltersubError where there is none, naming what could be meant."""
    head = head_name(model) if config.target_modules is None else None
    able, chosen = [], []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if not name or name.startswith(inside):
            continue
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            inside = (*inside, f"{name}.")
        base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
        if name == head or layout_of(name, base, config.block, config.block_spatial) is None:
            continue
        able.append(name)
        if _is_wanted(config, name):
            chosen.append(name)
    if not chosen:
        wanted = f"target_modules {config.target_modules!r} match" if config.target_modules else "there is"
        blocks = "" if config.block is not None else " (1x1 and linear layers take part only with a block)"
        known = f"; layers that could: {', '.join(able[:5])}" if able else ""
        raise FiltersubError(f"{wanted} no layer that can be decomposed{blocks}{known}")
    return chosen


def _is_wanted(config: FilterSubspaceConfig, name: str) -> bool:
    if config.target_modules is not None:
        found = check_target_module_exists(config, name)
    else:
        everything = FilterSubspaceConfig(
            target_modules=".*", exclude_modules=config.exclude_modules, modules_to_save=config.modules_to_save
        )
        found = check_target_module_exists(everything, name)
    return bool(found) and not isinstance(found, _ExcludedModule)


def _check_fingerprints(model: nn.Module, adapter: str, state_dict: dict[str, Tensor]) -> None:
    """The coefficients made here must be the ones that the atoms were trained with: the adapter has no meaning else."""
    for name, layer in model.named_modules():
        key = f"{name}.filtersub_fingerprint.{adapter}"
        if not isinstance(layer, FilterSubspaceLayer) or key not in state_dict:
            continue
        made = layer.filtersub_fingerprint[adapter]
        if made.device.type != "meta" and not same_fingerprint(made, state_dict[key]):
            gap = float((made.cpu() - state_dict[key].double().cpu()).norm() / made.norm().clamp_min(1e-300))
            raise FiltersubError(
                f"layer {layer.name!r}: the coefficients made from this model's weights are not those the adapter was "
                f"trained with (fingerprints differ by {gap:.1%}); load it on the base weights it was trained on, "
                "or save it with save_coefficients=True"
            )
        state_dict[key] = made if made.device.type != "meta" else state_dict[key].to(torch.float64)
