"""Which atoms the kernels use: how many at once, which together, and how much of the energy each atom carries."""

from __future__ import annotations

import pandas as pd
import torch

from ..decomposition import ModelDecomposition
from ..settings import check_whole


def support_table(decomposition: ModelDecomposition) -> pd.DataFrame:
    """Rows by how many atoms they use: name, nonzeros (0 to n_atoms), rows, fraction (of the layer's rows)."""
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
