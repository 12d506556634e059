"""Figures of generation: distances by trained parameters, samples side by side, the paper's table."""

from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from ..image_reading import read_image
from .figure import house_axes, house_figure, is_wide, legend_above, log_axis, panel_shape
from .style import BLUE, GREEN, GREY, INK, MUTED, VERMILION

_METHODS = {"none": (GREY, "s"), "filter-subspace": (BLUE, "o"), "lora": (GREEN, "P"), "full": (INK, "^")}
_NAMES = {"none": "not tuned", "filter-subspace": "atoms", "lora": "LoRA", "full": "full tuning"}
_FLOORS = {"floor_frechet": ("halves of the real images", "--"), "training_frechet": ("real training images", ":")}
_LINE, _LETTER = 0.18, 0.08  # inches of a line of words and of a letter
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def distance_vs_parameters(runs: pd.DataFrame, *, width: float = 7.4, columns: int = 3) -> Figure:
    """Fréchet distance (logarithmic) of each setting, from the fewest trained parameters above to the most below.

    A mark is the mean over seeds, a bar their range; lines are distances between sets of real images. A panel for each
    data set and distance, at most ``columns`` in a row, fewer where the figure is narrow.

    Parameters
    ----------
    runs : data, label, method, trainable, frechet, floor_frechet, distance_name; optional training_frechet
    """
    panels = [group for _, group in runs.groupby(["data", "distance_name"], sort=False)]
    settings = runs.sort_values("trainable", kind="stable").drop_duplicates("label")
    shape = panel_shape(len(panels), min(columns, int(width / 2.4)))
    letters = 30 if is_wide(width) else 20
    words = [f"{fill(row.label, letters)}\n{row.trainable:,} trained" for row in settings.itertuples()]
    lines = max(word.count("\n") + 1 for word in words)
    height = shape["nrows"] * (_LINE * lines * len(settings) + 1.1) + 0.3
    beneath = int((width - letters * _LETTER) / shape["ncols"] / _LETTER)  # letters that fit below a panel
    with house_figure(width, height, sharey=True, **shape) as (figure, axes):
        for ax, own in zip(axes.flat, panels, strict=False):
            _distances(ax, own, list(settings["label"]), beneath)
        axes[0, 0].set_yticks(range(len(settings)), words)
        axes[0, 0].set_ylim(len(settings) - 0.5, -0.5)
        marks = [
            Line2D([], [], color=MUTED, lw=1, ls=style, label=name)
            for column, (name, style) in _FLOORS.items()
            if column in runs and runs[column].notna().any()
        ]
        legend_above(figure, marks)
    return figure


def _distances(ax: Axes, own: pd.DataFrame, labels: list[str], letters: int) -> None:
    for (label, method), group in own.groupby(["label", "method"], sort=False):
        colour, mark = _METHODS.get(method, (VERMILION, "D"))
        mean, low, high = (float(group["frechet"].agg(how)) for how in ("mean", "min", "max"))
        bar = [[mean - low], [high - mean]]
        ax.errorbar(mean, labels.index(label), xerr=bar, fmt=mark, color=colour, capsize=3, ms=6)
    for column, (_, style) in _FLOORS.items():
        if column in own and own[column].notna().any():
            ax.axvline(float(own[column].iloc[0]), color=MUTED, lw=1, ls=style, zorder=1)
    ax.set_title(fill(own["data"].iloc[0], letters), fontsize=10)
    ax.set_xlabel(fill(own["distance_name"].iloc[0], letters))
    log_axis(ax.xaxis, (1, 2, 5) if letters > 24 else (1, 3), _PLAIN)


def samples_side_by_side(runs: pd.DataFrame, *, width: float = 7.4, columns: int = 3, images_a_row: int = 8) -> Figure:
    """Each setting's grid of samples; the same place is the same noise in all of them.

    Parameters
    ----------
    runs : label, samples (file of the grid), of one data set and one seed
    columns : panels beside one another at most; fewer where the figure is narrow
    images_a_row : of a grid, whose images are square and are drawn a little apart
    """
    chosen = runs.drop_duplicates("label")
    grids = [_pixels(file) for file in chosen["samples"]]
    shape = panel_shape(len(chosen), min(columns, int(width / 2.4)))
    titles = [fill(label, int(11 * width / shape["ncols"])) for label in chosen["label"]]
    room = 0.12 + 0.17 * max(title.count("\n") + 1 for title in titles)
    tallest = max(pixels.shape[0] / pixels.shape[1] for pixels in grids)
    height = shape["nrows"] * (tallest * width / shape["ncols"] + room)
    with house_figure(width, height, **shape) as (figure, axes):
        for ax, pixels, title in zip(axes.flat, grids, titles, strict=False):
            ax.set_axis_off()
            ax.imshow(pixels, interpolation="nearest")
            side = pixels.shape[1] / images_a_row
            ax.vlines(np.arange(1, images_a_row) * side - 0.5, -0.5, pixels.shape[0] - 0.5, color="white", lw=1.5)
            ax.hlines(np.arange(side, pixels.shape[0], side) - 0.5, -0.5, pixels.shape[1] - 0.5, color="white", lw=1.5)
            ax.set_title(title, fontsize=8.5)
    return figure


def paper_distances(beside: pd.DataFrame, *, width: float = 7.4, height: float = 4.6) -> Figure:
    """The paper's FID of each data set, a mark a method; hollow marks are what was measured on its task.

    Parameters
    ----------
    beside : data, method, paper_fid, measured, as generation.tables.beside_paper gives them
    """
    names = list(dict.fromkeys(beside["data"]))
    with house_axes(width, height) as ax:
        for shift, (method, (colour, mark)) in enumerate(_METHODS.items()):
            own = beside[beside["method"] == method].set_index("data").reindex(names)
            places = np.arange(len(names)) + 0.18 * (shift - 1.5)
            ax.scatter(places, own["paper_fid"], marker=mark, color=colour, s=22, label=_NAMES[method])
            ax.scatter(places, own["measured"].astype(float), marker=mark, facecolors="none", edgecolors=colour, s=60)
        ax.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_ylabel("FID")
        log_axis(ax.yaxis, (1, 2, 5), _PLAIN)
        legend_above(ax.figure)
    return ax.figure


def _pixels(file: str) -> np.ndarray:
    return np.asarray(read_image(file))
