"""Figures of the share of full tuning's change that atoms could have learnt, in all and layer by layer."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from .style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, VERMILION, house_figure, percent

#: Colour, marker and size: sparse and principal coefficients often reach the same, so one stands around the other
_STYLE = {"lasso": (BLUE, "o", 8.5), "pca": (VERMILION, "D", 4.5), "random": (MUTED, "X", 7)}
_SPARE = ((GREEN, "^", 6), (PURPLE, "v", 6), (ORANGE, "s", 6))
_STEPS = (1, 2, 5)


def span_shares(totals: pd.DataFrame, *, width: float = 7.4, height: float = 3.8) -> Figure:
    """The share of full tuning's change that lies in the span of alpha against m, a panel a block, on a log axis.

    Lines are means over seeds, bars their range; dashed lines are the shares of a random change. Hollow marks: atoms
    that each input channel combines in its own way.

    Parameters
    ----------
    totals : totals.csv of a span_study: block, solver, per_channel, m, seed, share, expected
    """
    blocks = list(dict.fromkeys(totals["block"]))
    across = len(blocks) if width > 6 else 1
    down = -(-len(blocks) // across)
    options = {"nrows": down, "ncols": across, "sharey": True, "sharex": True}
    with house_figure(width, height * down, **options) as (figure, axes):
        for ax, block in zip(axes.flat, blocks, strict=True):
            for (_, _, look), rows in _series(totals, totals["block"] == block):
                over = rows.groupby("m")[["share", "expected"]].agg(["mean", "min", "max"])
                ax.plot(over.index, over["expected", "mean"], color=look["color"], lw=1, ls="--", zorder=1)
                ax.vlines(over.index, over["share", "min"], over["share", "max"], color=look["color"], lw=1.2)
                ax.plot(over.index, over["share", "mean"], lw=1.5, **look)
            _log(ax, percent())
            ax.xaxis.set_major_locator(FixedLocator(sorted(totals["m"].unique())))
            ax.set_title(_block_words(block), fontsize=9, color=INK, loc="left")
        for ax in axes[-1]:
            ax.set_xlabel("filter atoms m")
        for ax in axes[:, 0]:
            ax.set_ylabel("share of the change (log)")
        chance = Line2D([], [], color=MUTED, ls="--", lw=1, label="of a random change")
        _legend(figure, totals, [chance], width)
    return figure


def span_layers(layers: pd.DataFrame, *, width: float = 7.4, height: float = 2.3) -> Figure:
    """How often the share of each layer is that of a random change, at the largest m, a panel a block; 1 is chance.

    A mark is a layer, in the order of the network: the mean over seeds.

    Parameters
    ----------
    layers : layers.csv of a span_study: name, blocks, solver, per_channel, m, seed, share, expected
    """
    largest = layers[layers["m"] == layers["m"].max()].assign(gain=layers["share"] / layers["expected"])
    blocks = list(dict.fromkeys(largest["blocks"]))
    with house_figure(width, height * len(blocks) + 0.5, nrows=len(blocks)) as (figure, axes):
        for ax, block in zip(axes[:, 0], blocks, strict=True):
            ax.axhline(1, color=MUTED, lw=1, ls="--")
            for (_, _, look), rows in _series(largest, largest["blocks"] == block):
                gains = rows.groupby("name", sort=False)["gain"].mean()
                ax.plot(range(1, len(gains) + 1), gains, **{**look, "ls": "none"})
            _log(ax, FuncFormatter(lambda value, _: f"{value:g}×"))
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set_title(_block_words(block), fontsize=9, color=INK, loc="left")
        axes[-1, 0].set_xlabel("layer, in the order of the network")
        figure.supylabel("share over a random change's (log)", fontsize=9.5, color=MUTED)
        _legend(figure, largest, [], width)
    return figure


def _series(table: pd.DataFrame, where: pd.Series | bool = True) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """((solver, m_1, how it is drawn), its rows) of each pair of solver and m_1 among the rows."""
    solvers = list(dict.fromkeys(table["solver"]))
    spare = [name for name in solvers if name not in _STYLE]
    styles = {**_STYLE, **{name: _SPARE[number % len(_SPARE)] for number, name in enumerate(spare)}}
    shown = table[where] if where is not True else table
    for (solver, own), rows in shown.groupby(["solver", "per_channel"], sort=False):
        colour, marker, size = styles[solver]
        face = {"mfc": "white", "mec": colour} if own else {"mec": "white", "mew": 0.6}
        yield (solver, own, {"color": colour, "marker": marker, "ms": size, "ls": "-", **face}), rows


def _legend(figure: Figure, table: pd.DataFrame, more: list[Line2D], width: float) -> None:
    handles = []
    for (solver, own, look), _ in _series(table):
        handles.append(Line2D([], [], label=solver + (f", m₁={own} per channel" if own else ""), **look))
    figure.legend(handles=[*handles, *more], loc="outside upper left", ncols=4 if width > 6 else 1, fontsize=8.5)


def _log(ax: Axes, words: FuncFormatter) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=_STEPS, numticks=12))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(words)


def _block_words(block: str) -> str:
    return "spatial kernels alone" if block == "none" else f"{block} blocks of channels too"
