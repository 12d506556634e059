"""What the decomposition of a layer is: atoms and coefficients, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from ..errors import FiltersubError
from ..kernels import KernelLayout
from ..markup import atoms_html, boards, codes_html, explore_hint, facts_html
from ..percentages import percentage
from ..printable import counted
from .expansion import Level, chained_atoms, combine


@dataclass(frozen=True)
class Decomposition:
    """One layer's atoms (n_atoms, d) and coefficients (n_rows, n_atoms), with how they came about.

    Attributes
    ----------
    objective : ``1/2 ||rows - C D||_F^2``, summed over rows, with ``+ l ||C||_1`` where the solver pays a penalty;
        squared_error, squared_norm : of the kernel
    iterations : rounds of dictionary learning; history : the objective after each round on all rows
    levels : the atoms that the atoms are made of, level by level; empty without expansion
    stopped : why the learning stopped; note : what is unusual about the layer (a kernel of zeros, fewer atoms than
        asked for, no coefficient but zero), empty for most
    dictionary : name of the dictionary that the layer shares with others; None where the atoms are its own
    weight_fingerprint : of the kernel matrix, see filtersub.fingerprint
    blocks : the decomposition of the coefficients, ``alpha = alpha_c x D_c``, where the recipe blocks them; its layout
        is that of alpha (c, c', m)
    """

    layout: KernelLayout
    atoms: Tensor
    coefficients: Tensor
    solver: str
    objective: float
    squared_error: float
    squared_norm: float
    iterations: int
    seconds: float
    converged: bool
    history: tuple[float, ...] = field(default=(), repr=False)
    levels: tuple[Level, ...] = field(default=(), repr=False)
    stopped: str = ""
    note: str = ""
    dictionary: str | None = None
    weight_fingerprint: tuple[float, ...] = field(default=(), repr=False)
    blocks: Decomposition | None = field(default=None, repr=False)

    @property
    def relative_error(self) -> float:
        """||F - alpha x D||_F / ||F||_F; 0 for a kernel of zeros."""
        return (self.squared_error / self.squared_norm) ** 0.5 if self.squared_norm > 0 else 0.0

    @property
    def density(self) -> float:
        """Fraction of nonzero coefficients."""
        return int(torch.count_nonzero(self.coefficients)) / max(1, self.coefficients.numel())

    def weight(self, level: int = 0) -> Tensor:
        """The reconstructed weight in the stored shape: ``alpha x D``, or with the chain down to D_level put in."""
        if not 0 <= level <= len(self.levels):
            raise FiltersubError(f"layer {self.layout.name!r} has levels 0 to {len(self.levels)}, got {level!r}")
        atoms = chained_atoms(self.levels[:level]) if level else self.atoms
        return self.layout.to_weight(combine(self.coefficients, atoms))

    def deepest_weight(self, level: int) -> Tensor:
        """``weight(level)``, or that of the last level where the layer has fewer."""
        return self.weight(min(level, len(self.levels)))

    def _repr_html_(self) -> str:
        """A table of what was found, with the atoms as pictures, for notebooks."""
        counts = [self.atoms.shape[0], *(prod(level.atoms.shape[:-1]) for level in self.levels)]
        facts = [
            ("kernels", f"{self.layout.n_rows:,} of {self.layout.patch_size} numbers, from {self.layout.kind}"),
            ("atoms", " over ".join(map(str, counts))),
            ("relative error", percentage(self.relative_error, 2)),
            ("nonzero coefficients", percentage(self.density)),
            ("solver", f"{self.solver}, {counted(self.iterations, 'round')}, {self.seconds:.2f} s"),
            ("stopped", self.stopped),
            ("note", self.note),
        ]
        picture = atoms_html(boards(self.atoms, self.layout.patch_shape))
        codes = codes_html(self.coefficients, self.layout.row_words)
        return facts_html(f"Decomposition of {self.layout.name}", facts, picture + codes + explore_hint())

    def atom_pictures(self) -> Tensor:
        """Atoms as (n_atoms, p, *kernel_size, q), for drawing."""
        return self.atoms.reshape(-1, *self.layout.patch_shape)
