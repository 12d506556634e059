"""Figures from tidy tables, and nothing but figures: no training, no state left in matplotlib.

Each function returns a Figure of its own (never one of pyplot's); ``figure_html`` turns it into an inline SVG with a
description for those who cannot see it, and ``show`` displays that in a notebook. Colours are those of Okabe and Ito,
which colour-blind readers can tell apart, and markers repeat what colours say.
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

INK, MUTED, GRID = "#1f2328", "#59636e", "#e4e7eb"
#: Colour and marker by family of settings, see report.tuning_table.
FAMILIES = {
    "head only": ("#7a828c", "s"),
    "spatial atoms": ("#0072b2", "o"),
    "spatial and block atoms": ("#d55e00", "D"),
    "full tuning": (INK, "^"),
}
_OTHERS = ["#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
_FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
_TIMES = "\N{MULTIPLICATION SIGN}"
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.edgecolor": "#9aa4ae",
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: readable, searchable, in the page's own font
}


@contextmanager
def _figure(width: float, height: float, **subplots: object) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure of its own in the house style, with its axes as a 2-d array."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(squeeze=False, **subplots)


def families_style(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) by family name, the known ones always alike."""
    others = [name for name in dict.fromkeys(names) if name not in FAMILIES]
    spare = {name: (_OTHERS[n % len(_OTHERS)], "Pv<>"[n % 4]) for n, name in enumerate(others)}
    return {**FAMILIES, **spare}


def accuracy_vs_parameters(runs: pd.DataFrame, *, width: float = 7.4, height: float = 4.3) -> Figure:
    """Test accuracy against all trained parameters on a log axis, a point a run and the mean of each setting.

    Parameters
    ----------
    runs : one row a run: label, family, seed, trained (atoms and head together), test_accuracy
    """
    style = families_style(runs["family"])
    means = runs.groupby(["label", "family"], sort=False)[["trained", "test_accuracy"]].mean().reset_index()
    with _figure(width, height) as (figure, axes):
        ax = axes[0, 0]
        for row in means.itertuples():
            colour, marker = style[row.family]
            points = runs[(runs["label"] == row.label) & (runs["family"] == row.family)]
            ax.plot(points["trained"], points["test_accuracy"], "_", color=colour, ms=9, mew=1.2, alpha=0.8, zorder=2)
            lowest, highest = points["test_accuracy"].min(), points["test_accuracy"].max()
            ax.plot([row.trained] * 2, [lowest, highest], color=colour, lw=1.2, zorder=2)
            ax.plot(row.trained, row.test_accuracy, marker, color=colour, ms=7.5, mec="white", mew=0.8, zorder=3)
        ax.set_xscale("log")
        low, high = means["trained"].min(), means["trained"].max()
        ax.set_xlim(low / 1.35, max(high * 1.5, low * 8))
        if high / low < 100:
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        _room_above_and_below(ax, runs["test_accuracy"])
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_xlabel("trained parameters, head included (log scale)")
        ax.set_ylabel("test accuracy")
        _label_points(ax, means, style)
    return figure


def learning_curves(
    history: pd.DataFrame, *, measure: str = "test_accuracy", width: float = 7.4, height: float = 3.8
) -> Figure:
    """A measure per epoch, the mean over seeds as a line and their range as a band, labelled at its end.

    Parameters
    ----------
    history : one row an epoch and run: label, family, seed, epoch and the measure
    """
    labels = list(dict.fromkeys(history["label"]))
    style = families_style(history["family"])
    with _figure(width, height) as (figure, axes):
        ax, ends = axes[0, 0], []
        for label in labels:
            rows = history[history["label"] == label].dropna(subset=[measure])
            if rows.empty:
                continue
            family = rows["family"].iloc[0]
            colour, marker = style[family]
            over = rows.groupby("epoch")[measure].agg(["mean", "min", "max"])
            ax.fill_between(over.index, over["min"], over["max"], color=colour, alpha=0.15, lw=0)
            position = [name for name in labels if (history["label"] == name).any()].index(label)
            ax.plot(over.index, over["mean"], color=colour, marker=marker, ms=3.5, lw=1.5, ls=["-", "--"][position % 2])
            ends.append({"label": label, "family": family, "x": over.index[-1], "y": over["mean"].iloc[-1]})
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if measure.endswith("accuracy"):
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_xlabel("epoch")
        ax.set_ylabel(measure.replace("_", " "))
        _label_ends(ax, ends, style)
    return figure


