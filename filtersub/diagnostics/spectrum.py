"""A decomposition beside the best that any atoms of that number could do, and where the energy went."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from ..decomposition import ModelDecomposition
from .kernels import rows_and_rebuilt


def spectrum_table(model: nn.Module | Mapping[str, Tensor], decomposition: ModelDecomposition) -> pd.DataFrame:
    """The spectrum of each layer's kernel matrix: name, rank (0 to d), singular_value, best_relative_error.

    ``best_relative_error`` is that of the best subspace of this rank, ``sqrt(sum of the squared singular values left
    out / sum of all)`` (Eckart and Young, Psychometrika 1, 1936); ``singular_value`` is the one that joined last, NaN
    at rank 0. Computed from the d x d second moment in float64.
    """
    tables = []
    for name, _, rows, _ in rows_and_rebuilt(model, decomposition):
        squares = _spectrum(rows)
        values = {
            "name": name,
            "rank": range(len(squares) + 1),
            "singular_value": [float("nan"), *squares.sqrt().tolist()],
            "best_relative_error": _errors_by_rank(squares).tolist(),
        }
        tables.append(pd.DataFrame(values))
    return pd.concat(tables, ignore_index=True)


def subspace_table(model: nn.Module | Mapping[str, Tensor], decomposition: ModelDecomposition) -> pd.DataFrame:
    """Where each layer's error comes from: name, atoms, size, relative_error, span_error, best_relative_error.

    ``relative_error`` is the decomposition's, ``span_error`` that of the kernels projected on the span of the same
    atoms (what the atoms allow when coefficients cost nothing), ``best_relative_error`` that of the best subspace of
    min(m, d) dimensions. Each is at least the next: the first step is the price of sparse codes, the second that of the
    atoms.
    """
    found = []
    for name, layer, rows, rebuilt in rows_and_rebuilt(model, decomposition):
        squares = _spectrum(rows)
        n_atoms, size = layer.coefficients.shape[-1], rows.shape[1]
        basis, norm = layer.atoms.to(rows), float(rows.norm()) or 1.0
        projected = rows @ torch.linalg.pinv(basis) @ basis
        found.append(
            {
                "name": name,
                "atoms": n_atoms,
                "size": size,
                "relative_error": float((rows - rebuilt).norm()) / norm,
                "span_error": float((rows - projected).norm()) / norm,
                "best_relative_error": float(_errors_by_rank(squares)[min(n_atoms, size)]),
            }
        )
    return pd.DataFrame(found)


def energy_table(model: nn.Module | Mapping[str, Tensor], decomposition: ModelDecomposition) -> pd.DataFrame:
    """Squared Frobenius norms of each layer: name, kernel_energy, rebuilt_energy, residual_energy, and as fractions
    of the kernel's ``rebuilt_fraction`` and ``residual_fraction``.

    The two fractions add up to 1 where the residual is orthogonal to what was rebuilt (least squares); an L1 penalty
    shrinks the coefficients, and what is missing to 1 is twice the inner product that it leaves.
    """
    found = []
    for name, _, rows, rebuilt in rows_and_rebuilt(model, decomposition):
        energies = [float(part.square().sum()) for part in (rows, rebuilt, rows - rebuilt)]
        scale = energies[0] if energies[0] > 0 else 1.0
        row = dict(zip(("kernel_energy", "rebuilt_energy", "residual_energy"), energies, strict=True))
        fractions = {"rebuilt_fraction": energies[1] / scale, "residual_fraction": energies[2] / scale}
        found.append({"name": name, **row, **fractions})
    return pd.DataFrame(found)


def _spectrum(rows: Tensor) -> Tensor:
    """Squared singular values (d,), falling, none below zero."""
    return torch.linalg.eigvalsh(rows.T @ rows).flip(0).clamp_min(0)


def _errors_by_rank(squares: Tensor) -> Tensor:
    """Relative error of the best subspace of rank 0 to d; the last one is exactly 0."""
    left = torch.cat([squares.flip(0).cumsum(0).flip(0), squares.new_zeros(1)])
    return (left / left[0].clamp_min(torch.finfo(left.dtype).tiny)).sqrt()
