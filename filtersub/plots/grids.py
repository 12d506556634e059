"""A grid of settings as a heat map: two settings span it, accuracy is its colour."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from .style import INK, house_figure, percent, short_count

LEAST_SPAN = 0.05  # of the colour scale: accuracies that differ by less look alike
_DARK = 0.6  # place on the scale from which words are white


def setting_grid(
    grid: pd.DataFrame, rows: str, columns: str, *, width: float = 7.4, height: float | None = None
) -> Figure:
    """Mean test accuracy by two settings with a colour bar; in each cell its 95 % interval over seeds and the trained
    parameters.

    The colours span at least five points, and at least the widest interval of a cell, so that noise does not look like
    a difference.

    Parameters
    ----------
    grid : row, column (the settings' values, in the order to draw them), test_accuracy, low, high (ends of the
        interval; NaN for one seed), trained, seeds
    rows, columns : what the axes are called
    """
    down, across = list(dict.fromkeys(grid["row"])), list(dict.fromkeys(grid["column"]))
    width = min(width, 2.4 + 1.45 * len(across))
    scale = colour_scale(grid)
    with house_figure(width, height or 0.85 + 0.8 * len(down)) as (figure, axes):
        ax = axes[0, 0]
        table = grid.pivot(index="row", columns="column", values="test_accuracy").reindex(index=down, columns=across)
        shown = ax.imshow(table, cmap=_map(), norm=scale)
        ax.set_aspect("auto")
        for cell in grid.itertuples():
            place = (across.index(cell.column), down.index(cell.row))
            dark = scale(cell.test_accuracy) > _DARK
            _write(ax, place, cell, "white" if dark else INK, small=width / len(across) < 1.3)
        bar = figure.colorbar(shown, ax=ax, format=percent(), fraction=0.05, pad=0.02)
        bar.set_label("test accuracy")
        bar.outline.set_visible(False)
        ax.set_xticks(range(len(across)), [str(value) for value in across])
        ax.set_yticks(range(len(down)), [str(value) for value in down])
        ax.tick_params(length=0)
        ax.grid(False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        ax.set_xlabel(columns)
        ax.set_ylabel(rows)
    return figure


def colour_scale(grid: pd.DataFrame) -> Normalize:
    """From the lowest to the highest accuracy, widened about their middle to five points and to the widest interval of
    a cell, and kept within 0 and 1."""
    low, high = grid["test_accuracy"].min(), grid["test_accuracy"].max()
    widest = (grid["high"] - grid["low"]).max()
    span = min(1.0, max(high - low, LEAST_SPAN, 0.0 if pd.isna(widest) else widest))
    start = min(max(0.0, (low + high - span) / 2), 1.0 - span)
    return Normalize(start, start + span)


def _map() -> LinearSegmentedColormap:
    """Blues without its darkest part, on which words would be lost."""
    return LinearSegmentedColormap.from_list("light", colormaps["Blues"](np.linspace(0.03, 0.92, 16)))


def _write(ax: Axes, place: tuple[int, int], cell, colour: str, small: bool) -> None:
    """The cell's figures: accuracy, its interval where there are seeds, trained parameters."""
    x, y = place
    write = {"ha": "center", "va": "center", "color": colour}
    ax.text(x, y - 0.2, f"{100 * cell.test_accuracy:.1f}", fontsize=9, **write)
    if cell.seeds > 1 and not small:
        ax.text(x, y + 0.06, f"{100 * cell.low:.1f} to {100 * cell.high:.1f}", fontsize=7, **write)
    ax.text(x, y + 0.29, short_count(cell.trained), fontsize=7, **write)
