"""Stable Diffusion pipelines from a local folder (or the hub's local cache), every part checked before it is loaded;
what their VAE and text encoder make of a data set, computed once and cached: neither runs while the UNet trains.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import FiltersubError, reason
from ..files import as_path, atomic_write, read_json
from ..image_reading import READING_RULES, read_image
from ..metrics.features import weight_digest
from ..metrics.images import fitted
from ..schema import check
from .captions import CaptionedImages
from .settings import DenoisingSet

INDEX_FILE = "model_index.json"
#: part of a pipeline -> the files that its folder must hold
_PARTS = {
    "unet": ("config.json", "diffusion_pytorch_model.safetensors"),
    "vae": ("config.json", "diffusion_pytorch_model.safetensors"),
    "text_encoder": ("config.json", "model.safetensors"),
    "tokenizer": ("tokenizer_config.json",),
    "scheduler": ("scheduler_config.json",),
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

    path = as_path(name)
    if path.exists() or path.is_absolute() or str(name).startswith((".", "~")):
        check_pipeline_folder(path.expanduser())
    logging.disable_progress_bar()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            path.expanduser() if path.exists() else name,
            torch_dtype=dtype,
            use_safetensors=True,
            safety_checker=None,
            requires_safety_checker=False,
            local_files_only=path.exists() or not download,
        )
    except Exception as error:  # diffusers, transformers and the hub raise many kinds
        fetch = f"; give a local folder, or fetch it into the cache first: hf download {name}"
        hint = "" if path.exists() else fetch
        raise FiltersubError(f"no pipeline could be loaded from {name}: {reason(error)}{hint}") from None
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
        content = read_json(index)
    except (OSError, ValueError) as error:
        raise FiltersubError(f"{index} is not readable: {reason(error)}") from None
    parts = check(dict[str, JsonValue], content, str(index))
    listed = {key for key, value in parts.items() if not key.startswith("_") and isinstance(value, list) and any(value)}
    missing = []
    for part, files in _PARTS.items():
        if part not in listed:
            missing.append(f"{part} (not in {INDEX_FILE})")
        else:
            missing += [f"{part}/{file}" for file in files if not _is_there(folder / part / file)]
    if missing:
        raise FiltersubError(f"{folder} lacks parts of a pipeline: {', '.join(missing)}")


def training_scheduler(pipeline: Any) -> Any:
    """The noise that the pipeline was trained with, as a DDPMScheduler."""
    from diffusers import DDPMScheduler

    return DDPMScheduler.from_config(pipeline.scheduler.config)


def _is_there(file: Path) -> bool:
    """The one file, or the index of several."""
    return file.is_file() or file.with_name(f"{file.name}.index.json").is_file()


def _check_channels(pipeline: Any, name: object) -> None:
    unet, vae = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if unet != vae:
        raise FiltersubError(
            f"{name}: the UNet takes {unet} latent channels, the VAE gives {vae}; they do not belong together"
        )
    width, tokens = pipeline.unet.config.cross_attention_dim, pipeline.text_encoder.config.hidden_size
    if isinstance(width, int) and width != tokens:
        raise FiltersubError(f"{name}: the UNet attends to {width} numbers a token, the text encoder gives {tokens}")


@torch.no_grad()
def encode_images(
    pipeline: Any,
    data: CaptionedImages,
    *,
    size: int = 256,
    batch_size: int = 8,
    cache: str | os.PathLike[str] | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> DenoisingSet:
    """Latents (means and deviations of the VAE's posterior, scaled) of every image, embeddings of every prompt.

    Parameters
    ----------
    size : pixels a side; the shorter side is brought to it (Lanczos), the centre cut out
    cache : folder of the file that holds them; it is used again while VAE, text encoder, images and size are the same
    on_image : called with (images done, images in all)

    Raises FiltersubError when the size is no multiple of the VAE's step, and on images that cannot be read.
    """
    step = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    if size < step or size % step:
        raise FiltersubError(f"the image size must be a multiple of {step} (the VAE's step), got {size}")
    file = None if cache is None else as_path(cache) / f"latents-{_digest(pipeline, data, size)}.safetensors"
    if file is not None and file.exists():
        return _read(file)
    vae, scale = pipeline.vae, pipeline.vae.config.scaling_factor
    means, deviations = [], []
    for start in range(0, len(data), batch_size):
        pixels = torch.stack([_pixels(path, size) for path in data.files[start : start + batch_size]])
        posterior = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
        means.append((posterior.mean * scale).float().cpu())
        deviations.append((posterior.std * scale).float().cpu())
        if on_image is not None:
            on_image(start + len(pixels), len(data))
    texts = list(dict.fromkeys(["", *data.distinct]))
    places = {text: place for place, text in enumerate(texts)}
    found = DenoisingSet(
        torch.cat(means),
        torch.cat(deviations),
        torch.tensor([places[prompt] for prompt in data.prompts]),
        embed_prompts(pipeline, texts),
    )
    found = DenoisingSet(**{name: part.contiguous() for name, part in vars(found).items()})
    if file is None:
        return found
    with atomic_write(file) as aside:
        save_file(vars(found), aside)
    return _read(file)  # as a run that goes on reads it: numbers that lie otherwise in memory are summed otherwise


@torch.no_grad()
def embed_prompts(pipeline: Any, prompts: Sequence[str], batch_size: int = 64) -> Tensor:
    """(k, length, width) float32: the text encoder's last hidden states, as the pipeline itself uses them."""
    done = []
    for start in range(0, len(prompts), batch_size):
        part = list(prompts[start : start + batch_size])
        done.append(pipeline.encode_prompt(part, pipeline.device, 1, False)[0].float().cpu())
    return torch.cat(done)


def _pixels(path: Path, size: int) -> Tensor:
    """(3, size, size) in -1..1."""
    image = fitted(read_image(path), size)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


def _digest(pipeline: Any, data: CaptionedImages, size: int) -> str:
    found = hashlib.sha256(f"{size}|{READING_RULES}".encode())
    for part in (pipeline.vae, pipeline.text_encoder):
        found.update(weight_digest(part).encode())
    for path, prompt in zip(data.files, data.prompts, strict=True):
        state = path.stat()
        found.update(f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}|{prompt}\n".encode())
    return found.hexdigest()[:24]


def _read(file: Path) -> DenoisingSet:
    try:
        return DenoisingSet(**load_file(file))
    except (SafetensorError, OSError, TypeError) as error:
        raise FiltersubError(f"{file} holds no latents ({error}); remove it to make them anew") from None
