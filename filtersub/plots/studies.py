"""Figures of what a setting does: solvers against time, the penalty, the number of atoms seen by the network, the share
of full tuning's change that atoms could have learnt, and where networks look.
"""

from collections.abc import Iterator
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .figure import (
    fill,
    house_axes,
    house_figure,
    is_wide,
    label_axes,
    legend_above,
    log_axis,
    most_lines,
    panel_shape,
    percent,
    row_names,
    spread,
    whole_ticks,
)
from .style import BLUE, GREEN, GREY, INK, MUTED, ORANGE, PURPLE, RAISED, SKY, VERMILION, text_colour

_FLOOR = 1e-15  # gaps below are rounding of float64
_SOLVERS = {  # colour and marker
    "lasso": (BLUE, "*"),
    "fista": (VERMILION, "o"),
    "ista": (ORANGE, "o"),
    "spams": (GREEN, "s"),
    "spams-cd": (GREEN, "D"),
    "spams-omp": (GREEN, "P"),
    "sklearn": (PURPLE, "^"),
    "omp": (SKY, "o"),
    "ormp": (SKY, "<"),
    "mp": (SKY, "v"),
    "ridge": (GREY, "X"),
    "pca": (GREY, "p"),
}
_MARKS = ((BLUE, "o"), (VERMILION, "s"))
#: Colour, marker and size: sparse and principal coefficients often reach the same, so one stands around the other
_STYLE = {"lasso": (BLUE, "o", 8.5), "pca": (VERMILION, "D", 4.5), "random": (MUTED, "X", 7)}
_SPARE = ((GREEN, "^", 6), (PURPLE, "v", 6), (ORANGE, "s", 6))


def solver_gaps(gaps: pd.DataFrame, *, width: float = 7.4, height: float = 4.6) -> Figure:
    """Distance to the LASSO's optimum against seconds: lines for stepwise solvers, a mark for each of the others.

    Hollow marks belong to solvers of another problem (pursuits, linear codes), whose codes need not be the LASSO's.

    Parameters
    ----------
    gaps : diagnostics.gap_table: solver, solves, stepwise, seconds, relative_gap
    """
    drawn, ends = gaps.assign(shown=gaps["relative_gap"].clip(lower=_FLOOR)), []
    with house_axes(width, height) as ax:
        ax.set(xscale="log", yscale="log")
        for name, rows in drawn.groupby("solver", sort=False):
            colour, marker = _SOLVERS.get(name, (GREY, "o"))
            look = {"marker": "o", "ms": 3.5, "lw": 1.5}
            if not rows["stepwise"].all():
                hollow = {"mfc": "white"} if rows["solves"].iloc[0] != "penalty" else {"mec": "white", "mew": 0.6}
                # the package's own exact solver is not to be hidden by its references
                size, front = (13, 4) if marker == "*" else (7, 3)
                look = {"marker": marker, "ms": size, "ls": "none", "zorder": front, **hollow}
            ax.plot(rows["seconds"], rows["shown"], color=colour, **look)
            last = rows.iloc[-1]
            ends.append({"label": name, "x": last["seconds"], "y": np.log10(last["shown"]), "colour": colour})
        highest = int(np.ceil(np.log10(drawn["shown"].max()) + 0.8))
        ax.set_ylim(_FLOOR / 30, 10.0**highest)
        ax.set_yticks([10.0**power for power in range(-15, highest + 1, 3)])
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xlim(drawn["seconds"].min() / 2, drawn["seconds"].max() * 4.5)
        _label_logarithmic(ax, pd.DataFrame(ends))
        ax.axhline(_FLOOR, color=MUTED, lw=0.8, ls=":")
        label_axes(ax, "seconds (log scale)", "objective over the optimum's, less 1 (log scale)")
        ax.yaxis.set_major_formatter(FuncFormatter(_power))
    return ax.figure


