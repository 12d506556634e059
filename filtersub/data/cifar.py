"""CIFAR-100 in its author's files, unpickled by a reader that makes arrays, numbers, text and nothing else.

The files are pickles, and a pickle may name any function to call. torchvision unpickles them freely once their MD5 sums
match. Here every file, whatever its sum, is read by an unpickler that knows the few names that arrays need.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.datasets import CIFAR100
from torchvision.datasets.utils import calculate_md5

from ..errors import FiltersubError, reason
from .images import PixelImages, Source
from .problems import Problem

_SIDE = 32
#: (name, MD5 sum) of each file, as torchvision has them
_FILES = {"train": CIFAR100.train_list[0], "test": CIFAR100.test_list[0]}
_FILES["classes"] = (CIFAR100.meta["filename"], CIFAR100.meta["md5"])
_ALLOWED = (
    *("numpy.ndarray", "numpy.dtype", "numpy._core.multiarray._reconstruct", "numpy._core.multiarray.scalar"),
    *("numpy._core.numeric._frombuffer", "_codecs.encode"),
)


def open_cifar100(folder: Path) -> Source:
    """Training and test images (n, 32, 32, 3). Raises FiltersubError where a file is missing, damaged or suspicious."""
    parts = {part: _images(folder / _FILES[part][0], part) for part in ("train", "test")}
    classes = tuple(_read(folder / _FILES["classes"][0]).get("fine_label_names", ()))
    problems = []  # files that are not the published ones are worth knowing, since any figure refers to those
    for part, (name, published) in _FILES.items():
        own = calculate_md5(folder / name)
        if own != published:
            words = f"{part}: {name} is not the published file (MD5 {own}, published {published})"
            problems.append(Problem("checksum", part, 1, words, (name,), fatal=False))
    return Source(100, **parts, classes=classes, problems=tuple(problems))


def _images(path: Path, part: str) -> PixelImages:
    content = _read(path)
    try:
        pixels = np.asarray(content["data"]).reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)
        labels = np.asarray(content["fine_labels"], dtype=np.int64)
        if pixels.dtype != np.uint8 or len(pixels) != len(labels):
            raise ValueError(f"{len(pixels)} images of type {pixels.dtype} with {len(labels)} labels")
    except (KeyError, ValueError, TypeError) as error:
        raise FiltersubError(f"{path} does not hold CIFAR-100's images: {error}") from None
    if len(labels) and not (labels.min() >= 0 and labels.max() < 100):
        raise FiltersubError(f"{path} has labels from {labels.min()} to {labels.max()}; CIFAR-100 has 0 to 99")
    return PixelImages(f"{part}ing" if part == "train" else part, np.ascontiguousarray(pixels), labels)


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except FiltersubError:
        raise
    except OSError as error:
        raise FiltersubError(f"cannot read {path}: {reason(error)}; unpack the archive again") from None
    except Exception as error:  # a damaged pickle fails in many ways
        raise FiltersubError(f"{path} is damaged ({type(error).__name__}); unpack the archive again") from None
    if not isinstance(content, dict):
        raise FiltersubError(f"{path} holds a {type(content).__name__}, not CIFAR-100's table")
    return content


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        today = module.replace("numpy.core", "numpy._core")
        if f"{today}.{name}" not in _ALLOWED:
            words = "which no array needs; it is not the published file, delete it and unpack the archive again"
            raise FiltersubError(f"a file of CIFAR-100 asks for {module}.{name}, {words}")
        return super().find_class(today, name)
