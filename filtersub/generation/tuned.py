"""What a run trained, saved and put into a pipeline again: an adapter, loralib's factors, or the whole UNet."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import FiltersubError
from ..files import atomic_write, make_folder
from ..methods.low_rank import loralib_factors, put_loralib_
from .adapters import CONFIG_FILE, WEIGHTS_FILE, load_adapter, save_adapter

UNET_CONFIG, UNET_WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
LORALIB_WEIGHTS = "loralib.safetensors"


def save_tuned(unet: nn.Module, method: str, folder: Path) -> int:
    """Writes what the method trained, kB to MB for adapters, the whole UNet for full tuning; its size in bytes."""
    if method == "full":
        unet.save_pretrained(folder, safe_serialization=True)
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
    source = Path(folder)
    if (source / LORALIB_WEIGHTS).is_file():
        put_loralib_(pipeline.unet, _factors(source / LORALIB_WEIGHTS), str(source))
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


def _factors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise FiltersubError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def _loaded(kind: type[nn.Module], folder: Path, instead_of: nn.Module) -> nn.Module:
    try:
        unet = kind.from_pretrained(folder, torch_dtype=instead_of.dtype, use_safetensors=True, local_files_only=True)
    except Exception as error:  # diffusers raises many kinds for damage
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FiltersubError(f"{folder} cannot be read as a UNet: {reason[:200]}") from None
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
        raise FiltersubError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None
    wanted = {name: tuple(value.shape) for name, value in unet.state_dict().items()}
    differing = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    if differing:
        name = differing[0]
        raise FiltersubError(
            f"{folder} does not fit this UNet: {name} is {found.get(name, 'missing')} there, "
            f"{wanted.get(name, 'missing')} here"
        )
