"""What one look at a layer tells, a finished result as a look, and two looks side by side."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..decomposition import DecompositionConfig
from ..kernels import KernelLayout
from ..markup import boards, square_boards
from ..percentages import percentage
from ..printable import counted

SHOWN_KERNELS = 48
#: the kernels shown are among so many, which every solver looks at
SHOWN_OF = 256


@dataclass(frozen=True)
class Look:
    """A layer over a few atoms, as far as one look tells.

    Attributes
    ----------
    codes : Tensor (n_looked_at, n_atoms) of the kernels looked at
    atoms : Tensor (n_atoms, d); pictures : the same as (n_atoms, height, width), a picture each. None where a result
        holds codes alone
    kernels : Tensor (n_looked_at, d), the kernels looked at; None where they are not known
    layout : of the layer; None for a dictionary and for codes
    recipe : decomposes the layer alike in full; None where it is not known
    sampled : (rows of the kernel matrix that are looked at, how many it has); None where all are there in order
    warm : whether the atoms of an earlier look were the start
    found_by : how the result came about, in words, where no look found it
    learned_by : the solver that the atoms were learned with, where another one made the codes
    error : the relative error where the kernels are not known
    """

    layer: str
    codes: Tensor
    atoms: Tensor | None
    kernels: Tensor | None
    layout: KernelLayout | None = None
    solver: str = ""
    recipe: DecompositionConfig | None = None
    seconds: float = 0.0
    sampled: tuple[Tensor, int] | None = None
    warm: bool = False
    found_by: str = ""
    learned_by: str = ""
    error: float | None = None

    @cached_property
    def relative_error(self) -> float | None:
        """Over the kernels looked at; None where it is not known."""
        if self.kernels is None or self.atoms is None:
            return self.error
        return relative_error(self.kernels, self.codes, self.atoms)

    @cached_property
    def density(self) -> float:
        """Over the kernels looked at."""
        return density(self.codes)

    @property
    def looked_at(self) -> int:
        """How many kernels are looked at, of the layer's ``rows``."""
        return len(self.codes)

    @property
    def rows(self) -> int:
        return len(self.codes) if self.sampled is None else self.sampled[1]

    @property
    def l1_penalty(self) -> float | None:
        """l; None where the solver pays no penalty."""
        return self.recipe.l1_penalty if self.recipe is not None and self.recipe.code_kind == "penalty" else None

    @property
    def pictures(self) -> Tensor | None:
        return None if self.atoms is None else pictures_of(self.atoms, self.layout)

    @cached_property
    def shown(self) -> Tensor:
        """Tensor (n_shown,): numbers among the kernels looked at of those that are shown one by one.

        They are those of largest norm among the first of the sample, so looks at a layer show the same ones.
        """
        kernels = self.codes if self.kernels is None else self.kernels
        first = torch.arange(min(len(kernels), SHOWN_OF))
        if self.sampled is None:
            first = mixed(self.rows, 0 if self.recipe is None else self.recipe.seed)[:SHOWN_OF]
        first = first.to(kernels.device)
        return first[kernels[first].norm(dim=1).topk(min(SHOWN_KERNELS, len(first))).indices]

    def row(self) -> dict[str, Any]:
        """The look without its tensors, as a row of a table."""
        names = ("layer", "solver", "l1_penalty", "relative_error", "density", "looked_at", "rows", "seconds", "warm")
        return {"atoms": self.codes.shape[1], **{name: getattr(self, name) for name in names}}

    @property
    def sentence(self) -> str:
        """The numbers in words, and of how much of the layer they are."""
        whole, atoms = self.looked_at == self.rows, self.codes.shape[1]
        seen = f"all {self.rows:,} kernels" if whole else f"a random {self.looked_at:,} of {self.rows:,} kernels"
        error = "" if self.relative_error is None else f" with a relative error of {percentage(self.relative_error)}"
        how = [f"solver {self.solver}"] if self.solver else []
        how += [] if self.l1_penalty is None else [f"l = {self.l1_penalty:g}"]
        how += [f"atoms learned with {self.learned_by}"] if self.learned_by else []
        how += [self.found_by or ("from the last atoms" if self.warm else "from new atoms"), f"{self.seconds:.2f} s"]
        said = ", ".join(how)
        return (
            f"{self.layer}: {counted(atoms, 'atom')} rebuild{'s' * (atoms == 1)} {seen}{error}; "
            f"{percentage(self.density)} of the "
            f"coefficients are not zero. {said[0].upper()}{said[1:]}."
        )

    def kernel_words(self, number: int) -> str:
        """Which kernel of the layer the one with this number among those looked at is."""
        place = number if self.sampled is None else int(self.sampled[0][number])
        return f"row {place}" if self.layout is None else self.layout.row_words(place)

    def tiles(self) -> Tensor:
        """A picture (height, width) of each kernel shown: itself, else as rebuilt, else its codes as a strip."""
        if self.kernels is not None:
            return pictures_of(self.kernels[self.shown], self.layout)
        if self.atoms is not None:
            return pictures_of(self.codes[self.shown] @ self.atoms, self.layout)
        return self.codes[self.shown][:, None, :]


