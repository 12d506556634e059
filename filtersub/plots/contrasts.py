"""What parameters do: differences between their values, settings that train equally many parameters, and two settings
as a heat map.
"""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..intervals import SIGNIFICANT
from .figure import (
    bare_axes,
    fill,
    house_axes,
    house_figure,
    is_wide,
    label_axes,
    legend_above,
    most_lines,
    panel_shape,
    percent,
    row_names,
)
from .style import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    VERMILION,
    families_style,
    metric_words,
    short_count,
)

_NETWORKS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, INK)
_FRACTIONS = ("accuracy", "error", "agreement", "density")
LEAST_SPAN = 0.05  # of the colour scale: accuracies that differ by less look alike
_DARK = 0.6  # place on the scale from which words are white


def effects(
    contrasts: pd.DataFrame, *, measure: str = "test_accuracy", width: float = 7.4, height: float | None = None
) -> Figure:
    """A line a pair of values: the mean difference as a mark, its 95 % interval as a bar, filled where it is told apart
    from noise. Bars that leave the range of the marks by more than its width are cut at the edge.

    Parameters
    ----------
    contrasts : parameter, levels (texts), difference, low, high (NaN for a single pair), significant
    measure : name of the metric; fractions are drawn in percentage points
    """
    scale = 100 if measure.endswith(_FRACTIONS) else 1
    lines, before = len(contrasts), None
    names = row_names([f"{row.parameter}:  {row.levels}" for row in contrasts.itertuples()], width)
    with house_axes(width, height or 1.0 + 0.16 * most_lines(names) * lines + 0.11 * lines) as ax:
        ax.axvline(0, color=MUTED, lw=0.9)
        for place, row in enumerate(contrasts.itertuples()):
            _draw_difference(ax, row, place, scale, row.significant, lw=5, ms=6)
            if row.parameter != before and place:
                ax.axhline(place - 0.5, color="#d0d7de", lw=0.8)
            before = row.parameter
        marks = scale * pd.concat([contrasts["difference"], pd.Series([0.0])])
        room = 1.0 * (marks.max() - marks.min()) or 1.0
        low, high = (scale * contrasts[end] for end in ("low", "high"))
        near = max(marks.min() - room, min(low.min(), marks.min())) if low.notna().any() else marks.min()
        far = min(marks.max() + room, max(high.max(), marks.max())) if high.notna().any() else marks.max()
        ax.set_xlim(near - 0.05 * room, far + 0.05 * room)
        _mark_cut(ax, range(lines), low, high)
        ax.set_yticks(range(lines), names)
        ax.set_ylim(lines - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: (f"{value:+g}" if value else "0").replace("-", "\N{MINUS SIGN}"))
        )
        words = f"difference of {metric_words(measure)}" + (", percentage points" if scale == 100 else "")
        label_axes(ax, words if is_wide(width) else fill(words, 28))
    return ax.figure


def _mark_cut(ax: Axes, places: Sequence[int], low: pd.Series, high: pd.Series) -> None:
    """An arrowhead at the edge of the axes for each bar that goes on beyond it."""
    left, right = ax.get_xlim()
    for edge, mark, beyond in ((left, "<", low < left), (right, ">", high > right)):
        rows = [place for place, cut in zip(places, beyond, strict=True) if cut]
        ax.plot([edge] * len(rows), rows, mark, color=MUTED, ms=5, clip_on=False, zorder=4)


def _draw_difference(ax: Axes, row, place: int, scale: float, sure: bool, *, lw: float, ms: float) -> None:
    """A difference as a mark and its interval as a bar, filled and blue where it is told apart from zero."""
    colour = BLUE if sure else GREY
    ax.plot([scale * row.low, scale * row.high], [place] * 2, color=colour, lw=lw, alpha=0.25, solid_capstyle="butt")
    ax.plot(scale * row.difference, place, "o", color=colour, mfc=colour if sure else "white", ms=ms)


