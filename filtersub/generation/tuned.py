"""What a run trains in a pipeline, put into it, saved and read again: an adapter, loralib's factors, or the whole
UNet."""

import hashlib
import os
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from peft import PeftConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ..errors import FiltersubError, check_name, reason
from ..files import as_path, atomic_write, give_usual_mode, make_folder
from ..kernels import check_model
from ..methods import Injected, inject
from ..methods.low_rank import loralib_factors, put_loralib_
from ..settings import check_kind
from ..weight_file import stored_tensors
from .settings import MethodSettings

UNET_CONFIG, UNET_WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
LORALIB_WEIGHTS = "loralib.safetensors"
WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."  # as peft names a wrapped model's tensors: PeftModel.from_pretrained reads them too


def inject_method(unet: nn.Module, settings: MethodSettings) -> Injected:
    """Freeze the network and make what the method trains trainable, in place; initial updates follow the seed.

    Raises FiltersubError when no layer matches, or none has the rank of a low-rank method.
    """
    check_kind("settings", settings, MethodSettings)
    check_model(unet)
    set_seed(settings.seed)
    unet.requires_grad_(settings.method == "full")
    if settings.method == "none":
        return Injected(unet, total=sum(p.numel() for p in unet.parameters()))
    chosen = {"recipe": settings.recipe, "options": settings.options, "layers": f"^(?:{settings.pattern})$"}
    found = inject(unet, settings.method, None, **chosen)
    if settings.method != "full":
        unet._hf_peft_config_loaded = True  # diffusers' own mark: its set_adapter, disable_adapters then work
    return found


def save_tuned(unet: nn.Module, method: str, folder: Path) -> int:
    """Writes what the method trained, kB to MB for adapters, the whole UNet for full tuning; its size in bytes."""
    if method == "full":
        unet.save_pretrained(folder, safe_serialization=True)
        give_usual_mode(*folder.glob("*.safetensors"))
    elif method == "lora-loralib":
        with atomic_write(make_folder(folder) / LORALIB_WEIGHTS) as aside:
            save_file(loralib_factors(unet), aside)
    elif method != "none":
        save_adapter(unet, folder)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def load_tuned(pipeline: Any, folder: str | os.PathLike[str]) -> str:
    """Make the pipeline draw as the run that wrote ``folder`` did, in place.

    Parameters
    ----------
    folder : an adapter (see load_adapter); factors of loralib's form, which are added to the UNet's weights; or a UNet
        as save_pretrained writes it, which full tuning leaves behind

    Returns a digest of the weights, which tells what was loaded from another.

    Raises FiltersubError when the folder is none of them, and when it does not fit the pipeline's UNet, naming what
    differs.
    """
    source = as_path(folder)
    if (source / LORALIB_WEIGHTS).is_file():
        put_loralib_(pipeline.unet, stored_tensors(source / LORALIB_WEIGHTS), str(source))
        return _digest(source / LORALIB_WEIGHTS)
    if (source / CONFIG_FILE).is_file() or not (source / UNET_CONFIG).is_file():
        load_adapter(pipeline, source)
        return _digest(source / WEIGHTS_FILE)
    _check_fits(pipeline.unet, source)
    pipeline.unet = _loaded(type(pipeline.unet), source, pipeline.unet)
    return _digest(source / UNET_WEIGHTS)


def _digest(file: Path) -> str:
    with file.open("rb") as stored:
        return hashlib.file_digest(stored, "sha256").hexdigest()[:16]


def _loaded(kind: type[nn.Module], folder: Path, instead_of: nn.Module) -> nn.Module:
    try:
        unet = kind.from_pretrained(folder, torch_dtype=instead_of.dtype, use_safetensors=True, local_files_only=True)
    except Exception as error:  # diffusers raises many kinds for damage
        raise FiltersubError(f"{folder} cannot be read as a UNet: {reason(error)}") from None
    return unet.to(instead_of.device).eval()


def _check_fits(unet: nn.Module, folder: Path) -> None:
    """Names and shapes, from the head of the file alone."""
    file = folder / UNET_WEIGHTS
    if not file.is_file():
        raise FiltersubError(f"{folder} is no UNet: {UNET_WEIGHTS} missing")
    try:
        with safe_open(file, framework="pt") as stored:
            found = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FiltersubError(f"{file} cannot be read: {reason(error)}") from None
    wanted = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    differing = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    if differing:
        name = differing[0]
        raise FiltersubError(
            f"{folder} does not fit this UNet: {name} is {found.get(name, 'missing')} there, "
            f"{wanted.get(name, 'missing')} here"
        )


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
    unet, folder = _unet(pipeline), as_path(folder)
    if name in getattr(unet, "peft_config", {}):
        raise FiltersubError(f"there is an adapter {name!r} already; choose another name")
    missing = [file for file in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / file).is_file()]
    if missing:
        raise FiltersubError(f"{folder} is no adapter: {', '.join(missing)} missing")
    try:
        config = PeftConfig.from_pretrained(str(folder))
        state = {key.removeprefix(_PREFIX): value for key, value in load_file(folder / WEIGHTS_FILE).items()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise FiltersubError(f"{folder} cannot be read as an adapter: {reason(error)}") from None
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
    for each in names:
        check_name("adapter", each, getattr(unet, "peft_config", {}))
    for module in unet.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(bool(names))
            if names:
                module.set_adapter(names)


def _put(unet: nn.Module, config: PeftConfig, state: dict, name: str, folder: Path) -> None:
    try:
        inject_adapter_in_model(config, unet, name)  # the network keeps its class and its methods
        unet._hf_peft_config_loaded = True
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
