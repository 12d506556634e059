"""Which atoms the kernels use, how much of the energy each carries, and how alike the atoms are."""

import math

import pandas as pd
import torch
from torch import Tensor

from ..decomposition import ModelDecomposition
from ..decomposition.file import check_decomposition
from ..settings import check_whole


def welch_bound(n_atoms: int, size: int) -> float:
    """``sqrt((m - d) / (d (m - 1)))``: no m unit-norm vectors in d dimensions have a smaller coherence.

    Says something for m > d alone; otherwise 0, which orthonormal atoms reach. Welch, IEEE Trans. Inf. Theory 20, 1974.

    >>> welch_bound(4, 4), round(welch_bound(3, 2), 3)
    (0.0, 0.5)

    Raises FiltersubError unless both are whole numbers from 1.
    """
    check_whole("n_atoms", n_atoms, 1)
    check_whole("size", size, 1)
    return math.sqrt((n_atoms - size) / (size * (n_atoms - 1))) if n_atoms > size else 0.0


def correlation_table(decomposition: ModelDecomposition) -> pd.DataFrame:
    """``|<d_i, d_j>|`` of each pair of distinct atoms, normalised: name, first, second, correlation (0 to 1)."""
    check_decomposition(decomposition)
    tables = []
    for name, layer in decomposition.layers.items():
        correlations = _correlations(layer.atoms)
        first, second = torch.triu_indices(*correlations.shape, offset=1)
        values = {"first": first.tolist(), "second": second.tolist(), "correlation": correlations[first, second]}
        tables.append(pd.DataFrame({"name": name, **values}))
    return pd.concat(tables, ignore_index=True)


def coherence_table(decomposition: ModelDecomposition) -> pd.DataFrame:
    """One row a layer: name, atoms, size, pairs, coherence, mean, median, welch_bound, bound_applies.

    ``coherence`` is the largest ``|<d_i, d_j>|`` of two distinct normalised atoms (0 where there is one atom),
    ``mean`` and ``median`` those over all pairs, ``size`` the length d of an atom. ``bound_applies`` where m > d.
    """
    check_decomposition(decomposition)
    found = []
    for name, layer in decomposition.layers.items():
        correlations = _correlations(layer.atoms)
        n_atoms = correlations.shape[0]
        pairs = correlations[tuple(torch.triu_indices(n_atoms, n_atoms, offset=1))]
        values = pairs if pairs.numel() else torch.zeros(1, dtype=torch.float64)
        size = layer.atoms.shape[-1]
        found.append(
            {
                "name": name,
                "atoms": n_atoms,
                "size": size,
                "pairs": pairs.numel(),
                "coherence": float(values.max()),
                "mean": float(values.mean()),
                "median": float(values.quantile(0.5)) if values.numel() < 1 << 24 else float(values.median()),
                "welch_bound": welch_bound(n_atoms, size),
                "bound_applies": n_atoms > size,
            }
        )
    return pd.DataFrame(found)


def _correlations(atoms: Tensor) -> Tensor:
    """|cosine| of all pairs (m, m), float64."""
    flat = atoms.detach().cpu().double()
    unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return (unit @ unit.T).abs().clamp_max(1.0)


def support_table(decomposition: ModelDecomposition) -> pd.DataFrame:
    """Rows by how many atoms they use: name, nonzeros (0 to n_atoms), rows, fraction (of the layer's rows)."""
    check_decomposition(decomposition)
    tables = []
    for name, layer in decomposition.layers.items():
        codes = layer.coefficients.double()
        counts = torch.bincount((codes != 0).sum(1), minlength=codes.shape[1] + 1)
        values = {"name": name, "nonzeros": range(len(counts)), "rows": counts.numpy(force=True)}
        tables.append(pd.DataFrame(values).assign(fraction=lambda table: table["rows"] / table["rows"].sum()))
    return pd.concat(tables, ignore_index=True)


def frequent_supports(decomposition: ModelDecomposition, most: int = 10) -> pd.DataFrame:
    """The supports that most rows share: name, rank (1 is the most frequent), atoms, nonzeros, rows, fraction.

    ``atoms`` lists the atoms' numbers, "0 3 5", empty for rows of zeros. At most ``most`` a layer; supports that are
    equally frequent stand in the order of their atoms.
    """
    check_decomposition(decomposition)
    check_whole("most", most, 1)
    found = []
    for name, layer in decomposition.layers.items():
        support = layer.coefficients != 0
        patterns, counts = torch.unique(support, dim=0, return_counts=True)
        order = counts.argsort(descending=True, stable=True)[:most]
        for rank, (pattern, count) in enumerate(zip(patterns[order], counts[order].tolist(), strict=True), start=1):
            atoms = torch.nonzero(pattern)[:, 0].tolist()
            described = {"name": name, "rank": rank, "atoms": " ".join(map(str, atoms)), "nonzeros": len(atoms)}
            found.append({**described, "rows": count, "fraction": count / support.shape[0]})
    return pd.DataFrame(found, columns=["name", "rank", "atoms", "nonzeros", "rows", "fraction"])


def atom_table(decomposition: ModelDecomposition) -> pd.DataFrame:
    """How much each atom is used: name, atom, rows, usage, energy, energy_fraction.

    ``usage`` is the fraction of the layer's rows whose coefficient of the atom is not zero, 0 for a dead atom.
    ``energy`` is the sum of its squared coefficients times its squared norm (1 where atoms are unit norm), and
    ``energy_fraction`` its part of the sum over atoms; energies of coherent atoms do not add up to the kernel's.
    """
    check_decomposition(decomposition)
    tables = []
    for name, layer in decomposition.layers.items():
        codes = layer.coefficients.double()
        rows = (codes != 0).sum(0)
        energy = codes.square().sum(0) * layer.atoms.double().square().sum(1)
        values = {
            "name": name,
            "atom": range(codes.shape[1]),
            "rows": rows.numpy(force=True),
            "usage": (rows.double() / max(1, codes.shape[0])).numpy(force=True),
            "energy": energy.numpy(force=True),
            "energy_fraction": (energy / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)).numpy(force=True),
        }
        tables.append(pd.DataFrame(values))
    return pd.concat(tables, ignore_index=True)
