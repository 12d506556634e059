"""Figures of tuning runs: accuracy against parameters, learning curves, confusion."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogLocator, NullFormatter

from ..intervals import interval as interval_of
from ..intervals import on_pareto_front
from .figure import house_axes, is_wide, label_axes, legend_above, room_around, short_counts, spread
from .style import FRONT, families_style, family_marks, settings_style, text_colour

_MOST_NAMES = 12  # settings named beside their points; of more, only those on the front, and a legend tells families
_WIDEST_NAME = 34, 22  # characters of a name beside its point, in a wide figure and in a narrow one
_PARTS = re.compile(r",? (?=over|per |on |of )|, ")  # between the parts of a setting's name


def accuracy_vs_parameters(
    runs: pd.DataFrame, *, interval: str = "t", width: float = 7.4, height: float = 4.3
) -> Figure:
    """Test accuracy against all trained parameters on a log axis: a tick a run, the mean of each setting, its interval
    where there are seeds enough, and the Pareto front (settings that none with as few parameters beats).

    Parameters
    ----------
    runs : one row a run: label, family, seed, trained (atoms and head together), test_accuracy
    interval : a name in intervals.INTERVALS
    """
    style = families_style(runs["family"])
    means = runs.groupby(["label", "family"], sort=False)[["trained", "test_accuracy"]].mean().reset_index()
    means["on_front"] = on_pareto_front(means["trained"], means["test_accuracy"])
    with house_axes(width, height) as ax:
        for row in means.itertuples():
            colour, marker = style[row.family]
            points = runs[(runs["label"] == row.label) & (runs["family"] == row.family)]
            by_seed = points.groupby("seed")["test_accuracy"].mean()
            ends = interval_of(by_seed.tolist(), interval, bounds=(0, 1))
            ax.plot([row.trained] * 2, ends, color=colour, lw=5, alpha=0.18, solid_capstyle="butt", zorder=1.5)
            ax.plot(points["trained"], points["test_accuracy"], "_", color=colour, ms=9, mew=1.2, alpha=0.8, zorder=2)
            ax.plot([row.trained] * 2, [by_seed.min(), by_seed.max()], color=colour, lw=1.2, zorder=2)
            ax.plot(row.trained, row.test_accuracy, marker, color=colour, ms=7.5, mec="white", mew=0.8, zorder=3)
        front = means[means["on_front"]].sort_values("trained")
        ax.plot(front["trained"], front["test_accuracy"], color=FRONT, lw=1.1, ls=(0, (4, 2)), zorder=1)
        ax.set_xscale("log")
        low, high = means["trained"].min(), means["trained"].max()
        ax.set_xlim(low / 1.35, max(high * 1.5, low * 8))
        if high / low < 100:
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        room_around(ax, runs["test_accuracy"])
        ax.xaxis.set_major_formatter(short_counts())
        ax.xaxis.set_minor_formatter(NullFormatter())
        label_axes(ax, "trained parameters, head included (log scale)", "test accuracy", percents="y")
        many = len(means) > _MOST_NAMES
        if many:  # before the names, which lie in what the legend leaves
            legend_above(ax.figure, family_marks(means["family"], style))
        _label_points(ax, front.head(_MOST_NAMES) if many else means, style)
    return ax.figure


def learning_curves(
    history: pd.DataFrame, *, measure: str = "test_accuracy", width: float = 7.4, height: float = 3.8
) -> Figure:
    """A measure per epoch, a colour and dashes a setting: the mean over seeds as a line, their range as a band.

    Of more than twelve settings, the best at the end of each family and the best of the rest are drawn.

    Parameters
    ----------
    history : one row an epoch and run: label, family, seed, epoch and the measure
    """
    drawn = told_settings(history.dropna(subset=[measure]), measure)
    families = dict(zip(drawn["label"], drawn["family"], strict=True))
    style = settings_style(families)
    ends, lines = [], []
    with house_axes(width, height) as ax:
        for label, rows in drawn.groupby("label", sort=False):
            colour, marker, dashes = style[label]
            over = rows.groupby("epoch")[measure].agg(["mean", "min", "max"])
            ax.fill_between(over.index, over["min"], over["max"], color=colour, alpha=0.13, lw=0)
            look = {"color": colour, "marker": marker, "ls": dashes, "label": label}
            lines += ax.plot(over.index, over["mean"], ms=3.5, lw=1.5, **look)
            ends.append({"label": label, "colour": colour, "x": over.index[-1], "y": over["mean"].iloc[-1]})
        percents = "y" if measure.endswith("accuracy") else ""
        label_axes(ax, "epoch", measure.replace("_", " "), percents=percents, whole="x")
        if is_wide(width):
            label_ends(ax, ends)
        else:
            legend_above(ax.figure, lines, fontsize=8, handlelength=3)
            ax.figure.set_figheight(height + ax.figure.legends[0].get_window_extent().height / ax.figure.dpi)
    return ax.figure


def told_settings(history: pd.DataFrame, measure: str, most: int = _MOST_NAMES) -> pd.DataFrame:
    """The rows of at most ``most`` settings (or one a family, where there are more families): the best at the end of
    each family, then the best of the rest; in the table's order."""
    last = history.sort_values("epoch").groupby(["label", "seed"], sort=False).last().reset_index()
    means = last.groupby(["label", "family"], sort=False)[measure].mean().sort_values(ascending=False).reset_index()
    first = means.drop_duplicates("family")["label"].tolist()
    kept = [*first, *(name for name in means["label"] if name not in first)][: max(most, len(first))]
    return history[history["label"].isin(kept)]


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
    with house_axes(width, height) as ax:
        words = counts.astype(str).where(counts > 0, "") if few else False
        seaborn.heatmap(
            shares, annot=words, fmt="", cmap="Blues", vmin=0, vmax=1, ax=ax, cbar=not few, linewidths=0.5 * few
        )
        ax.grid(False)
        ax.set(xlabel="predicted class", ylabel="true class")
        ax.tick_params(length=0)
    return ax.figure


