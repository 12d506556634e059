"""Figures with a line a layer: errors, their distribution over kernels, coherence, cost, storage formats."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..printable import counted
from .figure import house_axes, house_figure, is_wide, label_axes, legend_above, whole_ticks
from .style import BLUE, GREEN, INK, MUTED, ORANGE, SKY, VERMILION

_MOST_NAMES = 48  # beyond, layers are numbered
_FORMATS = {"atoms": ("filter atoms", BLUE, "o"), "cp": ("CP", VERMILION, "s"), "tucker": ("Tucker", GREEN, "^")}
_COUNTINGS = {"dense": "all coefficients counted", "nonzero": "nonzero ones counted"}
_LEGEND = {"handlelength": 1.4, "columnspacing": 1.2}


def layer_errors(
    subspace: pd.DataFrame, outputs: pd.DataFrame | None = None, *, width: float = 7.4, height: float | None = None
) -> Figure:
    """Each layer's relative error, beside that of the best subspace and that of its output on real images.

    Parameters
    ----------
    subspace : diagnostics.subspace_table: name, relative_error, best_relative_error
    outputs : diagnostics.output_table: name, output_error; optional
    """
    names = subspace["name"].tolist()
    lines = range(len(names))
    with house_axes(width, height or _height(names)) as ax:
        best = {"color": INK, "ms": 9, "mew": 1.6, "zorder": 4, "label": "kernels, best subspace"}
        ax.plot(subspace["best_relative_error"], lines, "|", **best)
        ax.plot(subspace["relative_error"], lines, "o", color=BLUE, ms=5.5, label="kernels, these atoms")
        if outputs is not None:
            errors = outputs.set_index("name")["output_error"].reindex(names)
            ax.plot(errors, lines, "D", color=VERMILION, ms=4.5, label="outputs on images")
        _finish(ax, names, "relative error")
    return ax.figure


def kernel_errors(quantiles: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """How the relative error is spread over a layer's kernels: median, middle half, and 5th to 95th percentile.

    Parameters
    ----------
    quantiles : diagnostics.kernel_quantiles: name, quantile, relative_error
    """
    groups = _by_layer(quantiles, "relative_error")
    with house_axes(width, height or _height(groups)) as ax:
        _distributions(ax, groups)
        _finish(ax, list(groups), "relative error of a kernel")
    return ax.figure


def coherence(
    quantiles: pd.DataFrame, summary: pd.DataFrame, *, width: float = 7.4, height: float | None = None
) -> Figure:
    """How alike the atoms of each layer are: all pairs, the largest (the coherence), and the Welch bound for m > d.

    Parameters
    ----------
    quantiles : diagnostics.correlation_quantiles: name, quantile, correlation
    summary : diagnostics.coherence_table: name, coherence, welch_bound, bound_applies
    """
    pairs, names = _by_layer(quantiles, "correlation"), summary["name"].tolist()
    groups = {name: pairs.get(name, {}) for name in names}  # a single atom has no pairs
    lines = range(len(names))
    with house_axes(width, height or _height(groups)) as ax:
        _distributions(ax, groups)
        ax.plot(summary["coherence"], lines, "D", color=VERMILION, ms=4.5, label="largest (coherence)")
        bound = summary["welch_bound"].where(summary["bound_applies"])
        if bound.notna().any():
            ax.plot(bound, lines, "|", color=INK, ms=10, mew=1.8, label="Welch bound, where m > d")
        ax.set_xlim(-0.02, 1.02)
        _finish(ax, names, "|inner product| of two unit-norm atoms", most_ticks=0)
    return ax.figure


def energies(energy: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """Where each layer's energy went: rebuilt, left over, and what the penalty's shrinkage keeps from either.

    Parameters
    ----------
    energy : diagnostics.energy_table: name, rebuilt_fraction, residual_fraction
    """
    names, lines = energy["name"].tolist(), np.arange(len(energy))
    missing = 1 - energy["rebuilt_fraction"] - energy["residual_fraction"]
    parts = [
        ("rebuilt", energy["rebuilt_fraction"], BLUE),
        ("lost to shrinkage", missing.clip(lower=0), SKY),
        ("residual", energy["residual_fraction"], VERMILION),
    ]
    left = np.zeros(len(energy))
    with house_axes(width, height or _height(names)) as ax:
        for words, values, colour in parts:
            ax.barh(lines, values, left=left, color=colour, height=0.62, label=words)
            left = left + values.to_numpy()
        ax.set_xlim(0, max(1.0, float(left.max())))
        label_axes(ax, percents="x")
        _finish(ax, names, "share of the kernels' energy (squared norm)", most_ticks=0)
        ax.grid(axis="y", visible=False)
    return ax.figure


def level_errors(levels: pd.DataFrame, *, width: float = 7.4, height: float = 3.8) -> Figure:
    """The kernel's error as atoms are replaced by atoms made of atoms: a thin line a layer, and their median.

    Parameters
    ----------
    levels : diagnostics.level_table: name, level, atoms, weight_error
    """
    with house_axes(width, height) as ax:
        for _name, rows in levels.groupby("name", sort=False):
            ax.plot(rows["level"], rows["weight_error"], color=BLUE, lw=0.8, alpha=0.35, marker=".", ms=4)
        middle = levels.groupby("level")[["weight_error", "atoms"]].median()
        count = levels["name"].nunique()
        label = f"median of {count} layers" if count > 1 else "1 layer"
        ax.plot(middle.index, middle["weight_error"], color=INK, lw=2, marker="o", ms=5, mec="white", label=label)
        words = [f"D\n{counted(int(row.atoms), 'atom')}" for row in middle.itertuples()]
        ax.set_xticks(middle.index, words)
        ax.set_xlim(-0.3, middle.index.max() + 0.3)
        ax.set_ylim(0, 1.05 * levels["weight_error"].max() or 1)
        label_axes(ax, "the chain of atoms down to", "relative error of the kernel", percents="y")
        legend_above(ax.figure)
    return ax.figure


def layer_costs(costs: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """Seconds of dictionary learning and its rounds, layer by layer; seconds alone where no layer took a round.

    Parameters
    ----------
    costs : diagnostics.cost_table: name, learning_seconds, rounds
    """
    names = costs["name"].tolist()
    panels = [("learning_seconds", "seconds", BLUE), ("rounds", "rounds", ORANGE)]
    panels = panels[: 1 + bool((costs["rounds"] > 0).any())]  # linear codes are solved at once
    with house_figure(width, height or _height(names), ncols=len(panels), sharey=True) as (figure, axes):
        for ax, (column, words, colour) in zip(axes[0], panels, strict=True):
            ax.barh(range(len(names)), costs[column], color=colour, height=0.62)
            label_axes(ax, f"{words} of learning", zero="x")
            if column == "rounds":
                whole_ticks(ax.xaxis, 5)
                ax.tick_params(axis="y", length=0)
            else:
                ax.xaxis.set_major_locator(MaxNLocator(5))
            ax.grid(axis="y", visible=False)
        _name_layers(axes[0, 0], names)
    return figure


def storage_formats(table: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """Relative errors of filter atoms, CP and Tucker at equal storage, layer by layer, a panel a way of counting.

    Parameters
    ----------
    table : diagnostics.storage_table: name, counting, method, relative_error
    """
    names = list(dict.fromkeys(table["name"]))
    countings = [name for name in _COUNTINGS if name in set(table["counting"])]
    options = {"ncols": len(countings), "sharex": True, "sharey": True}
    with house_figure(width, height or _height(names) + 0.2, **options) as (figure, axes):
        for ax, counting in zip(axes[0], countings, strict=True):
            rows = table[table["counting"] == counting]
            for method, (words, colour, marker) in _FORMATS.items():
                errors = rows[rows["method"] == method].set_index("name")["relative_error"].reindex(names)
                ax.plot(errors, range(len(names)), marker, color=colour, ms=5, alpha=0.9, label=words)
            ax.set_title(_COUNTINGS[counting], fontsize=9.5 if is_wide(width) else 7, color=MUTED)
            label_axes(ax, "relative error", percents="x", zero="x")
            ax.xaxis.set_major_locator(MaxNLocator(6 if is_wide(width) else 3))
            ax.set_xlim(right=1.05 * table["relative_error"].max())
        _name_layers(axes[0, 0], names)
        legend_above(figure, **_LEGEND)
    return figure


def _by_layer(quantiles: pd.DataFrame, column: str) -> dict[str, dict[float, float]]:
    """Value by quantile, by layer."""
    return {
        name: dict(zip(rows["quantile"], rows[column], strict=True))
        for name, rows in quantiles.groupby("name", sort=False)
    }


def _distributions(ax: Axes, groups: Mapping[str, Mapping[float, float]]) -> None:
    for line, values in enumerate(groups.values()):
        if not values:
            continue
        low, lower, middle, upper, high = (values[q] for q in (0.05, 0.25, 0.5, 0.75, 0.95))
        words = ("5th to 95th percentile", "middle half", "median") if line == 0 else (None, None, None)
        ax.plot([low, high], [line, line], color=BLUE, lw=1.1, alpha=0.8, label=words[0])
        ax.plot([lower, upper], [line, line], color=BLUE, lw=5, alpha=0.35, solid_capstyle="butt", label=words[1])
        ax.plot(middle, line, "o", color=BLUE, ms=4.5, mec="white", mew=0.7, label=words[2])


def _height(names: object) -> float:
    count = len(names)
    return (0.21 if count <= _MOST_NAMES else 0.08) * count + 1.15


def _name_layers(ax: Axes, names: list[str]) -> None:
    """The first layer on top; named where there is room, numbered otherwise."""
    ax.set_ylim(len(names) - 0.4, -0.6)
    if len(names) <= _MOST_NAMES:
        ax.set_yticks(range(len(names)), names, fontsize=8)
    else:
        ax.set_ylabel("layer, from the first to the last")
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", color="#f0f2f4")


def _finish(ax: Axes, names: list[str], words: str, most_ticks: int = 6) -> None:
    """Names of the layers and of the x axis, which holds fractions from zero on unless ``most_ticks`` is 0."""
    _name_layers(ax, names)
    if most_ticks:
        label_axes(ax, percents="x", zero="x")
        ax.xaxis.set_major_locator(MaxNLocator(most_ticks))
    label_axes(ax, words)
    legend_above(ax.figure, **_LEGEND)
