"""Images in the IDX files of MNIST and the sets in its form: a header of big-endian numbers, then bytes, compressed."""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np

from ..errors import FiltersubError, reason
from .images import PixelImages, Source

_PARTS = {"train": "train", "test": "t10k"}
_BYTES = 0x08  # the type that MNIST's files have


def open_idx(folder: Path, n_classes: int) -> Source:
    """Training and test images of the four files ``train-images-idx3-ubyte.gz``, ..., ``t10k-labels-idx1-ubyte.gz``.

    Raises FiltersubError where a file is missing or damaged, counts differ, or a label is out of range.
    """
    return Source(n_classes, **{part: _part(folder, part, name, n_classes) for part, name in _PARTS.items()})


def _part(folder: Path, part: str, name: str, n_classes: int) -> PixelImages:
    files = folder / f"{name}-images-idx3-ubyte.gz", folder / f"{name}-labels-idx1-ubyte.gz"
    pixels, labels = _read(files[0], 3), _read(files[1], 1).astype(np.int64)
    if len(pixels) != len(labels):
        raise FiltersubError(f"{files[0]} has {len(pixels)} images and {files[1].name} {len(labels)} labels")
    if len(labels) and labels.max() >= n_classes:
        raise FiltersubError(f"{files[1]} has labels up to {labels.max()}; 0 to {n_classes - 1} are expected")
    grey = np.broadcast_to(pixels[..., None], (*pixels.shape, 3))  # a view: the channels share their memory
    return PixelImages("training" if part == "train" else part, grey, labels)


def _read(path: Path, dimensions: int) -> np.ndarray:
    """The array (n, ...) of bytes in a file: 0, 0, type, number of dimensions; each size in four bytes; the bytes."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise FiltersubError(f"cannot read {path}: {reason(error)}; put the published file there") from None
    start = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if content[:4] != bytes([0, 0, _BYTES, dimensions]) or len(content) != start + prod(shape):
        raise FiltersubError(f"{path} is no IDX file of bytes in {dimensions} dimensions; put the published file there")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