def penalty_path(
    total: pd.DataFrame, accuracy: pd.DataFrame | None = None, *, width: float = 7.4, height: float | None = None
) -> Figure:
    """Density, reconstruction error and, where it is known, accuracy after tuning against l: mean and range over seeds.

    Parameters
    ----------
    total : diagnostics.total_over_layers: l1_penalty, seed, density, relative_error; l = 0 has no place on a log axis
    accuracy : l1_penalty, seed, test_accuracy; optional
    """
    panels = [
        (total, "density", "nonzero coefficients", BLUE),
        (total, "relative_error", "reconstruction error", VERMILION),
    ]
    if accuracy is not None and len(accuracy):
        panels.append((accuracy, "test_accuracy", "accuracy, tuned", GREEN))
    with house_figure(width, height or 0.5 + 1.75 * len(panels), nrows=len(panels), sharex=True) as (figure, axes):
        for ax, (table, column, words, colour) in zip(axes[:, 0], panels, strict=True):
            over = table[table["l1_penalty"] > 0].groupby("l1_penalty")[column].agg(["mean", "min", "max"])
            ax.fill_between(over.index, over["min"], over["max"], color=colour, alpha=0.18, lw=0)
            ax.vlines(over.index, over["min"], over["max"], color=colour, lw=1.2)
            ax.plot(over.index, over["mean"], color=colour, marker="o", ms=4.5, mec="white", lw=1.6)
            ax.set_xscale("log")
            ax.yaxis.set_major_locator(MaxNLocator(4))
            ax.set_ylabel(words, fontsize=8.5)
            label_axes(ax, percents="y", zero="" if column == "test_accuracy" else "y")
        axes[-1, 0].set_xlabel("penalty l (log scale), half the paper's λ")
        figure.align_ylabels()
    return figure


def network_vs_atoms(curve: pd.DataFrame, *, width: float = 7.4, height: float = 3.8) -> Figure:
    """What the rebuilt network keeps against m: predictions that agree, and the errors of kernels and logits.

    Parameters
    ----------
    curve : one row an m: m, agreement, relative_error, output_error (median over layers)
    """
    lines = [
        ("agreement", "predictions that agree", GREEN, "o", "-"),
        ("relative_error", "error of all kernels", BLUE, "s", "--"),
        ("output_error", "error of a layer's output, median", VERMILION, "D", "-."),
    ]
    with house_axes(width, height) as ax:
        for column, words, colour, marker, dashes in lines:
            if column in curve:
                look = {"color": colour, "marker": marker, "ls": dashes, "label": words}
                ax.plot(curve["m"], curve[column], ms=5, mec="white", lw=1.6, **look)
        ax.set_ylim(-0.02, 1.04)
        ax.set_xticks(sorted(curve["m"].unique()))
        label_axes(ax, "filter atoms m", "share of the images, or relative error", percents="y")
        legend_above(ax.figure)
    return ax.figure