def relative_error(kernels: Tensor, codes: Tensor, atoms: Tensor) -> float:
    """``||F - C D||_F / ||F||_F``; 0 for kernels of zeros."""
    norm = float(kernels.norm())
    return float((kernels - codes @ atoms).norm()) / norm if norm > 0 else 0.0


def density(codes: Tensor) -> float:
    """Fraction of nonzero codes."""
    return int(torch.count_nonzero(codes)) / max(1, codes.numel())


def mixed(rows: int, seed: int) -> Tensor:
    """The numbers of the rows, mixed by the seed: a sample is its beginning."""
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))


def pictures_of(rows: Tensor, layout: KernelLayout | None) -> Tensor:
    """Atoms or kernels (n, d) as (n, height, width)."""
    return square_boards(rows) if layout is None else boards(rows, layout.patch_shape)


def same_kernels(left: Look, right: Look) -> tuple[Tensor, Tensor] | None:
    """Numbers, in each of two looks, of the kernels that both looked at; None where they are of different kernels."""
    if left.layer != right.layer or left.rows != right.rows or left.layout != right.layout:
        return None
    sides = [torch.arange(look.rows) if look.sampled is None else look.sampled[0] for look in (left, right)]
    fewer, more = sorted(sides, key=len)
    number = torch.full((left.rows,), -1)
    number[more] = torch.arange(len(more))
    if bool((number[fewer] < 0).any()):
        return None
    pair = torch.arange(len(fewer)), number[fewer]
    return pair if fewer is sides[0] else pair[::-1]


def comparison(left: Look, right: Look) -> list[tuple[str, str, str]]:
    """What differs between two looks, a row (name, left, right) each; errors on the kernels that both looked at."""
    pair = same_kernels(left, right)
    rows = [("layer", left.layer, right.layer), ("solver", left.solver, right.solver)]
    rows.append(("atoms", *(str(look.codes.shape[1]) for look in (left, right))))
    rows.append(("penalty l", *("" if look.l1_penalty is None else f"{look.l1_penalty:g}" for look in (left, right))))
    both = [(look, slice(None) if pair is None else pair[side]) for side, look in enumerate((left, right))]
    rows.append(("relative error", *(_error_words(look, of) for look, of in both)))
    rows.append(("nonzero coefficients", *(percentage(density(look.codes[of])) for look, of in both)))
    counts = [f"{len(look.codes[of]):,}" + ("" if pair is None else ", the same") for look, of in both]
    rows.append(("kernels", *counts))
    if have_the_same_codes(left, right):
        change = float((right.atoms - left.atoms).norm() / left.atoms.norm())
        rows.append(("change of the atoms", "", percentage(change)))
    return [row for row in rows if any(row[1:])]


def have_the_same_codes(left: Look, right: Look) -> bool:
    """Whether two looks are of one layer's atoms before and after tuning, with the codes that stayed."""
    same = left is not right and left.codes is right.codes and left.layout == right.layout
    return same and left.atoms is not None and right.atoms is not None


def _error_words(look: Look, of: Tensor | slice) -> str:
    """The relative error on some of the kernels looked at; that on all of them where the kernels are not known."""
    if look.kernels is not None and look.atoms is not None:
        return percentage(relative_error(look.kernels[of], look.codes[of], look.atoms))
    return "" if look.relative_error is None else percentage(look.relative_error)
