"""Stable Diffusion pipelines from a local folder (or the hub's local cache), every part checked before it is loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from ..errors import FiltersubError

INDEX_FILE = "model_index.json"
_WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
_CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}


def load_pipeline(
    name: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    download: bool = False,
) -> Any:
    """A StableDiffusionPipeline in evaluation mode, without its safety checker.

    Parameters
    ----------
    name : folder in the form that save_pretrained writes (safetensors), or a name of the hub, which is taken from the
        hub's local cache; ``download`` allows fetching it

    Raises FiltersubError naming the missing parts of a folder, damaged ones, and a UNet and VAE whose numbers of latent
    channels disagree.
    """
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    if Path(name).exists() or Path(name).is_absolute() or str(name).startswith((".", "~")):
        check_pipeline_folder(Path(name).expanduser())
    logging.disable_progress_bar()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            Path(name).expanduser() if Path(name).exists() else name,
            torch_dtype=dtype,
            use_safetensors=True,
            safety_checker=None,
            requires_safety_checker=False,
            local_files_only=Path(name).exists() or not download,
        )
    except Exception as error:  # diffusers, transformers and the hub raise many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        fetch = f"; give a local folder, or fetch it into the cache first: hf download {name}"
        hint = "" if Path(name).exists() else fetch
        raise FiltersubError(f"no pipeline could be loaded from {name}: {reason[:200]}{hint}") from None
    _check_channels(pipeline, name)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def check_pipeline_folder(folder: Path) -> None:
    """Raises FiltersubError that names every missing or unreadable part of a pipeline's folder."""
    if not folder.is_dir():
        raise FiltersubError(f"no folder of a pipeline at {folder}")
    index = folder / INDEX_FILE
    if not index.is_file():
        raise FiltersubError(f"{folder} is no pipeline of diffusers: {INDEX_FILE} is missing")
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
        listed = {
            key for key, value in parts.items() if not key.startswith("_") and isinstance(value, list) and value[0]
        }
    except (OSError, ValueError, IndexError, AttributeError) as error:
        raise FiltersubError(f"{index} is not readable: {error}") from None
    missing = [f"{part} (not in {INDEX_FILE})" for part in _CONFIGS if part not in listed]
    for part in (part for part in _CONFIGS if part in listed):
        if not (folder / part / _CONFIGS[part]).is_file():
            missing.append(f"{part}/{_CONFIGS[part]}")
        if part in _WEIGHTS and not _has_weights(folder / part, _WEIGHTS[part]):
            missing.append(f"{part}/{_WEIGHTS[part]}")
    if missing:
        raise FiltersubError(f"{folder} lacks parts of a pipeline: {', '.join(missing)}")


def training_scheduler(pipeline: Any) -> Any:
    """The noise that the pipeline was trained with, as a DDPMScheduler."""
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(pipeline.scheduler.config)


def _has_weights(folder: Path, name: str) -> bool:
    """The one file, or the index of several."""
    return (folder / name).is_file() or (folder / f"{name}.index.json").is_file()


def _check_channels(pipeline: Any, name: object) -> None:
    unet, vae = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if unet != vae:
        raise FiltersubError(
            f"{name}: the UNet takes {unet} latent channels, the VAE gives {vae}; they do not belong together"
        )
    width, tokens = pipeline.unet.config.cross_attention_dim, pipeline.text_encoder.config.hidden_size
    if isinstance(width, int) and width != tokens:
        raise FiltersubError(f"{name}: the UNet attends to {width} numbers a token, the text encoder gives {tokens}")
