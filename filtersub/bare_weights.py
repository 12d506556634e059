"""Which tensors of a bare file of weights are kernels of layers, by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_KERNEL = re.compile(r"(^|.*[./_])(weight|kernel)(_[ih]h_l\d+\w*)?$")
_OTHER = re.compile(r"token|embed|pos_|position|_table$|mask|bias|query|register|prompt|running_|anchor|freqs", re.I)


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
