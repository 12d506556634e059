"""What VAE and text encoder make of a data set, computed once and cached: neither runs while the UNet trains."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import FiltersubError
from ..files import atomic_write
from ..image_reading import READING_RULES, read_image
from ..metrics.features import weight_digest
from ..metrics.images import fitted
from .captions import CaptionedImages
from .settings import DenoisingSet


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
    file = None if cache is None else Path(cache) / f"latents-{_digest(pipeline, data, size)}.safetensors"
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
    if file is not None:
        with atomic_write(file) as aside:
            save_file({name: part.contiguous() for name, part in vars(found).items()}, aside)
    return found


@torch.no_grad()
def embed_prompts(pipeline: Any, prompts: Sequence[str], batch_size: int = 64) -> Tensor:
    """(k, length, width) float32: the text encoder's last hidden states, as the pipeline itself uses them."""
    tokenizer, encoder, done = pipeline.tokenizer, pipeline.text_encoder, []
    for start in range(0, len(prompts), batch_size):
        tokens = tokenizer(
            list(prompts[start : start + batch_size]),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        done.append(encoder(tokens.input_ids.to(encoder.device))[0].float().cpu())
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
