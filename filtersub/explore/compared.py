"""Two looks side by side, on the kernels that both looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from .look import Look, density, relative_error


def same_kernels(left: Look, right: Look) -> tuple[Tensor, Tensor] | None:
    """Numbers, in each of two looks, of the kernels that both looked at; None where they are of different kernels."""
    if left.layer != right.layer or left.rows != right.rows or left.layout != right.layout:
        return None
    sides = [torch.arange(look.rows) if look.places is None else look.places for look in (left, right)]
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
    rows.append(("nonzero coefficients", *(f"{density(look.codes[of]):.1%}" for look, of in both)))
    counts = [f"{len(look.codes[of]):,}" + ("" if pair is None else ", the same") for look, of in both]
    rows.append(("kernels", *counts))
    if have_the_same_codes(left, right):
        change = float((right.atoms - left.atoms).norm() / left.atoms.norm())
        rows.append(("change of the atoms", "", f"{change:.1%}"))
    return [row for row in rows if any(row[1:])]


def have_the_same_codes(left: Look, right: Look) -> bool:
    """Whether two looks are of one layer's atoms before and after tuning, with the codes that stayed."""
    same = left is not right and left.codes is right.codes and left.layout == right.layout
    return same and left.atoms is not None and right.atoms is not None


def _error_words(look: Look, of: Tensor | slice) -> str:
    """The relative error on some of the kernels looked at; that on all of them where the kernels are not known."""
    if look.kernels is not None and look.atoms is not None:
        return f"{relative_error(look.kernels[of], look.codes[of], look.atoms):.1%}"
    return "" if look.relative_error is None else f"{look.relative_error:.1%}"
