"""Figures of what a choice costs: several costs side by side, training images, steps, shared dictionaries, and how many
parameters each setting trains.
"""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from .figure import (
    house_axes,
    house_figure,
    is_wide,
    label_axes,
    legend_above,
    log_axis,
    panel_shape,
    room_around,
    short_counts,
)
from .runs import label_ends
from .style import BLUE, FRONT, GREEN, INK, MUTED, PURPLE, VERMILION, families_style, family_marks

_WIDE = 8  # largest over smallest cost from which an axis is logarithmic


def accuracy_vs_costs(
    costs: pd.DataFrame, measures: Mapping[str, str], *, width: float = 7.4, height: float | None = None
) -> Figure:
    """Test accuracy against each cost, a panel a cost, with its Pareto front; on a log axis where costs differ much.

    Parameters
    ----------
    costs : one row a setting: label, family, test_accuracy, lowest, highest, and NAME and front_NAME for each measure
    measures : what a reader calls each cost, by its column
    """
    across = 3 if is_wide(width) else 1
    down = -(-len(measures) // across)
    style = families_style(costs["family"])
    with house_figure(width, height or 2.7 * down + 0.7, nrows=down, ncols=across, sharey=True) as (figure, axes):
        for ax, (name, words) in zip(axes.flat, measures.items(), strict=False):
            _panel(ax, costs.dropna(subset=[name]), name, words, style)
        room_around(axes[0, 0], costs[["lowest", "highest"]].stack())  # of all panels: a cost may be known of a few
        for ax in axes.flat[len(measures) :]:
            ax.set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel("test accuracy")
        legend_above(figure, family_marks(costs["family"], style), most=3)
    return figure


def accuracy_vs_images(sizes: pd.DataFrame, *, width: float = 7.4, height: float = 4.0) -> Figure:
    """Test accuracy against the number of training images on a log axis: a line a method, bars are 95 % intervals.

    Parameters
    ----------
    sizes : one row a method and number: label, family, images, test_accuracy, low, high
    """
    style = families_style(sizes["family"])
    ends = []
    with house_axes(width, height) as ax:
        for place, (label, rows) in enumerate(sizes.groupby("label", sort=False)):
            colour, marker = style[rows["family"].iloc[0]]
            dashes = ["-", "--", ":"][place % 3]
            ax.plot(rows["images"], rows["test_accuracy"], color=colour, marker=marker, ms=5, lw=1.5, ls=dashes)
            ax.vlines(rows["images"], rows["low"], rows["high"], color=colour, lw=4, alpha=0.18)
            last = rows.iloc[-1]
            ends.append({"label": label, "colour": colour, "x": last["images"], "y": last["test_accuracy"]})
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(sorted(set(sizes["images"]))))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        label_axes(ax, "training images (log scale)", "test accuracy", percents="y")
        if is_wide(width):
            label_ends(ax, ends)
        else:
            legend_above(ax.figure, family_marks(sizes["family"], style))
    return ax.figure


