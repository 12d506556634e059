"""A figure of its own in the house style, what its axes share (words, ticks, legends, labels apart, pictures), and the
figure as an inline SVG that carries its description, for pages and notebooks."""

import hashlib
import html
import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, FuncFormatter, LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

from ..percentages import NBSP
from ..printable import one_line, printable, printable_in_page
from .style import FONTS, RAISED, STYLE, TIMES, short_count

if TYPE_CHECKING:
    import pandas as pd

_SVG = 'role="img" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
_WIDE = 6  # inches from which a figure is for wide pages
_ROW_LETTERS = 40, 19  # of a line of a row's name, in a wide figure and in a narrow one
_FEWEST = 12  # letters of a line of a legend


@contextmanager
def house_figure(width: float, height: float, **subplots: object) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure of its own in the house style, with its axes as a 2-d array; empty ones beside others are not shown."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(squeeze=False, **subplots)
        yield figure, axes
        empty = [ax for ax in figure.axes if not ax.has_data()]
        if len(empty) < len(figure.axes):
            for ax in empty:
                ax.set_axis_off()
        for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
            if type(axis.get_major_formatter()) is LogFormatterSciNotation:
                axis.set_major_formatter(_PlainPowers())
            if type(axis.get_minor_formatter()) is LogFormatterSciNotation:
                axis.set_minor_formatter(_PlainPowers())


@contextmanager
def house_axes(width: float, height: float) -> Iterator[Axes]:
    """A figure of its own with one pair of axes, these."""
    with house_figure(width, height) as (_, axes):
        yield axes[0, 0]