def _label_points(ax: Axes, means: pd.DataFrame, style: dict[str, tuple[str, str]]) -> None:
    """Each setting's name beside its point, pushed apart where they would overlap, with a thin line back."""
    names = _short(ax, means["label"])
    middle = np.sqrt(np.prod(ax.get_xlim()))
    few = means[means["trained"] < middle]
    notes = [
        _annotated(ax, rows, style, names, of_few) for of_few, rows in ((True, few), (False, means.drop(few.index)))
    ]
    if all(notes):
        ax.figure.draw_without_rendering()  # only then it is known how wide a name is
        ends = [[Text.get_window_extent(note) for note in side] for side in notes]
        if max(box.x1 for box in ends[0]) > min(box.x0 for box in ends[1]):
            every = [note for side in notes for note in side]
            for note, y in zip(every, spread(ax, pd.Series([note.xy[1] for note in every])), strict=True):
                note.set_position((note.get_position()[0], y))


def _annotated(
    ax: Axes, rows: pd.DataFrame, style: dict[str, tuple[str, str]], names: dict[str, str], of_few: bool
) -> list[Annotation]:
    """Names in a column right of the points with few parameters, or left of each point with many."""
    found, column = [], rows["trained"].max() * 1.45
    arrow = {"arrowstyle": "-", "color": "#b6bec7", "lw": 0.7, "shrinkA": 1, "shrinkB": 5} if of_few else None
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    look = {"ha": "left" if of_few else "right", "va": "center", "arrowprops": arrow, "bbox": box}
    for row, y in zip(rows.itertuples(), spread(ax, rows["test_accuracy"]), strict=True):
        place = (column if of_few else row.trained / 1.25, y)
        colour = text_colour(style[row.family][0])
        found.append(ax.annotate(names[row.label], (row.trained, row.test_accuracy), place, color=colour, **look))
    return found


def _short(ax: Axes, names: Iterable[str]) -> dict[str, str]:
    """Names that leave room for the points: shortened, and told so, where they are long; tables have them whole.

    The parts that most names have in common are left out first. Of names that would then be alike, the parts that tell
    them apart are kept, with the words that say what they are: a learning rate, not a number.
    """
    names = list(dict.fromkeys(names))
    widest = _WIDEST_NAME[int(not is_wide(ax.figure.get_figwidth()))]
    found = {name: _left_out(name, _counts(names), widest) for name in names}
    for alike in [[name for name in names if found[name] == short] for short in set(found.values())]:
        if len(alike) > 1:
            counts = _counts(alike)
            own = {name: _left_out(name, counts, widest, first=True) for name in alike}
            found |= (
                own if len(set(own.values())) == len(alike) else {name: _apart(name, alike, widest) for name in alike}
            )
    return found


def _counts(names: list[str]) -> Counter[str]:
    """How many of the names have each part."""
    return Counter(part for name in names for part in set(_PARTS.split(name)))


def _left_out(name: str, counts: Counter[str], widest: int, first: bool = False) -> str:
    """The name without the parts that most other names have, as many as have to go; the first part stays unless
    ``first``."""
    parts, kept = _PARTS.split(name), name
    shared = [n for n in range(0 if first else 1, len(parts)) if counts[parts[n]] > 1]
    order = sorted(shared, key=lambda n: (-counts[parts[n]], n))
    gone: set[int] = set()
    for n in order:
        if len(kept) <= widest:
            break
        gone.add(n)
        kept = _joined(name, parts, gone)
    return _cut(kept if len(gone) < len(parts) else name, widest)


def _joined(name: str, parts: list[str], gone: set[int]) -> str:
    """The parts that stay, each run of the others as one "…"."""
    gaps = ["", *_PARTS.findall(name)]
    text = ""
    for n, (gap, part) in enumerate(zip(gaps, parts, strict=True)):
        if n not in gone:
            text += f" {part}" if n - 1 in gone else gap + part
        elif n - 1 not in gone or n == 0:
            text += " …" if n else "…"
    return text


def _apart(name: str, alike: list[str], widest: int) -> str:
    """The words of the name that not all of these names have."""
    shared = set.intersection(*(set(other.replace(",", "").split()) for other in alike))
    words = [None if word in shared else word for word in name.replace(",", "").split()]
    return _cut(" ".join("…" if word is None else " ".join(run) for word, run in groupby(words)), widest)


def _cut(name: str, widest: int) -> str:
    return name if len(name) <= widest else f"{name[: widest - 1].rstrip(' ,')}…"


def label_ends(ax: Axes, ends: list[dict]) -> None:
    """Each line's name right of the axes, pushed apart where they would overlap, with a thin line from an end that is
    not at the edge: dicts of label, colour, x and y."""
    ends = pd.DataFrame(ends, columns=["label", "colour", "x", "y"])
    names, edge = _short(ax, ends["label"]), ends["x"].max()
    heights = spread(ax, ends["y"])
    look = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
    for row, y in zip(ends.itertuples(), heights, strict=True):
        ax.annotate(names[row.label], (edge, y), (8, 0), color=text_colour(row.colour), **look)
        if row.x < edge:
            ax.plot([row.x, edge], [row.y, y], color="#b6bec7", lw=0.7, zorder=1)
