"""Figures of how kernels use their atoms, and of the spectrum that bounds what atoms can do."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .figure import house_axes, house_figure, is_wide, label_axes, legend_above, panel_shape, whole_ticks
from .style import BLUE, GRID, INK, VERMILION


def support_histogram(supports: pd.DataFrame, *, width: float = 7.4, height: float = 3.4) -> Figure:
    """How many atoms the kernels use: bars for all kernels together, a thin line a layer.

    Parameters
    ----------
    supports : diagnostics.support_table: name, nonzeros, rows, fraction
    """
    together = supports.groupby("nonzeros")["rows"].sum()
    together = together / together.sum()
    layers = supports["name"].nunique()
    with house_axes(width, height) as ax:
        ax.bar(together.index, together, color=BLUE, alpha=0.45, width=0.8, label="all kernels together")
        for number, (_name, rows) in enumerate(supports.groupby("name", sort=False)):
            words = {"label": f"each of {layers} layers"} if number == 0 and layers > 1 else {}
            ax.plot(rows["nonzeros"], rows["fraction"], color=INK, lw=0.8, alpha=0.35, marker=".", ms=3, **words)
        words = ("atoms that a kernel uses (nonzero coefficients)", "share of the kernels")
        label_axes(ax, *words, percents="y", whole="x", zero="y")
        legend_above(ax.figure)
    return ax.figure


def atom_usage(atoms: pd.DataFrame, *, width: float = 7.4, height: float = 3.2) -> Figure:
    """Share of the kernels that use each atom, and its share of the energy: a thin line a layer, and their median.

    Parameters
    ----------
    atoms : diagnostics.atom_table: name, atom, usage, energy_fraction; atoms stand in the order of falling energy
    """
    panels = {"usage": "share of the kernels that use it", "energy_fraction": "share of the atoms' energy"}
    shape = panel_shape(len(panels), 2 if is_wide(width) else 1)
    with house_figure(width, height * shape["nrows"], **shape) as (figure, axes):
        for ax, (column, words) in zip(axes.flat, panels.items(), strict=True):
            for _name, rows in atoms.groupby("name"):
                ax.plot(rows["atom"] + 1, rows[column], color=BLUE, lw=0.8, alpha=0.35)
            middle = atoms.groupby("atom")[column].median()
            layers = atoms["name"].nunique()
            label = f"median of {layers} layers" if layers > 1 else "1 layer"
            ax.plot(middle.index + 1, middle, color=INK, lw=2, marker="o", ms=4, mec="white", label=label)
            ax.set_ylim(0, 1.04 * atoms[column].max())
            label_axes(ax, "atom, by falling energy", words, percents="y", whole="x")
        legend_above(figure)
    return figure


def supports(
    frequent: pd.DataFrame, *, name: str | None = None, width: float = 7.4, height: float | None = None
) -> Figure:
    """The supports that most kernels of one layer share: which atoms they hold, and what share of the kernels has them.

    Parameters
    ----------
    frequent : diagnostics.frequent_supports: name, rank, atoms, fraction
    name : of the layer, default the first
    """
    name = frequent["name"].iloc[0] if name is None else name
    rows = frequent[frequent["name"] == name].sort_values("rank")
    held = [_numbers(atoms) for atoms in rows["atoms"]]
    shown = max((max(atoms, default=0) for atoms in held), default=0) + 1
    with house_figure(
        width,
        height or 0.9 + 0.27 * max(len(rows), 4),
        ncols=2,
        sharey=True,
        width_ratios=(min(shown, 24) / 10 + 0.5, 1.3),
    ) as (figure, axes):
        left, right = axes[0]
        for line, atoms in enumerate(held):
            left.plot(range(shown), [line] * shown, "o", ms=5, color=GRID)
            left.plot(atoms, [line] * len(atoms), "o", ms=6.5, color=BLUE)
        whole_ticks(left.xaxis, 12)
        left.set_yticks(range(len(rows)), [str(rank) for rank in rows["rank"]])
        left.set_xlim(-0.6, shown - 0.4)
        left.grid(False)
        label_axes(left, f"atom of {name}", "support, by frequency")
        right.barh(range(len(rows)), rows["fraction"], color=BLUE, height=0.62)
        right.xaxis.set_major_locator(MaxNLocator(4))
        right.tick_params(axis="y", length=0)
        label_axes(right, "share of the kernels", percents="x")
        left.invert_yaxis()
    return figure


def spectrum(
    spectra: pd.DataFrame, subspace: pd.DataFrame | None = None, *, width: float = 7.4, height: float = 3.8
) -> Figure:
    """The error of the best subspace of each rank, a line a layer, and where the decomposition stands.

    Parameters
    ----------
    spectra : diagnostics.spectrum_table: name, rank, best_relative_error
    subspace : diagnostics.subspace_table: name, atoms, size, relative_error; optional
    """
    with house_axes(width, height) as ax:
        for number, (_name, rows) in enumerate(spectra.groupby("name", sort=False)):
            words = {"label": "best subspace, each layer"} if number == 0 else {}
            ax.plot(rows["rank"], rows["best_relative_error"], color=INK, lw=0.8, alpha=0.4, **words)
        if subspace is not None:
            marks = {"color": VERMILION, "ms": 5, "mec": "white", "label": "these atoms"}
            ax.plot(subspace["atoms"], subspace["relative_error"], "o", **marks)
        words = ("dimensions of the subspace, or atoms m", "relative reconstruction error")
        label_axes(ax, *words, percents="y", whole="x", zero="xy")
        legend_above(ax.figure)
    return ax.figure


def _numbers(atoms: object) -> list[int]:
    """The atoms of a support, "0 3 5"; read back from CSV a single one may be a number, and none at all NaN."""
    return [] if pd.isna(atoms) else [int(float(atom)) for atom in str(atoms).split()]
