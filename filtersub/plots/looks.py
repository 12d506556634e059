"""One layer at a glance: its atoms as pictures, how many of them a kernel uses, and some kernels' codes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import BLUE, INK, house_figure, percent


def exploration(
    pictures: np.ndarray, shown_codes: np.ndarray, codes: np.ndarray, *, width: float = 7.4, height: float = 4.4
) -> Figure:
    """Atoms, the histogram of supports, and codes as a board: a row an atom, a column a kernel, red above zero.

    Parameters
    ----------
    pictures : (n_atoms, height, width); each atom on its own scale, which is symmetric about zero
    shown_codes : (n, n_atoms), the kernels of the board
    codes : array or Tensor (n_rows, n_atoms), of which the histogram is made
    """
    with house_figure(width, height, nrows=2, ncols=2, height_ratios=(1.25, 1), width_ratios=(1.15, 1)) as (
        figure,
        axes,
    ):
        grid = axes[0, 0].get_gridspec()
        axes[0, 0].remove()
        axes[0, 1].remove()
        _atoms(figure.add_subplot(grid[0, :]), np.asarray(pictures, dtype=float))
        _board(axes[1, 0], np.asarray(shown_codes, dtype=float))
        counts = np.asarray((codes != 0).sum(1))
        shares = np.bincount(counts, minlength=codes.shape[1] + 1) / max(1, len(counts))
        ax = axes[1, 1]
        ax.bar(np.arange(len(shares)), shares, color=BLUE, width=0.8)
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.yaxis.set_major_formatter(percent())
        ax.set_xlabel("atoms that a kernel uses")
        ax.set_ylabel("kernels")
    return figure


def _atoms(ax: Axes, pictures: np.ndarray) -> None:
    """All atoms as one picture, side by side in as many lines as fit its shape, with a blank pixel between."""
    count, height, width = pictures.shape
    scaled = pictures / np.maximum(np.abs(pictures).max((1, 2), keepdims=True), 1e-12)
    columns = max(1, min(count, round((count * 3.6 * (height + 1) / (width + 1)) ** 0.5)))
    lines = -(-count // columns)
    board = np.full((lines * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for n, atom in enumerate(scaled):
        y, x = (n // columns) * (height + 1), (n % columns) * (width + 1)
        board[y : y + height, x : x + width] = atom
    ax.imshow(board, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    ax.set_xlabel(f"{count} filter atoms, strongest first: red above zero, blue below, each on its own scale")
    for spine in ax.spines.values():
        spine.set_visible(False)


def _board(ax: Axes, codes: np.ndarray) -> None:
    largest = float(np.abs(codes).max()) if codes.size else 1.0
    ax.imshow(codes.T, cmap="RdBu_r", vmin=-(largest or 1), vmax=largest or 1, aspect="auto", interpolation="nearest")
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.grid(False)
    ax.set_xlabel(f"codes of {len(codes)} kernels")
    ax.set_ylabel("atom", color=INK)