def error_vs_atoms(curve: pd.DataFrame, *, width: float = 7.4, height: float = 3.9) -> Figure:
    """Relative reconstruction error against m: a thin line a layer, coloured by kernel size, and their median.

    Parameters
    ----------
    curve : diagnostics.error_curve: name, m, shape, relative_error
    """
    curve = curve.assign(kernel=[kernel_name(shape) for shape in curve["shape"]])
    kernels = sorted(curve["kernel"].unique())
    palette = dict(zip(kernels, ["#0072b2", "#d55e00", *_OTHERS, *["#7a828c"] * len(kernels)], strict=False))
    with _figure(width, height) as (figure, axes):
        ax = axes[0, 0]
        for (kernel, _name), rows in curve.groupby(["kernel", "name"]):
            ax.plot(rows["m"], rows["relative_error"], color=palette[kernel], lw=0.8, alpha=0.35)
        for kernel, rows in curve.groupby("kernel"):
            median = rows.groupby("m")["relative_error"].median()
            count = rows["name"].nunique()
            text = f"{kernel}, median of {count} layers" if count > 1 else f"{kernel}, 1 layer"
            ax.plot(median.index, median, color=palette[kernel], lw=2.2, marker="o", ms=5, mec="white", label=text)
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xticks(sorted(curve["m"].unique()))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.set_xlabel("filter atoms m")
        ax.set_ylabel("relative reconstruction error")
        ax.legend(loc="upper right")
    return figure


def convergence(table: pd.DataFrame, *, width: float = 7.4, height: float = 3.4) -> Figure:
    """The objective over its first value, per round of dictionary learning: a thin line a layer, and their median.

    Parameters
    ----------
    table : diagnostics.convergence_table: name, round, relative_to_start
    """
    with _figure(width, height) as (figure, axes):
        ax = axes[0, 0]
        for _name, rows in table.groupby("name"):
            ax.plot(rows["round"], rows["relative_to_start"], color="#0072b2", lw=0.8, alpha=0.3)
            ax.plot(rows["round"].iloc[-1], rows["relative_to_start"].iloc[-1], "o", color="#0072b2", ms=3)
        # Layers stop at different rounds; a stopped one keeps its last value, or the median would jump.
        wide = table.pivot(index="round", columns="name", values="relative_to_start").ffill()
        ax.plot(wide.index, wide.median(axis=1), color=INK, lw=2, label=f"median of {wide.shape[1]} layers")
        ax.set_xlabel("round of dictionary learning (a dot where a layer stopped)")
        ax.set_ylabel("objective / first objective")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(loc="upper right")
    return figure