def accuracy_vs_steps(table: pd.DataFrame, *, width: float = 7.4, height: float = 3.9) -> Figure:
    """Test accuracy against steps and against seconds of training: a colour a setting, a dash an optimiser; bars are
    95 % intervals.

    Parameters
    ----------
    table : one row a setting, optimiser and number of epochs: setting, label, family, optimizer, steps, seconds,
        test_accuracy, low, high
    """
    colours = families_style(table["family"])
    dashes = dict(zip(dict.fromkeys(table["optimizer"]), itertools.cycle(["-", "--", ":"]), strict=False))
    shape = panel_shape(2, 2 if is_wide(width) else 1)
    with house_figure(width, height + 0.1 * table["label"].nunique(), sharey=True, **shape) as (figure, axes):
        lines = []
        for ax, name, words in zip(axes.flat, ("steps", "seconds"), ("steps", "seconds of training"), strict=True):
            for label, rows in table.groupby("label", sort=False):
                colour, marker = colours[rows["family"].iloc[0]]
                style = {"color": colour, "marker": marker, "ls": dashes[rows["optimizer"].iloc[0]]}
                lines += ax.plot(rows[name], rows["test_accuracy"], label=label, ms=4.5, lw=1.5, **style)
                ax.vlines(rows[name], rows["low"], rows["high"], color=colour, lw=4, alpha=0.18)
            label_axes(ax, words, percents="y")
        for ax in axes[:, 0]:
            ax.set_ylabel("test accuracy")
        legend_above(figure, lines[: len(lines) // 2], most=2, fontsize=8, handlelength=3)
    return figure


def _panel(ax: Axes, costs: pd.DataFrame, name: str, words: str, style: dict[str, tuple[str, str]]) -> None:
    for row in costs.to_dict("records"):
        colour, marker = style[row["family"]]
        ax.plot([row[name]] * 2, [row["lowest"], row["highest"]], color=colour, lw=1.2, zorder=2)
        ax.plot(row[name], row["test_accuracy"], marker, color=colour, ms=6.5, mec="white", mew=0.7, zorder=3)
    front = costs[costs[f"front_{name}"]].sort_values(name)
    ax.plot(front[name], front["test_accuracy"], color=FRONT, lw=1.1, ls=(0, (4, 2)), zorder=1)
    ratio = costs[name].max() / max(costs[name].min(), np.finfo(float).tiny)
    if ratio > _WIDE:
        log_axis(ax.xaxis, (1, 3) if ratio < 100 else (1,), short_counts(), numticks=6)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter(short_counts())
    label_axes(ax, f"{words} (log scale)" if ratio > _WIDE else words, percents="y")


def sharing_errors(totals: pd.DataFrame, *, width: float = 7.4, height: float = 3.6) -> Figure:
    """Relative error over all kernels against m, with a dictionary a layer and with shared ones: mean and range.

    Parameters
    ----------
    totals : one row an m, seed and kind: m, seed, sharing ("own" or "shared"), relative_error
    """
    with house_axes(width, height) as ax:
        for kind, colour, marker in (("own", BLUE, "o"), ("shared", VERMILION, "D")):
            over = totals[totals["sharing"] == kind].groupby("m")["relative_error"].agg(["mean", "min", "max"])
            words = "a dictionary a layer" if kind == "own" else "one for each shape of kernel"
            ax.plot(over.index, over["mean"], color=colour, marker=marker, ms=5, lw=1.5, label=words)
            ax.fill_between(over.index, over["min"], over["max"], color=colour, alpha=0.15, lw=0)
        label_axes(ax, "filter atoms m", "relative error", percents="y", whole="x", zero="y")
        legend_above(ax.figure)
    return ax.figure


def parameter_landscape(
    settings: pd.DataFrame, lora: pd.DataFrame, *, panel: float = 3.5, height: float = 4.4
) -> Figure:
    """Trained parameters against m, a colour a k_c, a mark an m_1; dashed lines are LoRA's ranks.

    Parameters
    ----------
    settings : model, m, m_1, k_c (0 for none), trainable
    lora : model, method, rank, trainable; each rank is drawn by its first method
    """
    models = list(dict.fromkeys(settings["model"]))
    blocks, expansions = sorted(settings["k_c"].unique()), sorted(settings["m_1"].unique())
    colours = dict(zip(blocks, itertools.cycle((BLUE, VERMILION, GREEN, PURPLE)), strict=False))
    marks = dict(zip(expansions, itertools.cycle("os^DvP"), strict=False))
    with house_figure(panel * len(models), height, ncols=len(models), sharey=True) as (figure, axes):
        for ax, model in zip(axes[0], models, strict=True):
            grid = settings[settings["model"] == model].sort_values("m")
            for (k_c, m_1), line in grid.groupby(["k_c", "m_1"]):
                look = {"color": colours[k_c], "marker": marks[m_1]}
                ax.plot(line["m"], line["trainable"], ms=4.5, lw=1, **look)
            _ranks(ax, lora[lora["model"] == model])
            ax.set_title(model.partition(":")[2] or model, fontsize=10)
            ax.set_xlabel("atoms m")
            ax.set_xticks(sorted(settings["m"].unique()))
        axes[0, 0].set_yscale("log")
        axes[0, 0].yaxis.set_major_formatter(short_counts())
        axes[0, 0].set_ylabel("trained parameters, head apart")
        keys = [
            Line2D([], [], color=colour, lw=2, label=f"k_c = {k_c}" if k_c else "no blocks")
            for k_c, colour in colours.items()
        ]
        keys += [
            Line2D([], [], color=INK, marker=mark, ls="", ms=5, label=f"m_1 = {m_1}" if m_1 else "not expanded")
            for m_1, mark in marks.items()
        ]
        legend_above(figure, keys, most=8)
    return figure


def _ranks(ax: Axes, lora: pd.DataFrame) -> None:
    for _, row in lora.drop_duplicates("rank").iterrows():
        ax.axhline(row["trainable"], color=MUTED, lw=0.9, ls=(0, (4, 3)))
        at = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom", "fontsize": 7.5}
        at["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.4}
        ax.annotate(f"LoRA r = {row['rank']}", (0.99, row["trainable"]), **at)
