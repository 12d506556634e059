"""Fingerprints of matrices: a few float64 sums that tell whether two are the same, order and sign included."""

import math

import torch
from torch import Tensor

_ENTRIES = 30_000  # turned into float64 at once: they stay in the cache, and torch takes one thread for so few


def fingerprint(matrix: Tensor) -> Tensor:
    """(n_columns,) float64: the rows of a matrix summed with fixed weights, which neither order nor sign survives.

    The weights are cosines of the row number, so they are the same everywhere. Compare with same_fingerprint. On the
    meta device only the shape is made.
    """
    if matrix.device.type == "meta":
        return torch.empty(matrix.shape[1], dtype=torch.float64, device="meta")
    total = torch.zeros(matrix.shape[1], dtype=torch.float64, device=matrix.device)
    step = max(1, _ENTRIES // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], step):
        part = matrix[start : start + step].double()
        numbers = torch.arange(start, start + part.shape[0], dtype=torch.float64, device=matrix.device)
        total += torch.cos_(numbers.mul_(math.pi * (math.sqrt(5) - 1)).add_(0.5)) @ part
    return total


def same_fingerprint(one: Tensor, other: Tensor, relative: float = 1e-3) -> bool:
    """Whether two fingerprints agree up to rounding that differs between machines, but not between base weights."""
    return one.shape == other.shape and fingerprint_gap(one, other) <= relative


def tolerance(dtype: torch.dtype) -> float:
    """How far fingerprints of the same weights may lie apart when one side holds them in ``dtype``.

    Weights rounded to half precision move a fingerprint by about the precision's own step; other base weights by its
    whole length.
    """
    return max(1e-3, 4 * torch.finfo(dtype).eps)


def fingerprint_gap(one: Tensor, other: Tensor) -> float:
    """||one - other|| over the larger of their norms; 0 where both are zero."""
    one, other = one.double().cpu(), other.double().cpu()
    largest = float(torch.maximum(one.norm(), other.norm()))
    return float((one - other).norm()) / largest if largest > 0 else 0.0