def panel_shape(panels: int, across: int) -> dict[str, int]:
    """Rows and columns of so many panels, at most ``across`` beside one another, as house_figure takes them."""
    across = max(1, min(panels, across))
    return {"nrows": -(-panels // across), "ncols": across}


def label_axes(ax: Axes, x: str = "", y: str = "", *, percents: str = "", whole: str = "", zero: str = "") -> None:
    """Write the words of the axes. The rest names axes ("x", "y" or "xy") to be labelled with percentages, at whole
    numbers alone, or to begin at zero; it is called once all is drawn."""
    for name, words in (("x", x), ("y", y)):
        axis = getattr(ax, f"{name}axis")
        if words:
            axis.set_label_text(words if name == "y" else fill(words, int(11 * ax.figure.get_figwidth())))
        if name in percents:
            axis.set_major_formatter(percent())
        if name in whole:
            whole_ticks(axis)
        if name in zero:
            ax.set(**{f"{name}lim": (0, None)})


def whole_ticks(axis: Axis, most: int | None = None) -> None:
    """Ticks at whole numbers alone, about so many at most: one atom or one epoch has one tick."""
    axis.set_major_locator(MaxNLocator("auto" if most is None else most, integer=True, min_n_ticks=1))


def log_axis(axis: Axis, subs: Sequence[int], formatter: Formatter, **locator: int) -> None:
    """Make an axis logarithmic, with words at these places of each decade alone."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=subs, **locator))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def legend_above(figure: Figure, handles: Sequence[Artist] | None = None, *, most: int = 4, **style) -> None:
    """A legend above all axes, default of the first ones: in as many columns as the figure has room for, at most so
    many; names that are too long for one column are wrapped."""
    handles = figure.axes[0].get_legend_handles_labels()[0] if handles is None else handles
    if not handles:
        return
    names = [str(handle.get_label()) for handle in handles]
    longest = max(map(len, names))
    while True:
        for columns in range(min(most, len(names)), 0, -1):
            look = {"loc": "outside upper left", "ncols": columns, "fontsize": 8.5, "borderpad": 0.2, **style}
            legend = figure.legend(handles, [fill(name, longest) for name in names], **look)
            if legend.get_window_extent().width < 0.98 * figure.bbox.width or (columns == 1 and longest < _FEWEST):
                return
            legend.remove()
        longest -= 4


def fill(words: str, letters: int) -> str:
    """The words in lines of at most so many letters, where a word is not longer; lines that there are stay apart."""
    look = {"width": max(letters, 1), "break_long_words": False, "break_on_hyphens": False}
    return "\n".join(textwrap.fill(line, **look) for line in words.split("\n"))


def row_names(names: Sequence[str], width: float) -> list[str]:
    """Names of rows in lines that leave most of a figure of this width to what is drawn."""
    return [fill(name, _ROW_LETTERS[int(not is_wide(width))]) for name in names]


def most_lines(names: Sequence[str]) -> int:
    return max((name.count("\n") + 1 for name in names), default=1)


def is_wide(width: float) -> bool:
    """Whether a figure of so many inches is for wide pages, with room for names beside points."""
    return width > _WIDE


def bare_axes(ax: Axes) -> None:
    """Leave nothing of the axes but what is drawn, and words."""
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def draw_board(ax: Axes, board: np.ndarray, largest: float = 1.0, **options: Any) -> None:
    """Numbers as a picture without axes: blue below zero, white at zero, red above, full at ``largest``."""
    ax.imshow(board, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest", **options)
    ax.set(xticks=[], yticks=[])
    bare_axes(ax)


def board(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of pictures, each (n, height, width), as one picture with a blank pixel between."""
    count, height, width = rows[0].shape
    found = np.full((len(rows), height + 1, count, width + 1), np.nan)
    for place, pictures in zip(found, rows, strict=True):
        place[:height, : len(pictures), :width] = np.swapaxes(pictures, 0, 1)
    return found.reshape(len(rows) * (height + 1), -1)[:-1, :-1]


class _PlainPowers(LogFormatterSciNotation):
    """Labels of a logarithmic axis as text, 10⁻³ and 2×10⁻³, where matplotlib's own are formulas."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        formula = super().__call__(x, pos)
        found = re.fullmatch(r"\$\\mathdefault\{(.*?)(\d+)\^\{(-?\d+)\}\}\$", formula)
        if found is None:
            return formula.removeprefix("$\\mathdefault{").removesuffix("}$")
        return f"{found[1]}{found[2]}{found[3].translate(RAISED)}".replace("\\times", TIMES)


class _ShortCounts(Formatter):
    """Counts as style.short_count has them, with as many digits as tell the ticks of an axis apart."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return short_count(x)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        for digits in range(3, 10):
            words = [short_count(value, digits) for value in values]
            if len(set(words)) == len(set(values)):
                break
        return words


def short_counts() -> Formatter:
    return _ShortCounts()


def percent() -> FuncFormatter:
    """Fractions as percentages with the digits that they need: a tick at 0.175 is 17.5 %, not another 18 %."""
    return FuncFormatter(lambda value, _: f"{100 * value:.6g}{NBSP}%".replace("-", "\N{MINUS SIGN}"))


def room_around(ax: Axes, values: "pd.Series") -> None:
    room = max(0.02, 0.08 * (values.max() - values.min()))
    ax.set_ylim(max(0.0, values.min() - room), values.max() + room)


def spread(ax: Axes, values: "pd.Series", lines: float = 1.35, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Heights for labels at these values, moved as little as needed to stand a line apart within the axes.

    ``limits`` are those of the axes where the values are not in its own units (logarithms).
    """
    low, high = limits or ax.get_ylim()
    ax.figure.draw_without_rendering()  # only then it is known how tall the axes are
    inches = ax.bbox.height / ax.figure.dpi
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
    return placed[np.argsort(order)]


def figure_html(figure: Figure, alt: str, caption: str | None = None) -> str:
    """The figure as an HTML ``<figure>`` around an inline SVG that carries its description and needs no other file."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": alt}):  # a salt of its own: no two figures share an id
        svg = printable_in_page(_svg(figure))  # names in it stay texts
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", FONTS, svg)
    prefix = "f" + hashlib.sha256((alt + svg).encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)
    label = html.escape(printable(one_line(alt)))
    size = f'style="width:100%;max-width:{100 * figure.get_figwidth():.0f}px;height:auto"'
    opening = rf'<svg {_SVG} {size} viewBox="\1" aria-label="{label}">'
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', lambda found: opening.replace(r"\1", found[1]), svg, count=1)
    described = "" if caption is None else f"<figcaption>{html.escape(printable(one_line(caption)))}</figcaption>"
    return f'<figure class="plot">{svg}{described}</figure>'


def _svg(figure: Figure) -> str:
    """What ``figure.savefig(format="svg", transparent=True)`` writes, which draws a figure that is laid out twice."""
    patches = [figure.patch, *(each.patch for ax in figure.axes for each in (ax, *ax.child_axes))]
    before = figure.canvas, figure.dpi, [(patch.get_facecolor(), patch.get_edgecolor()) for patch in patches]
    buffer = io.StringIO()
    try:
        for patch in patches:
            patch.set(facecolor="none", edgecolor="none")
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    finally:
        canvas, figure.dpi, colours = before
        figure.set_canvas(canvas)
        for patch, (face, edge) in zip(patches, colours, strict=True):
            patch.set(facecolor=face, edgecolor=edge)
    return buffer.getvalue()


def show(figure: Figure, alt: str, caption: str | None = None) -> None:
    """Display a figure in a notebook, with its description and caption; it looks the same in the exported page."""
    from IPython.display import HTML, display

    display(HTML(figure_html(figure, alt, caption)))
