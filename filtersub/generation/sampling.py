"""Images by a pipeline: one noise a place, the same for every method, written as they are made; and grids of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import FiltersubError
from ..files import atomic_write, make_folder, write_json
from ..folder_lock import locks
from ..settings import check_number, check_whole
from .timesteps import check_sampling_steps

_SAMPLES_FILE = "samples.json"


@locks("folder")
def sample_images(
    pipeline: Any,
    prompts: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    steps: int = 50,
    guidance: float = 7.5,
    size: int = 256,
    batch_size: int = 8,
    identity: str = "",
    on_image: Callable[[int, int], None] | None = None,
) -> Path:
    """One PNG a prompt into ``folder`` (00000.png, ...); images that are there already are kept.

    Image n starts from noise drawn on the CPU by seed + n, whatever the method, the batch and the device; samplers that
    add noise on the way (ancestral ones) draw it from the same place.

    Parameters
    ----------
    guidance : weight of the prompt (classifier-free guidance); 1 is none
    identity : what made the images; a folder of other ones is refused

    Raises FiltersubError as check_sampling does, when the folder holds images of other settings, and when an image
    comes out not finite.
    """
    check_sampling(pipeline, steps=steps, guidance=guidance, size=size, seed=seed, batch_size=batch_size)
    target = make_folder(folder)
    asked = {"prompts": list(prompts), "seed": seed, "steps": steps, "guidance": guidance, "size": size}
    _check_same(target, {**asked, "identity": identity})
    files = [target / f"{place:05d}.png" for place in range(len(prompts))]
    missing = [place for place, file in enumerate(files) if not file.exists()]
    step = pipeline.vae_scale_factor
    shape = (pipeline.unet.config.in_channels, size // step, size // step)
    for start in range(0, len(missing), batch_size):
        places = missing[start : start + batch_size]
        own = [torch.Generator().manual_seed(seed + place) for place in places]  # of each image, to its last step
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in own])
        arrays = pipeline(
            [prompts[place] for place in places],
            latents=noise.to(pipeline.device, pipeline.unet.dtype),
            generator=own,
            num_inference_steps=steps,
            guidance_scale=guidance,
            height=size,
            width=size,
            output_type="np",
        ).images
        if not np.isfinite(arrays).all():
            raise FiltersubError(f"images {places[0]} to {places[-1]} are not finite; use another precision or adapter")
        for place, array in zip(places, arrays, strict=True):
            save_png(torch.from_numpy((array * 255).round().astype(np.uint8)).permute(2, 0, 1), files[place])
        if on_image is not None:
            on_image(len(prompts) - len(missing) + start + len(places), len(prompts))
    return target


def check_sampling(pipeline: Any, *, steps: int, guidance: float, size: int, seed: int, batch_size: int) -> None:
    """Raises FiltersubError for settings that sample_images could not draw with; to be asked before a training."""
    check_sampling_steps(pipeline.scheduler, steps)
    check_number("guidance", guidance)
    check_whole("the batch of images drawn at once", batch_size, 1)
    check_whole("the seed of the first image", seed, 0, 2**62)
    step = pipeline.vae_scale_factor
    if size < step or size % step:
        raise FiltersubError(f"the image size must be a multiple of {step} (the VAE's step), got {size}")


def save_png(image: Tensor, file: Path) -> None:
    """A uint8 image (1 or 3, h, w), lossless: JPEG moves a Fréchet distance (Parmar et al., arXiv:2104.11222)."""
    array = image.permute(1, 2, 0).numpy()
    with atomic_write(file) as aside:
        Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(aside, format="PNG")


def grid(images: Tensor, columns: int = 8) -> Tensor:
    """uint8 images (n, c, h, w) as one (c, rows h, columns w), row by row; what is left over stays white."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    padded = torch.full((rows * columns, channels, height, width), 255, dtype=torch.uint8)
    padded[:count] = images
    tiled = padded.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return tiled.reshape(channels, rows * height, columns * width)


def _check_same(folder: Path, asked: dict[str, Any]) -> None:
    file = folder / _SAMPLES_FILE
    if file.exists():
        try:
            same = json.loads(file.read_text(encoding="utf-8")) == asked
        except ValueError:
            same = False
        if not same:
            raise FiltersubError(f"{folder} holds samples of other settings; choose another folder, or remove it")
    write_json(file, asked)