def task_steps(steps: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """A panel a step, a row a task: the difference as a mark, its 95 % interval as a bar, filled where it is told apart
    from zero. Bars that leave the range of the marks by more than its width are cut at the edge.

    Parameters
    ----------
    steps : tables.task_steps: step, task, difference, low, high, p_value
    """
    names, tasks = list(dict.fromkeys(steps["step"])), list(dict.fromkeys(steps["task"]))
    shape = panel_shape(len(names), 3 if is_wide(width) else 1)
    row = 0.06 + 0.13 * most_lines(row_names(tasks, width))
    tall = height or shape["nrows"] * (0.9 + row * len(tasks))
    with house_figure(width, tall, sharey=True, **shape) as (figure, axes):
        for ax, name in zip(axes.flat, names, strict=False):
            members = steps[steps["step"] == name]
            ax.axvline(0, color=MUTED, lw=0.9)
            for row in members.itertuples():
                _draw_difference(ax, row, tasks.index(row.task), 100, row.p_value < SIGNIFICANT, lw=3.5, ms=4.5)
            marks = 100 * pd.concat([members["difference"], pd.Series([0.0])])
            room = marks.max() - marks.min() or 1.0
            ax.set_xlim(marks.min() - 0.6 * room, marks.max() + 0.6 * room)
            _mark_cut(ax, [tasks.index(task) for task in members["task"]], 100 * members["low"], 100 * members["high"])
            ax.set_yticks(range(len(tasks)), row_names(tasks, width), fontsize=8)
            ax.set_ylim(len(tasks) - 0.5, -0.5)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            ax.set_title(fill(name, 27), fontsize=8.5, color=INK, loc="left")
        figure.supxlabel("difference of test accuracy, percentage points", fontsize=9, color=MUTED)
    return figure


def task_accuracies(table: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """Test accuracy of every setting: a panel a data set, a row a setting, a mark a network, a bar the range of seeds.

    Parameters
    ----------
    table : tables.task_accuracies: model, data, method_label, test_accuracy, lowest, highest
    """
    sets, models = list(dict.fromkeys(table["data"])), list(dict.fromkeys(table["model"]))
    settings = table.groupby("method_label", sort=False)["test_accuracy"].mean().sort_values().index.tolist()
    style = dict(zip(models, cycle(zip(_NETWORKS, "oDs^vP", strict=True)), strict=False))
    shape = panel_shape(len(sets), 2 if is_wide(width) else 1)
    names = row_names(settings, width)
    tall = height or shape["nrows"] * (0.7 + max(0.32, 0.14 * most_lines(names)) * len(settings)) + 0.4
    with house_figure(width, tall, sharey=True, **shape) as (figure, axes):
        for ax, data in zip(axes.flat, sets, strict=False):
            for row in table[table["data"] == data].itertuples():
                colour, marker = style[row.model]
                place = settings.index(row.method_label) + 0.16 * (models.index(row.model) - (len(models) - 1) / 2)
                ax.plot([row.lowest, row.highest], [place] * 2, color=colour, lw=2.5, alpha=0.35)
                ax.plot(row.test_accuracy, place, marker, color=colour, ms=5, mec="white", mew=0.5)
            ax.set_title(data, fontsize=9, color=INK, loc="left")
            ax.set_yticks(range(len(settings)), names, fontsize=8)
            ax.set_ylim(-0.6, len(settings) - 0.4)
            label_axes(ax, percents="x")
            ax.xaxis.set_major_locator(MaxNLocator(4))
        figure.supxlabel("test accuracy", fontsize=9, color=MUTED)
        marks = [Line2D([], [], color=colour, marker=mark, ls="", label=name) for name, (colour, mark) in style.items()]
        legend_above(figure, marks)
    return figure


def equal_accuracies(table: pd.DataFrame, *, width: float = 7.4, height: float | None = None) -> Figure:
    """Test accuracy of settings that train equally many parameters: a panel a group, a row a setting.

    Small marks are seeds, the large one their mean.

    Parameters
    ----------
    table : tables.equal_counts: group, task, method_label, family, trainable, test_accuracy, by_seed
    """
    groups = [members for _, members in table.groupby("group")]
    style, sizes = families_style(table["family"]), [len(members) for members in groups]
    row = max(0.32, 0.17 * most_lines(row_names(table["method_label"], width)))
    tall = height or row * sum(sizes) + (0.75 if is_wide(width) else 0.95) * len(groups)
    options = {"nrows": len(groups), "height_ratios": [size + 0.6 for size in sizes]}
    with house_figure(width, tall, **options) as (figure, axes):
        for ax, members in zip(axes[:, 0], groups, strict=True):
            places = range(len(members), 0, -1)
            for place, row in zip(places, members.to_dict("records"), strict=True):
                colour, marker = style[row["family"]]
                ax.plot(row["by_seed"], [place] * len(row["by_seed"]), ".", color=colour, ms=6, alpha=0.6)
                ax.plot(row["test_accuracy"], place, marker, color=colour, ms=8, mec="white", mew=0.7)
            task = f"{members['task'].iloc[0]}: " if members["task"].iloc[0] else ""
            words = f"{task}about {members['trainable'].max():,} trained parameters beside the head"
            ax.set_title(fill(words, 60 if is_wide(width) else 28), fontsize=9, color=INK, loc="left")
            ax.set_yticks(list(places), row_names(members["method_label"], width), fontsize=8.5)
            ax.set_ylim(0.4, len(members) + 0.6)
            ax.xaxis.set_major_locator(MaxNLocator(6 if is_wide(width) else 3))
            label_axes(ax, percents="x")
        axes[-1, 0].set_xlabel("test accuracy")
    return figure


def allotted_layers(layers: pd.DataFrame, *, width: float = 7.4, height: float = 1.9) -> Figure:
    """What each layer gets of a budget, in the order of the network: a panel a budget.

    Coloured bars are the share of the gradient's energy that the layer's atoms can follow, grey ones what the largest
    choice would let them.

    Parameters
    ----------
    layers : layers.csv of an allotment_study: budget, name, k_c (missing for spatial kernels; 0 in older files),
        trainable, share, possible
    """
    budgets = list(dict.fromkeys(layers["budget"]))
    with house_figure(width, height * len(budgets) + 0.5, nrows=len(budgets), sharex=True) as (figure, axes):
        for ax, budget in zip(axes[:, 0], budgets, strict=True):
            rows = layers[layers["budget"] == budget]
            places = range(1, len(rows) + 1)
            colours = [VERMILION if k_c else BLUE for k_c in rows["k_c"].fillna(0)]
            ax.bar(places, rows["possible"], color=GRID, width=0.8)
            ax.bar(places, rows["share"], color=colours, width=0.8)
            ax.set_title(f"at most {budget:,} trained parameters", fontsize=9, color=INK, loc="left")
            label_axes(ax, percents="y", whole="x")
        axes[-1, 0].set_xlabel("layer, in the order of the network")
        figure.supylabel("share of the gradient's energy", fontsize=9.5)
        keys = {"spatial kernels": BLUE, "1×1 kernels in blocks": VERMILION, "at the largest choice of atoms": GRID}
        handles = [Patch(color=colour, label=words) for words, colour in keys.items()]
        legend_above(figure, handles)
    return figure


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
    with house_axes(width, height or 0.85 + 0.8 * len(down)) as ax:
        table = grid.pivot(index="row", columns="column", values="test_accuracy").reindex(index=down, columns=across)
        blues = colormaps["Blues"](np.linspace(0.03, 0.92, 16))  # words would be lost on darker ones
        shown = ax.imshow(table, cmap=LinearSegmentedColormap.from_list("light", blues), norm=scale)
        ax.set_aspect("auto")
        for cell in grid.itertuples():
            place = (across.index(cell.column), down.index(cell.row))
            dark = scale(cell.test_accuracy) > _DARK
            _write(ax, place, cell, "white" if dark else INK, small=width / len(across) < 1.3)
        bar = ax.figure.colorbar(shown, ax=ax, format=percent(), fraction=0.05, pad=0.02)
        bar.set_label("test accuracy")
        bar.outline.set_visible(False)
        ax.set_xticks(range(len(across)), [str(value) for value in across])
        ax.set_yticks(range(len(down)), [str(value) for value in down])
        bare_axes(ax)
        label_axes(ax, columns, rows)
    return ax.figure


def colour_scale(grid: pd.DataFrame) -> Normalize:
    """From the lowest to the highest accuracy, widened about their middle to five points and to the widest interval of
    a cell, and kept within 0 and 1."""
    low, high = grid["test_accuracy"].min(), grid["test_accuracy"].max()
    widest = (grid["high"] - grid["low"]).max()
    span = min(1.0, max(high - low, LEAST_SPAN, 0.0 if pd.isna(widest) else widest))
    start = min(max(0.0, (low + high - span) / 2), 1.0 - span)
    return Normalize(start, start + span)


def _write(ax: Axes, place: tuple[int, int], cell, colour: str, small: bool) -> None:
    """The cell's figures: accuracy, its interval where there are seeds, trained parameters."""
    x, y = place
    write = {"ha": "center", "va": "center", "color": colour}
    ax.text(x, y - 0.2, f"{100 * cell.test_accuracy:.1f}", fontsize=9, **write)
    if cell.seeds > 1 and not small:
        ax.text(x, y + 0.06, f"{100 * cell.low:.1f} to {100 * cell.high:.1f}", fontsize=7, **write)
    ax.text(x, y + 0.29, short_count(cell.trained), fontsize=7, **write)
