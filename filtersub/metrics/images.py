"""Sets of images for a distance: batches of uint8 (n, 3, h, w), of one size and one mode, in a fixed order."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import FiltersubError
from ..files import as_path
from ..image_reading import IMAGE_SUFFIXES, READING_RULES, image_paths, read_image
from ..settings import MOST, MOST_PIXELS, check_whole


@dataclass(frozen=True)
class ImageSet:
    """Images that are read a batch at a time, so that their number costs no memory.

    Attributes
    ----------
    source : a name for messages
    files : in order; empty where ``tensor`` holds the images
    tensor : uint8 (n, 3, h, w), or None
    resize : pixels a side that every file is brought to (shorter side, Lanczos, centre crop), or None: files must then
        agree in size, since resizing alone moves a distance (Parmar et al., arXiv:2104.11222)
    """

    source: str
    files: tuple[Path, ...] = ()
    tensor: Tensor | None = None
    resize: int | None = None

    def __len__(self) -> int:
        return len(self.files) if self.tensor is None else len(self.tensor)

    def batches(self, size: int = 50) -> Iterator[Tensor]:
        """uint8 (at most ``size``, 3, h, w). Raises FiltersubError on unreadable files and mixed sizes or modes."""
        check_whole("batch_size", size, 1, MOST)
        size = int(size)
        if self.tensor is not None:
            yield from self.tensor.split(size)
            return
        first: tuple[Path, tuple[int, int], str] | None = None
        for start in range(0, len(self.files), size):
            arrays = []
            for file in self.files[start : start + size]:
                image = read_image(file)
                if self.resize is not None:
                    image = fitted(image, self.resize)
                else:
                    first = first or (file, image.size, image.info["stored_mode"])
                    _same(first, file, image)
                arrays.append(np.asarray(image))
            yield torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()

    def digest(self) -> str:
        """Tells sets apart: the names, sizes and times of files and how they are resized, or the tensor's content."""
        found = hashlib.sha256(f"{self.resize}|{READING_RULES}".encode())
        for file in self.files:
            state = file.stat()
            found.update(f"{file.resolve()}|{state.st_size}|{state.st_mtime_ns}\n".encode())
        if self.tensor is not None:
            found.update(str(tuple(self.tensor.shape)).encode())
            found.update(self.tensor.contiguous().cpu().numpy().tobytes())
        return found.hexdigest()[:24]


def image_folder(path: str | os.PathLike[str], *, resize: int | None = None, at_most: int | None = None) -> ImageSet:
    """The images below a folder by name; ``at_most`` takes that many, evenly spread over the sorted names.

    Raises FiltersubError when the folder is missing or holds no image.
    """
    root = as_path(path)
    if not root.is_dir():
        raise FiltersubError(f"no folder of images at {root}")
    files = image_paths(root)
    if not files:
        raise FiltersubError(f"{root} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return image_files(files, str(root), resize=resize, at_most=at_most)


def image_files(
    files: Iterable[Path], source: str, *, resize: int | None = None, at_most: int | None = None
) -> ImageSet:
    """These images, each once; ``at_most`` takes that many, evenly spread over their order.

    Raises FiltersubError for sizes and numbers that are no positive whole numbers.
    """
    for name, value, most in (("resize", resize, MOST_PIXELS), ("at_most", at_most, None)):
        if value is not None:
            check_whole(name, value, 1, most)
    kept = list(dict.fromkeys(files))
    if at_most is not None and at_most < len(kept):
        kept = [kept[int(place)] for place in np.linspace(0, len(kept) - 1, at_most)]
    return ImageSet(source, tuple(kept), resize=resize)


def image_tensor(images: Tensor, source: str = "tensor") -> ImageSet:
    """Images as a tensor: uint8 (n, 1 or 3, h, w), grey repeated to three channels. Raises FiltersubError on others."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise FiltersubError(
            f"images must be uint8 of shape (n, 1 or 3, h, w); {source} is {images.dtype} {tuple(images.shape)}"
        )
    return ImageSet(source, tensor=images.expand(-1, 3, -1, -1))


def fitted(image: Image.Image, size: int) -> Image.Image:
    """The shorter side brought to ``size`` by Lanczos, then the centre cut out square."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _same(first: tuple[Path, tuple[int, int], str], file: Path, image: Image.Image) -> None:
    if image.size != first[1]:
        sizes = f"{first[1][0]} x {first[1][1]} ({first[0]}) and {image.size[0]} x {image.size[1]} ({file})"
        raise FiltersubError(f"images of mixed sizes: {sizes}; bring them to one, or ask for a size to resize to")
    mode = image.info["stored_mode"]
    if mode != first[2]:
        raise FiltersubError(
            f"images of mixed modes: {first[2]} ({first[0]}) and {mode} ({file}); convert them to one, "
            "or ask for a size to resize to, which also converts to RGB"
        )
