"""The rank of low-rank updates, looked at before memory is taken."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from ..errors import FiltersubError


def check_rank(rank: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """FiltersubError where no layer, of weights (out, in, ...) by name, has that rank.

    Its factors would only be larger than the weights that they update.
    """
    full = {name: min(shape[0], prod(shape[1:])) for name, shape in shapes.items()}
    if full and rank > max(full.values()):
        name = max(full, key=lambda each: full[each])
        raise FiltersubError(
            f"rank {rank} is more than any layer has: {full[name]} at most, that of {name}; take a smaller one"
        )
