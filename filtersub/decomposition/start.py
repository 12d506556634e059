"""What a layer starts from without learning it: atoms out of a file, or coefficients drawn at random."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import FiltersubError
from ..sparse_coding.linear import second_moment


def read_start(path: str, name: str, shape: tuple[int, int], *, dictionary: str | None = None) -> Tensor:
    """The atoms (n_atoms, d) that a file has for layer ``name``, or for the shared ``dictionary`` that it learns.

    The tensor is the layer's own, ``NAME.atoms``, or the shared dictionary that the file says the layer had, or
    ``atoms``, which any layer may start from.

    Raises FiltersubError when the file is missing or no safetensors, when it has nothing for the layer, and on atoms of
    another shape, that are not finite, or zero.
    """
    if not Path(path).is_file():
        raise FiltersubError(f"no file of atoms at {path}")
    whose = f"layer {name!r}" if dictionary is None else f"the dictionary {dictionary!r}"
    try:
        with safe_open(path, framework="pt") as file:
            known = json.loads((file.metadata() or {}).get("layers", "{}"))
            title = dictionary or known.get(name, {}).get("dictionary")
            wanted = [f"{name}.atoms"] if dictionary is None else []
            wanted += [f"dictionary:{title}.atoms", "atoms"]
            found = next((file.get_tensor(key) for key in wanted if key in file.keys()), None)  # noqa: SIM118
    except Exception as error:  # the reader, JSON and the header each raise classes of their own
        raise FiltersubError(f"{path} cannot be read as a file of atoms: {error}") from None
    if found is None:
        raise FiltersubError(f"the atoms of {path} do not fit: it has none for {whose} (no {wanted[0]!r}, no 'atoms')")
    if tuple(found.shape) != shape:
        raise FiltersubError(
            f"the atoms of {path} do not fit {whose}: they are {' x '.join(map(str, found.shape))}, and {shape[0]} of "
            f"{shape[1]} numbers are wanted"
        )
    atoms = found.double()
    if not bool(torch.isfinite(atoms).all()) or not bool(atoms.norm(dim=1).all()):
        raise FiltersubError(f"the atoms of {path} for {whose} hold NaN, infinity or an atom of zeros")
    return atoms


def drawn_codes(rows: Tensor, n_atoms: int, seed: int) -> Tensor:
    """Random coefficients (n_rows, n_atoms) for a kernel matrix (n_rows, d), in its dtype.

    Their Frobenius norm is that of the principal coefficients of min(n_atoms, d) atoms, so that an update
    ``alpha x dD`` has about the size that it has with those, and one learning rate suits both. The seed and the shapes
    determine the entries (numpy's PCG64), whatever the layer is called: layers of one shape have the same ones up to
    their scale.
    """
    numbers = np.random.default_rng([seed, *rows.shape, n_atoms]).standard_normal((rows.shape[0], n_atoms))
    drawn = torch.from_numpy(numbers).to(rows.device)
    values = torch.linalg.eigvalsh(second_moment(rows)).clamp_min(0)  # rising
    return (drawn * (values[-n_atoms:].sum().sqrt() / drawn.norm())).to(rows.dtype)


def least_squares_atoms(rows: Tensor, codes: Tensor) -> Tensor:
    """D (n_atoms, d) that minimises ``||rows - codes D||_F``, solved in float64."""
    return torch.linalg.lstsq(codes.double(), rows.double()).solution.to(rows.dtype)