def _label_logarithmic(ax: Axes, ends: pd.DataFrame) -> None:
    """Names beside the last points, pushed apart where they would overlap."""
    low, high = np.log10(ax.get_ylim())
    room = 0.04 * (high - low)  # or a name would lie across the axis
    heights = spread(ax, ends["y"], limits=(low + room, high - room))
    arrow = {"arrowstyle": "-", "color": "#b6bec7", "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
    look = {"fontsize": 8.5, "va": "center", "arrowprops": arrow}
    for row, height in zip(ends.itertuples(), heights, strict=True):
        ends_at, place = (row.x, 10**row.y), (row.x * 1.35, 10**height)
        ax.annotate(row.label, ends_at, place, color=text_colour(row.colour), **look)


def _power(value: float, _position: int) -> str:
    """Powers of ten in plain text, which needs no font for formulas; what float64 cannot tell from 0 is said."""
    exponent = str(round(np.log10(value)))
    return "rounding" if value <= 2 * _FLOOR else "10" + exponent.translate(RAISED)


def span_shares(totals: pd.DataFrame, *, width: float = 7.4, height: float = 3.8) -> Figure:
    """The share of full tuning's change that lies in the span of alpha against m, a panel a block, on a log axis.

    Lines are means over seeds, bars their range; dashed lines are the shares of a random change. Hollow marks: atoms
    that each input channel combines in its own way.

    Parameters
    ----------
    totals : totals.csv of a span_study: block, solver, per_channel, m, seed, share, expected
    """
    blocks, styles = list(dict.fromkeys(totals["block"])), _styles(totals)
    shape = panel_shape(len(blocks), len(blocks) if is_wide(width) else 1)
    with house_figure(width, height * shape["nrows"], sharey=True, sharex=True, **shape) as (figure, axes):
        for ax, block in zip(axes.flat, blocks, strict=True):
            for (_, _, look), rows in _series(totals[totals["block"] == block], styles):
                over = rows.groupby("m")[["share", "expected"]].agg(["mean", "min", "max"])
                ax.plot(over.index, over["expected", "mean"], color=look["color"], lw=1, ls="--", zorder=1)
                ax.vlines(over.index, over["share", "min"], over["share", "max"], color=look["color"], lw=1.2)
                ax.plot(over.index, over["share", "mean"], lw=1.5, **look)
            _log(ax, percent())
            ax.xaxis.set_major_locator(FixedLocator(sorted(totals["m"].unique())))
            letters = int(12 * width / shape["ncols"])
            ax.set_title(fill(_block_words(block), letters), fontsize=9, color=INK, loc="left")
        for ax in axes[-1]:
            ax.set_xlabel("filter atoms m")
        for ax in axes[:, 0]:
            ax.set_ylabel("share of the change (log)")
        chance = Line2D([], [], color=MUTED, ls="--", lw=1, label="of a random change")
        legend_above(figure, [*_keys(totals, styles), chance])
    return figure


def span_layers(layers: pd.DataFrame, *, width: float = 7.4, height: float = 2.3) -> Figure:
    """How often the share of each layer is that of a random change, at the largest m, a panel a block; 1 is chance.

    A mark is a layer, in the order of the network: the mean over seeds.

    Parameters
    ----------
    layers : layers.csv of a span_study: name, blocks, solver, per_channel, m, seed, share, expected
    """
    largest = layers[layers["m"] == layers["m"].max()].assign(gain=layers["share"] / layers["expected"])
    blocks, styles = list(dict.fromkeys(largest["blocks"])), _styles(largest)
    with house_figure(width, height * len(blocks) + 0.5, nrows=len(blocks)) as (figure, axes):
        for ax, block in zip(axes[:, 0], blocks, strict=True):
            ax.axhline(1, color=MUTED, lw=1, ls="--")
            for (_, _, look), rows in _series(largest[largest["blocks"] == block], styles):
                gains = rows.groupby("name", sort=False)["gain"].mean()
                ax.plot(range(1, len(gains) + 1), gains, **{**look, "ls": "none"})
            _log(ax, FuncFormatter(lambda value, _: f"{value:g}×"))
            whole_ticks(ax.xaxis)
            ax.set_title(_block_words(block), fontsize=9, color=INK, loc="left")
        axes[-1, 0].set_xlabel("layer, in the order of the network")
        figure.supylabel("share over a random change's (log)", fontsize=9.5, color=MUTED)
        legend_above(figure, _keys(largest, styles))
    return figure


def _styles(table: pd.DataFrame) -> dict[str, tuple[str, str, float]]:
    """Colour, marker and size by solver."""
    spare = [name for name in dict.fromkeys(table["solver"]) if name not in _STYLE]
    return {**_STYLE, **dict(zip(spare, cycle(_SPARE), strict=False))}


def _series(table: pd.DataFrame, styles: dict[str, tuple[str, str, float]]) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """((solver, m_1, how it is drawn), its rows) of each pair of solver and m_1 among the rows."""
    for (solver, own), rows in table.groupby(["solver", "per_channel"], sort=False):
        colour, marker, size = styles[solver]
        face = {"mfc": "white", "mec": colour} if own else {"mec": "white", "mew": 0.6}
        yield (solver, own, {"color": colour, "marker": marker, "ms": size, "ls": "-", **face}), rows


def _keys(table: pd.DataFrame, styles: dict[str, tuple[str, str, float]]) -> list[Line2D]:
    return [
        Line2D([], [], label=solver + (f", m₁={own} per channel" if own else ""), **look)
        for (solver, own, look), _ in _series(table, styles)
    ]


def _log(ax: Axes, words: FuncFormatter) -> None:
    log_axis(ax.yaxis, (1, 2, 5), words, numticks=12)
    ax.yaxis.set_minor_locator(NullLocator())


def _block_words(block: str) -> str:
    return "spatial kernels alone" if block == "none" else f"{block} blocks of channels too"


def activation_maps(maps: pd.DataFrame, threshold: float, *, width: float = 7.4) -> Figure:
    """Images down, settings across: the map over the grey image, and the line where it crosses ``threshold``.

    Parameters
    ----------
    maps : maps.csv of an attribution study: label, image, y, x, value, grey
    """
    labels, images = list(dict.fromkeys(maps["label"])), sorted(maps["image"].unique())
    columns = len(labels) + 1
    with house_figure(width, width / columns * len(images) + 0.4, nrows=len(images), ncols=columns) as (figure, axes):
        for row, image in enumerate(images):
            own = maps[maps["image"] == image]
            grey = _grid(own[own["label"] == labels[0]], "grey")
            axes[row, 0].imshow(grey, cmap="gray", vmin=0, vmax=1)
            for ax, label in zip(axes[row, 1:], labels, strict=True):
                value = _grid(own[own["label"] == label], "value")
                ax.imshow(grey, cmap="gray", vmin=0, vmax=1)
                ax.imshow(value, cmap="viridis", vmin=0, vmax=1, alpha=0.6)
                if value.min() < threshold < value.max():
                    ax.contour(value, [threshold], colors="white", linewidths=1.2)
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, title in zip(axes[0], ["image", *labels], strict=True):
            ax.set_title(fill(title, int(11 * width / columns)), fontsize=9)
    return figure


def active_shares(summary: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """Mean active share of each setting with its interval over images; a panel a threshold, a mark a kind of images.

    Parameters
    ----------
    summary : studies.share_table
    """
    labels = list(dict.fromkeys(summary["label"]))[::-1]
    names = row_names(labels, width)
    thresholds = sorted(summary["threshold"].unique())
    kinds = list(dict.fromkeys(summary["images"]))
    shape = panel_shape(len(thresholds), len(thresholds) if is_wide(width) else 1)
    if height is None:
        height = shape["nrows"] * (0.9 + max(0.42, 0.16 * most_lines(names)) * len(labels)) + 0.5
    with house_figure(width, height, sharey=True, **shape) as (figure, axes):
        for ax, threshold in zip(axes.flat, thresholds, strict=True):
            for number, kind in enumerate(kinds):
                rows = summary[(summary["threshold"] == threshold) & (summary["images"] == kind)]
                colour, marker = _MARKS[number % len(_MARKS)]
                heights = np.array([labels.index(label) for label in rows["label"]]) - 0.2 * number + 0.1
                ends = [rows["share"] - rows["low"], rows["high"] - rows["share"]]
                style = {"color": colour, "marker": marker, "ls": "none", "ms": 5, "capsize": 2.5, "label": kind}
                ax.errorbar(rows["share"], heights, xerr=ends, **style)
            words = f"above {threshold:g} of the largest value"
            ax.set_title(fill(words, int(7 * width / shape["ncols"])), fontsize=9, color=MUTED)
            label_axes(ax, percents="x", zero="x")
            ax.xaxis.set_major_locator(MaxNLocator(4))
        axes[0, 0].set_yticks(range(len(labels)), names)
        axes[0, 0].set_ylim(-0.6, len(labels) - 0.4)
        figure.supxlabel("active share of the image", fontsize=9.5, color=MUTED)
        if len(kinds) > 1:
            legend_above(figure)
    return figure


def _grid(rows: pd.DataFrame, column: str) -> np.ndarray:
    return rows.pivot(index="y", columns="x", values=column).to_numpy()
