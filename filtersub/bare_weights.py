"""Kernels among the tensors of a bare file: which they are, by names and shapes, and in which order their sides are
stored.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .errors import FiltersubError, WeightFileWarning, check_name

_KERNEL = re.compile(r"(^|.*[./_])(weight|kernel)(_[ih]h_l\d+\w*)?$")
_OTHER = re.compile(r"token|embed|pos_|position|_table$|mask|bias|query|register|prompt|running_|anchor|freqs", re.I)
LAYOUTS = ("auto", "torch", "keras", "mlx")
_FORMATS = {"onnx": "torch", "mlx": "mlx", "flax": "keras", "tf": "keras", "keras": "keras", "tensorflow": "keras"}
_KERAS_NAME = re.compile(r"(^|.*[./_])(depthwise_)?kernel(:0)?$")


def kernels_by_name(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that can be kernels: of two dimensions or more, no side empty, not named otherwise.

    In a file whose kernels are called ``weight``, tensors of three dimensions or more with other names are none (class
    tokens, tables of positions), nor are those that are named like such a table in any file.
    """
    matrices = {name: tensor for name, tensor in tensors.items() if tensor.ndim >= 2}
    usual = any(_KERNEL.match(name) for name in matrices)

    def is_kernel(name: str, tensor: Tensor) -> bool:
        if not tensor.numel():
            return False
        if _KERNEL.match(name):
            return True
        return not _OTHER.search(re.split(r"[./]", name)[-1]) and not (usual and tensor.ndim > 2)

    return {name: tensor for name, tensor in matrices.items() if is_kernel(name, tensor)}


def left_out(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of matrices and larger tensors that are taken for no kernels."""
    kept = kernels_by_name(tensors)
    return [name for name, tensor in tensors.items() if tensor.ndim >= 2 and name not in kept]


def unlike_torch(tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """(layout, name of a kernel) where most 4-d kernels look like Keras' or MLX's, whose sides stand in other orders.

    A kernel votes for the layouts in which its two sides are equal. The file is suspicious where torch has fewer votes
    than another layout, and some kernel would be an odd one in torch: of two unequal sides, both above 1 or one large.
    """
    votes, odd = {"torch": 0, "keras": 0, "mlx": 0}, None
    for name, tensor in kernels_by_name(tensors).items():
        if tensor.ndim != 4:
            continue
        a, b, c, d = tensor.shape
        square = c == d and (c <= 11 or a != b)
        votes["torch"] += square
        votes["keras"] += a == b <= 11
        votes["mlx"] += b == c <= 11
        if not square and (min(c, d) > 1 or max(c, d) > 11):
            odd = odd or name
    likely = max(("keras", "mlx"), key=votes.__getitem__)
    return (likely, odd) if odd is not None and votes[likely] > votes["torch"] else None


def in_torch_layout(tensors: Mapping[str, Tensor], layout: str, stated: str, file: Path) -> dict[str, Tensor]:
    """The tensors with kernels as torch stores them; see load_weight_file.

    Parameters
    ----------
    stated : the format that the file's metadata names, "" for none
    """
    check_name("layout of kernels", layout, LAYOUTS)
    if layout == "auto":
        layout = _FORMATS.get(stated.lower(), "by name")
    found: dict[str, Tensor] = {}
    turned: list[str] = []
    for name, tensor in tensors.items():
        asked = ("keras" if _is_keras(name, tensor) else "torch") if layout == "by name" else layout
        kept, plain = _turned(name, tensor, asked)
        found[plain] = kept
        turned += [] if kept is tensor else [name]
    if layout == "by name" and (odd := unlike_torch(found)):
        likely, name = odd
        order = "(height, width, in, out) of Keras or Flax" if likely == "keras" else "(out, height, width, in) of MLX"
        raise FiltersubError(
            f"{file} has {name} of shape {tuple(found[name].shape)}, which looks like {order}, not like torch's (out, "
            f"in, height, width); say --layout {likely}, or --layout torch if it is torch's (layout=... in Python)"
        )
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
