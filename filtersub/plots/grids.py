"""A grid of settings as a heat map: two settings span it, accuracy is its colour."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from .style import INK, house_figure, short_count


def setting_grid(
    grid: pd.DataFrame, rows: str, columns: str, *, width: float = 7.4, height: float | None = None
) -> Figure:
    """Mean test accuracy by two settings, shaded from the lowest to the highest, with the range over seeds and the
    trained parameters in each cell.

    Parameters
    ----------
    grid : row, column (the settings' values, in the order to draw them), test_accuracy, lowest, highest, trained, seeds
    rows, columns : what the axes are called
    """
    down, across = list(dict.fromkeys(grid["row"])), list(dict.fromkeys(grid["column"]))
    width = min(width, 1.6 + 1.45 * len(across))
    with house_figure(width, height or 0.75 + 0.72 * len(down)) as (figure, axes):
        ax = axes[0, 0]
        table = grid.pivot(index="row", columns="column", values="test_accuracy").reindex(index=down, columns=across)
        low, high = table.min().min(), table.max().max()
        ax.imshow(table, cmap="Blues", vmin=low - 0.15 * (high - low or 1), vmax=high + 0.35 * (high - low or 1))
        ax.set_aspect("auto")
        for cell in grid.itertuples():
            dark = high > low and (cell.test_accuracy - low) / (high - low) > 0.75
            place = (across.index(cell.column), down.index(cell.row))
            _write(ax, place, cell, "white" if dark else INK, small=width / len(across) < 1.1)
        ax.set_xticks(range(len(across)), [str(value) for value in across])
        ax.set_yticks(range(len(down)), [str(value) for value in down])
        ax.tick_params(length=0)
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.set_xlabel(columns)
        ax.set_ylabel(rows)
    return figure


def _write(ax, place: tuple[int, int], cell, colour: str, small: bool) -> None:
    """The cell's figures: accuracy, half its range where there are seeds, trained parameters."""
    half = (cell.highest - cell.lowest) / 2
    spread = f" ±{100 * half:.1f}" if cell.seeds > 1 and not small else ""
    x, y = place
    ax.text(x, y - 0.12, f"{100 * cell.test_accuracy:.1f}{spread}", ha="center", va="center", color=colour, fontsize=9)
    ax.text(x, y + 0.22, short_count(cell.trained), ha="center", va="center", color=colour, fontsize=7.5)
