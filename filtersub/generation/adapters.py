"""Adapters of a pipeline's UNet: injected, saved in peft's format, loaded again, several switched on one pipeline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from peft import PeftConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .. import tuning  # noqa: F401 (registers the method with peft)
from ..errors import FiltersubError
from ..files import atomic_write, make_folder

WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."  # as peft names a wrapped model's tensors: PeftModel.from_pretrained reads them too


def inject(unet: nn.Module, config: PeftConfig, name: str = "default") -> None:
    """Wrap the layers that the configuration names, in place; the network keeps its class and its methods."""
    inject_adapter_in_model(config, unet, name)
    mark_injected(unet)


def mark_injected(unet: nn.Module) -> None:
    """Sets diffusers' own mark: its set_adapter, disable_adapters then work."""
    unet._hf_peft_config_loaded = True


def save_adapter(unet: nn.Module, folder: str | os.PathLike[str], name: str = "default") -> Path:
    """The trained part alone, as safetensors with its configuration, in peft's format."""
    target = make_folder(folder)
    state = {f"{_PREFIX}{k}": v.contiguous() for k, v in get_peft_model_state_dict(unet, adapter_name=name).items()}
    config = unet.peft_config[name]
    training, config.inference_mode = config.inference_mode, True
    try:
        config.save_pretrained(target)
    finally:
        config.inference_mode = training
    with atomic_write(target / WEIGHTS_FILE) as aside:
        save_file(state, aside)
    return target


def load_adapter(pipeline: Any, folder: str | os.PathLike[str], name: str = "default") -> None:
    """Put a saved adapter into a pipeline (or its UNet) under a name, and switch it on alone.

    Raises FiltersubError when the folder is no adapter, when the name is taken, and when the adapter does not fit: made
    for another UNet (the first differing tensor is named) or trained on other base weights (its fingerprints differ).
    """
    unet, folder = _unet(pipeline), Path(folder)
    if name in getattr(unet, "peft_config", {}):
        raise FiltersubError(f"there is an adapter {name!r} already; choose another name")
    missing = [file for file in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / file).is_file()]
    if missing:
        raise FiltersubError(f"{folder} is no adapter: {', '.join(missing)} missing")
    try:
        config = PeftConfig.from_pretrained(str(folder))
        state = {key.removeprefix(_PREFIX): value for key, value in load_file(folder / WEIGHTS_FILE).items()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise FiltersubError(f"{folder} cannot be read as an adapter: {str(error).splitlines()[0]}") from None
    device = next(unet.parameters()).device
    _put(unet, config, state, name, folder)
    unet.to(device)
    use_adapter(unet, name)


def use_adapter(pipeline: Any, name: str | list[str] | None) -> None:
    """Switch adapters: one by name, several summed, or None for the base network. Takes no time and no memory.

    Raises FiltersubError for names that were not loaded.
    """
    unet = _unet(pipeline)
    names = [name] if isinstance(name, str) else list(name or [])
    known = list(getattr(unet, "peft_config", {}))
    unknown = [each for each in names if each not in known]
    if unknown:
        raise FiltersubError(f"unknown adapter {unknown[0]!r}; loaded: {', '.join(known) or 'none'}")
    for module in unet.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(bool(names))
            if names:
                module.set_adapter(names)


def _put(unet: nn.Module, config: PeftConfig, state: dict, name: str, folder: Path) -> None:
    try:
        inject(unet, config, name)
        result = set_peft_model_state_dict(unet, state, adapter_name=name)
    except FiltersubError:
        _taken_out(unet, name)
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        _taken_out(unet, name)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise FiltersubError(f"{folder} does not fit this UNet: {lines[-1][:200]}") from None
    if result.unexpected_keys:
        _taken_out(unet, name)
        raise FiltersubError(f"{folder} does not fit this UNet: it has no {result.unexpected_keys[0]}")


def _taken_out(unet: nn.Module, name: str) -> None:
    """An adapter that does not fit leaves nothing behind but its wrappers, which then do nothing."""
    if name in getattr(unet, "peft_config", {}):
        for module in unet.modules():
            if isinstance(module, BaseTunerLayer):
                module.delete_adapter(name)
        del unet.peft_config[name]


def _unet(pipeline: Any) -> nn.Module:
    return getattr(pipeline, "unet", pipeline)
