"""One layer at a glance: its atoms as pictures, how many of them a kernel uses, some kernels' codes; one kernel's."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..printable import counted
from .figure import board, draw_board, house_figure, label_axes, whole_ticks
from .style import BLUE, INK, MUTED, VERMILION

_MOST_PICTURES = 32  # atoms under bars: more are too small to be seen


def exploration(
    pictures: np.ndarray | None, shown_codes: np.ndarray, codes: np.ndarray, *, width: float = 7.4, height: float = 4.4
) -> Figure:
    """Atoms, the histogram of supports, and codes as a board: a row an atom, a column a kernel, red above zero.

    Parameters
    ----------
    pictures : (n_atoms, height, width); each atom on its own scale, which is symmetric about zero. None: codes alone
    shown_codes : (n, n_atoms), the kernels of the board
    codes : array or Tensor (n_rows, n_atoms), of which the histogram is made
    """
    options = {"nrows": 2, "ncols": 2, "height_ratios": (1.25, 1), "width_ratios": (1.15, 1)}
    with house_figure(width, height, **options) as (figure, axes):
        grid = axes[0, 0].get_gridspec()
        axes[0, 0].remove()
        axes[0, 1].remove()
        if pictures is not None:
            _atoms(figure.add_subplot(grid[0, :]), np.asarray(pictures, dtype=float))
        _codes(axes[1, 0], np.asarray(shown_codes, dtype=float))
        counts = np.asarray((codes != 0).sum(1))
        shares = np.bincount(counts, minlength=codes.shape[1] + 1) / max(1, len(counts))
        ax = axes[1, 1]
        ax.bar(np.arange(len(shares)), shares, color=BLUE, width=0.8)
        whole_ticks(ax.xaxis, 8)
        label_axes(ax, "atoms that a kernel uses", "kernels", percents="y")
    return figure


def kernel_codes(
    codes: np.ndarray,
    kernel: np.ndarray | None = None,
    rebuilt: np.ndarray | None = None,
    atoms: np.ndarray | None = None,
    *,
    width: float = 7.4,
    height: float = 1.9,
) -> Figure:
    """One kernel beside what rebuilds it, and a bar an atom: its coefficient, with the atom below it.

    Parameters
    ----------
    codes : (n_atoms,)
    kernel, rebuilt : (height, width), both on one scale; left out where they are not known
    atoms : (n_atoms, height, width); pictured where they are few enough to be seen
    """
    boards = {"kernel": kernel, "rebuilt": rebuilt}
    boards = {name: np.asarray(shown, dtype=float) for name, shown in boards.items() if shown is not None}
    largest = max((float(np.abs(shown).max()) for shown in boards.values()), default=0.0) or 1.0
    ratios = [*(height for _ in boards), max(2.0, width - height * len(boards))]
    with house_figure(width, height, ncols=len(ratios), width_ratios=ratios) as (figure, axes):
        for ax, (name, shown) in zip(axes[0], boards.items(), strict=False):
            draw_board(ax, shown, largest)
            ax.set_xlabel(name)
        ax = axes[0, -1]
        ax.bar(np.arange(len(codes)), codes, color=np.where(np.asarray(codes) < 0, BLUE, VERMILION), width=0.8)
        ax.axhline(0, color=MUTED, lw=0.8)
        ax.set_xlim(-0.6, len(codes) - 0.4)
        ax.set_ylabel("coefficient")
        if atoms is not None and len(codes) <= _MOST_PICTURES:
            _atoms_below(ax, np.asarray(atoms, dtype=float))
        else:
            whole_ticks(ax.xaxis, 12)
            ax.set_xlabel("atom")
    return figure


def _atoms_below(ax: Axes, atoms: np.ndarray) -> None:
    """Each atom under its bar, on its own scale: one picture, for many axes are slow to draw."""
    count, height, width = atoms.shape
    strip = np.full((height, count, width + 1), np.nan)
    strip[..., :width] = _scaled(atoms).transpose(1, 0, 2)
    below = ax.inset_axes((0, -0.36, 1, 0.32))
    draw_board(below, strip.reshape(height, -1), extent=(-0.5, count - 0.5 + 0.5 / (width + 1), 0, 1), aspect="auto")
    below.set_xlim(ax.get_xlim())
    below.set_xlabel("atoms")
    ax.set_xticks([])


def _scaled(atoms: np.ndarray) -> np.ndarray:
    """Each atom over its largest entry."""
    return atoms / np.maximum(np.abs(atoms).max((1, 2), keepdims=True), 1e-12)


def _atoms(ax: Axes, pictures: np.ndarray) -> None:
    """All atoms as one picture, side by side in as many lines as fit its shape, with a blank pixel between."""
    count, height, width = pictures.shape
    columns = max(1, min(count, round((count * 3.6 * (height + 1) / (width + 1)) ** 0.5)))
    scaled = _scaled(pictures)
    draw_board(ax, board([scaled[n : n + columns] for n in range(0, count, columns)]))
    ax.set_xlabel(
        f"{counted(count, 'filter atom')}, strongest first: red above zero, blue below, each on its own scale"
    )


def _codes(ax: Axes, codes: np.ndarray) -> None:
    largest = float(np.abs(codes).max()) if codes.size else 1.0
    ax.imshow(codes.T, cmap="RdBu_r", vmin=-(largest or 1), vmax=largest or 1, aspect="auto", interpolation="nearest")
    whole_ticks(ax.yaxis, 6)
    whole_ticks(ax.xaxis)
    ax.grid(False)
    ax.set_xlabel(f"codes of {counted(len(codes), 'kernel')}")
    ax.set_ylabel("atom", color=INK)
