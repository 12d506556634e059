"""Atoms of a few layers before and after tuning, as pictures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from .style import INK, house_figure

_SIDES = ("before", "after", "change")


def atom_changes(
    layers: Mapping[str, Mapping[str, np.ndarray]], *, width: float = 7.4, height: float | None = None
) -> Figure:
    """A board a layer: a column an atom; below each other before tuning, after it, and the change.

    Before and after have one scale a layer, the change has its own; both are symmetric about zero.

    Parameters
    ----------
    layers : by name ``before``, ``after`` and ``change``, each (n_atoms, height, width)
    """
    boards = {name: _board(pictures) for name, pictures in layers.items()}
    tall = [min(1.7, 0.82 * width * board.shape[0] / board.shape[1]) for board in boards.values()]
    with house_figure(width, height or sum(tall) + 0.42 * len(tall), nrows=len(tall), ncols=1, height_ratios=tall) as (
        figure,
        axes,
    ):
        for ax, (name, board) in zip(axes[:, 0], boards.items(), strict=True):
            ax.imshow(board, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            own = board.shape[0] + 1
            ax.set_yticks([own / 3 * (n + 0.5) - 1 for n in range(3)], _SIDES)
            ax.set_xticks([])
            ax.tick_params(length=0)
            ax.grid(False)
            ax.set_title(name, loc="left", color=INK)
            for spine in ax.spines.values():
                spine.set_visible(False)
    return figure


def _board(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """The three rows of atoms as one picture, with a blank pixel between."""
    count, height, width = pictures["before"].shape
    board = np.full((3 * (height + 1) - 1, count * (width + 1) - 1), np.nan)
    kept = max(float(np.abs(pictures[side]).max()) for side in ("before", "after"))
    scales = {"before": kept, "after": kept, "change": float(np.abs(pictures["change"]).max())}
    for n, side in enumerate(_SIDES):
        for atom, picture in enumerate(pictures[side]):
            y, x = n * (height + 1), atom * (width + 1)
            board[y : y + height, x : x + width] = picture / (scales[side] or 1.0)
    return board