def atoms_grid(pictures: Mapping[str, np.ndarray], *, width: float = 7.4) -> Figure:
    """Filter atoms as pictures, a row a layer: blue below zero, red above, white at zero, each layer on its own scale.

    Parameters
    ----------
    pictures : arrays (n_atoms, h, w) by layer name
    """
    columns = max(len(atoms) for atoms in pictures.values())
    cell = min(0.62, (width - 2.2) / columns)
    with _figure(width, (cell + 0.09) * len(pictures) + 0.1, nrows=len(pictures), ncols=columns) as (figure, axes):
        for row, (name, atoms) in zip(axes, pictures.items(), strict=True):
            largest = float(np.abs(atoms).max()) or 1.0
            for ax in row:
                ax.set_axis_off()
            for ax, atom in zip(row, atoms, strict=False):
                ax.imshow(atom, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
            size = _TIMES.join(map(str, np.shape(atoms)[1:]))
            row[0].text(-0.25, 0.5, f"{name}  {size}", transform=row[0].transAxes, ha="right", va="center", fontsize=8)
    return figure


def confusion(table: pd.DataFrame, *, width: float = 5.2, height: float = 4.6) -> Figure:
    """Counts of true against predicted class, shaded by the fraction of the true class.

    Parameters
    ----------
    table : long form: true, predicted, count
    """
    import seaborn

    counts = table.pivot_table(index="true", columns="predicted", values="count", aggfunc="sum", fill_value=0)
    classes = sorted({*counts.index, *counts.columns})
    counts = counts.reindex(index=classes, columns=classes, fill_value=0)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    few = len(classes) <= 20
    with _figure(width, height) as (figure, axes):
        ax = axes[0, 0]
        words = counts.astype(str).where(counts > 0, "") if few else False
        seaborn.heatmap(
            shares, annot=words, fmt="", cmap="Blues", vmin=0, vmax=1, ax=ax, cbar=not few, linewidths=0.5 * few
        )
        ax.grid(False)
        ax.set(xlabel="predicted class", ylabel="true class")
        ax.tick_params(length=0)
    return figure


def figure_html(figure: Figure, alt: str, caption: str | None = None) -> str:
    """The figure as an HTML ``<figure>`` around an inline SVG that carries its description and needs no other file."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": alt}):  # a salt of its own: no two figures share an id
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", _FONTS, svg)
    prefix = "f" + hashlib.sha256((alt + svg).encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)
    label = html.escape(" ".join(alt.split()))
    size = f'style="width:100%;max-width:{100 * figure.get_figwidth():.0f}px;height:auto"'
    opening = rf'<svg {_SVG} {size} viewBox="\1" aria-label="{label}">'
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', lambda found: opening.replace(r"\1", found[1]), svg, count=1)
    described = "" if caption is None else f"<figcaption>{html.escape(' '.join(caption.split()))}</figcaption>"
    return f'<figure class="plot">{svg}{described}</figure>'


_SVG = 'role="img" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def show(figure: Figure, alt: str, caption: str | None = None) -> None:
    """Display a figure in a notebook, with its description and caption; it looks the same in the exported page."""
    from IPython.display import HTML, display

    display(HTML(figure_html(figure, alt, caption)))


def short_count(value: float) -> str:
    """A count for a reader's eye: 950, 12.8k, 3.4M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def kernel_name(shape: Sequence[int] | str) -> str:
    """``3×3`` from a weight's shape (or its text in a CSV), ``1×1`` for a linear layer.

    >>> kernel_name("[32, 1, 5, 5]")
    '5×5'
    """
    sizes = [int(size) for size in re.findall(r"\d+", str(shape))][2:]
    return _TIMES.join(map(str, sizes)) or f"1{_TIMES}1"


def _room_above_and_below(ax: Axes, values: pd.Series) -> None:
    room = max(0.02, 0.08 * (values.max() - values.min()))
    ax.set_ylim(max(0.0, values.min() - room), values.max() + room)


def _label_points(ax: Axes, means: pd.DataFrame, style: dict[str, tuple[str, str]]) -> None:
    """Each setting's name beside its point, pushed apart where they would overlap, with a thin line back."""
    middle = np.sqrt(np.prod(ax.get_xlim()))
    right = means[means["trained"] < middle]
    for side, rows in ((1, right), (-1, means.drop(right.index))):
        x = rows["trained"].max() * 1.45 if side > 0 else None
        for row, y in zip(rows.itertuples(), _spread(ax, rows["test_accuracy"]), strict=True):
            at = (x, y) if side > 0 else (row.trained / 1.25, y)
            arrow = {"arrowstyle": "-", "color": "#b6bec7", "lw": 0.7, "shrinkA": 1, "shrinkB": 5}
            ax.annotate(
                row.label,
                (row.trained, row.test_accuracy),
                at,
                color=style[row.family][0],
                ha="left" if side > 0 else "right",
                va="center",
                arrowprops=arrow if side > 0 else None,
            )


def _label_ends(ax: Axes, ends: list[dict], style: dict[str, tuple[str, str]]) -> None:
    ends = pd.DataFrame(ends, columns=["label", "family", "x", "y"])
    for row, y in zip(ends.itertuples(), _spread(ax, ends["y"]), strict=True):
        ax.annotate(
            row.label, (row.x, y), xytext=(8, 0), textcoords="offset points", color=style[row.family][0], va="center"
        )


def _spread(ax: Axes, values: pd.Series, lines: float = 1.35) -> np.ndarray:
    """Heights for labels at these values, moved as little as needed to stand a line apart within the axes."""
    low, high = ax.get_ylim()
    inches = ax.figure.get_figheight() * 0.8
    gap = lines * matplotlib.rcParams["font.size"] / 72 / inches * (high - low)
    order = np.argsort(values.to_numpy(), kind="stable")
    placed = values.to_numpy(dtype=float)[order]
    for _ in range(100):  # neighbours too close move apart by half of what is missing each
        for n in range(len(placed) - 1):
            missing = gap - (placed[n + 1] - placed[n])
            if missing > 1e-9:
                placed[n] -= missing / 2
                placed[n + 1] += missing / 2
        placed = np.clip(placed, low, high)
    result = np.empty_like(placed)
    result[order] = placed
    return result
