"""Figures of a decomposition: its error against m, the m that was chosen, how it converged, its atoms before and after
tuning."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .figure import board, draw_board, house_axes, house_figure, label_axes, legend_above
from .style import BLUE, GREY, INK, OTHERS, TIMES, VERMILION, kernel_name


def error_vs_atoms(curve: pd.DataFrame, *, width: float = 7.4, height: float = 3.9) -> Figure:
    """Relative reconstruction error against m: a thin line a layer, coloured by kernel size, and their median.

    Parameters
    ----------
    curve : diagnostics.error_curve: name, m, shape, relative_error
    """
    curve = curve.assign(kernel=[kernel_name(shape) for shape in curve["shape"]])
    kernels = sorted(curve["kernel"].unique())
    palette = dict(zip(kernels, [BLUE, VERMILION, *OTHERS, *[GREY] * len(kernels)], strict=False))
    with house_axes(width, height) as ax:
        for (kernel, _name), rows in curve.groupby(["kernel", "name"]):
            ax.plot(rows["m"], rows["relative_error"], color=palette[kernel], lw=0.8, alpha=0.35)
        for kernel, rows in curve.groupby("kernel"):
            median = rows.groupby("m")["relative_error"].median()
            count = rows["name"].nunique()
            text = f"{kernel}, median of {count} layers" if count > 1 else f"{kernel}, 1 layer"
            ax.plot(median.index, median, color=palette[kernel], lw=2.2, marker="o", ms=5, mec="white", label=text)
        label_axes(ax, "filter atoms m", "relative reconstruction error", percents="y", zero="y")
        ax.set_xticks(sorted(curve["m"].unique()))
        legend_above(ax.figure)
    return ax.figure


def chosen_atoms(choice: pd.DataFrame, max_error: float, *, width: float = 7.4, height: float = 3.9) -> Figure:
    """The best possible error against m up to where one meets what was asked, a thin line a layer, a thick one for the
    model; and the error of the smallest m that meets it, a dot each.

    Parameters
    ----------
    choice : decomposition.AtomChoice.curve, of layers, of the model, or both: name ("(model)"), m, relative_error,
        best_possible, chosen
    max_error : the error that was to be met
    """
    layers, model = choice[choice["name"] != "(model)"], choice[choice["name"] == "(model)"]
    with house_axes(width, height) as ax:
        ax.axhline(max_error, color=INK, lw=1, ls="--", label=f"error to meet, {max_error:.3g}")
        for _name, rows in layers.groupby("name"):
            ax.plot(rows["m"], rows["best_possible"], color=BLUE, lw=0.8, alpha=0.45)
        for rows, colour, words in ((layers, BLUE, "of a layer"), (model, VERMILION, "of the model")):
            found = rows[rows["chosen"]]
            if len(found):
                look = {"color": colour, "ms": 7, "mec": "white", "zorder": 3, "label": f"smallest m {words}"}
                ax.plot(found["m"], found["relative_error"], "o", **look)
        ax.plot(model["m"], model["best_possible"], color=VERMILION, lw=2)
        words = ("filter atoms m", "relative error (line: best possible)")
        label_axes(ax, *words, percents="y", whole="x", zero="y")
        legend_above(ax.figure)
    return ax.figure


def convergence(table: pd.DataFrame, *, width: float = 7.4, height: float = 3.4) -> Figure:
    """The objective over its first value against codings of all kernels: a thin line a layer, and their median.

    Only the start that was kept is drawn; rounds on parts of the kernels and of other starts are not.

    Parameters
    ----------
    table : diagnostics.convergence_table: name, round, relative_to_start
    """
    with house_axes(width, height) as ax:
        for _name, rows in table.groupby("name"):
            ax.plot(rows["round"], rows["relative_to_start"], color=BLUE, lw=0.8, alpha=0.3)
            ax.plot(rows["round"].iloc[-1], rows["relative_to_start"].iloc[-1], "o", color=BLUE, ms=3)
        # Layers stop at different rounds; a stopped one keeps its last value, or the median would jump.
        wide = table.pivot(index="round", columns="name", values="relative_to_start").ffill()
        layers = wide.shape[1]
        ax.plot(
            wide.index,
            wide.median(axis=1),
            color=INK,
            lw=2,
            label=f"median of {layers} layers" if layers > 1 else "1 layer",
        )
        words = "codings of all kernels from the kept start (a dot where a layer stopped)"
        label_axes(ax, words, "objective / first objective", whole="x")
        legend_above(ax.figure)
    return ax.figure


def atoms_grid(pictures: Mapping[str, np.ndarray], *, width: float = 7.4) -> Figure:
    """Filter atoms as pictures, a row a layer: blue below zero, red above, white at zero, each layer on its own scale.

    Parameters
    ----------
    pictures : arrays (n_atoms, h, w) by layer name
    """
    columns = max(len(atoms) for atoms in pictures.values())
    cell = min(0.62, (width - 2.2) / columns)
    with house_figure(width, (cell + 0.09) * len(pictures) + 0.1, nrows=len(pictures), ncols=columns) as (figure, axes):
        for row, (name, atoms) in zip(axes, pictures.items(), strict=True):
            largest = float(np.abs(atoms).max()) or 1.0
            for ax, atom in zip(row, atoms, strict=False):
                ax.set_axis_off()
                draw_board(ax, atom, largest)
            size = TIMES.join(map(str, np.shape(atoms)[1:]))
            row[0].text(-0.25, 0.5, f"{name}  {size}", transform=row[0].transAxes, ha="right", va="center", fontsize=8)
    return figure


def atom_changes(
    layers: Mapping[str, Mapping[str, np.ndarray]], *, width: float = 7.4, height: float | None = None
) -> Figure:
    """A board a layer: a column an atom; below each other before tuning, after it, and the change.

    Before and after have one scale a layer, the change has its own; both are symmetric about zero.

    Parameters
    ----------
    layers : by name ``before``, ``after`` and ``change``, each (n_atoms, height, width)
    """
    boards = {}
    for name, pictures in layers.items():
        before, after, change = (pictures[side] for side in ("before", "after", "change"))
        kept, moved = max(np.abs(before).max(), np.abs(after).max()) or 1.0, np.abs(change).max() or 1.0
        boards[name] = board([before / kept, after / kept, change / moved])
    tall = [min(1.7, 0.82 * width * shown.shape[0] / shown.shape[1]) for shown in boards.values()]
    options = {"nrows": len(tall), "height_ratios": tall}
    with house_figure(width, height or sum(tall) + 0.42 * len(tall), **options) as (figure, axes):
        for ax, (name, shown) in zip(axes[:, 0], boards.items(), strict=True):
            draw_board(ax, shown)
            own = (shown.shape[0] + 1) / 3
            ax.set_yticks([own * (n + 0.5) - 1 for n in range(3)], ["before", "after", "change"])
            ax.set_title(name, loc="left", color=INK)
    return figure
