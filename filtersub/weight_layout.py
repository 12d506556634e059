"""Kernels among the tensors of a bare file: which names are kernels, and in which order their sides are stored."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .bare_weights import unlike_torch
from .errors import FiltersubError, WeightFileWarning

LAYOUTS = ("auto", "torch", "keras", "mlx")
_FORMATS = {"mlx": "mlx", "flax": "keras", "tf": "keras", "keras": "keras", "tensorflow": "keras"}
_KERAS_NAME = re.compile(r"(^|.*[./_])(depthwise_)?kernel(:0)?$")


def in_torch_layout(tensors: Mapping[str, Tensor], layout: str, stated: str, file: Path) -> dict[str, Tensor]:
    """The tensors with kernels as torch stores them; see load_weight_file.

    Parameters
    ----------
    stated : the format that the file's metadata names, "" for none
    """
    if layout not in LAYOUTS:
        raise FiltersubError(f"unknown layout {layout!r} of kernels; known: {', '.join(LAYOUTS)}")
    if layout == "auto":
        layout = _FORMATS.get(stated.lower(), "by name")
    found: dict[str, Tensor] = {}
    turned: list[str] = []
    for name, tensor in tensors.items():
        asked = ("keras" if _is_keras(name, tensor) else "torch") if layout == "by name" else layout
        kept, plain = _turned(name, tensor, asked)
        found[plain] = kept
        turned += [] if kept is tensor else [name]
    if layout == "by name":
        _check_sides(found, file)
    if turned:
        what = "Keras or Flax" if layout != "mlx" else "MLX"
        warnings.warn(
            f"{file}: {len(turned)} kernels are read in the layout of {what} ({turned[0]} for one)",
            WeightFileWarning,
            stacklevel=3,
        )
    return found


def _is_keras(name: str, tensor: Tensor) -> bool:
    """Whether Keras and Flax would name a kernel so, and its shape does not speak against it."""
    if not _KERAS_NAME.match(name):
        return False
    if tensor.ndim == 4:  # a blur of (c, 1, 3, 3) is called kernel too
        a, b, c, d = tensor.shape
        return not (c == d and a != b)
    return tensor.ndim != 3 or tensor.shape[0] <= min(tensor.shape[1:])


def _turned(name: str, tensor: Tensor, layout: str) -> tuple[Tensor, str]:
    named = _KERAS_NAME.match(name) is not None
    if layout == "torch" or tensor.ndim < (2 if named else 3) or not tensor.is_floating_point():
        return tensor, name  # a matrix that is not called kernel may be an embedding
    plain = re.sub(r"[./_]?(depthwise_)?kernel(:0)?$", ".weight", name).lstrip(".")
    if layout == "mlx":
        return (tensor if tensor.ndim == 2 else tensor.movedim(-1, 1).contiguous()), name
    if "depthwise_kernel" in name:  # (height, width, in, multiplier): one kernel for each input and multiplier
        return tensor.movedim((-2, -1), (0, 1)).flatten(0, 1).unsqueeze(1).contiguous(), plain
    return tensor.movedim((-1, -2), (0, 1)).contiguous(), plain


def _check_sides(tensors: Mapping[str, Tensor], file: Path) -> None:
    found = unlike_torch(tensors)
    if found is None:
        return
    layout, name = found
    order = "(height, width, in, out) of Keras or Flax" if layout == "keras" else "(out, height, width, in) of MLX"
    raise FiltersubError(
        f"{file} has {name} of shape {tuple(tensors[name].shape)}, which looks like {order}, not like torch's "
        f"(out, in, height, width); say --layout {layout}, or --layout torch if it is torch's (layout=... in Python)"
    )
