"""The house style: colours, a figure of its own, words beside points, counts for a reader's eye.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart, and markers repeat what colours say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation

if TYPE_CHECKING:
    import pandas as pd

INK, MUTED, GRID = "#1f2328", "#59636e", "#e4e7eb"
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
GREY = "#7a828c"
#: Colour and marker by family of settings, see collect.family.
FAMILIES = {
    "head only": ("#7a828c", "s"),
    "spatial atoms": ("#0072b2", "o"),
    "overcomplete atoms": ("#56b4e9", "o"),
    "spatial and block atoms": ("#d55e00", "D"),
    "overcomplete and block atoms": ("#e69f00", "D"),
    "atoms and coefficients": ("#cc79a7", "v"),
    "full tuning": (INK, "^"),
}
OTHERS = [GREEN, PURPLE, "#8c564b", "#6a51a3", "#b8860b", "#17807e"]
_LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#8c564b", "#6a51a3", "#17807e", "#b8860b", "#c2185b", "#5a7d2b")
_DASHES = ("--", "-.", ":", (0, (8, 2)), (0, (1, 3)))
_SPARE_MARKERS = "Pv<>XphH*d"
FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
TIMES = "\N{MULTIPLICATION SIGN}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
STYLE = {
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
    "text.parse_math": False,  # a label with two dollar signs is no formula
    "svg.fonttype": "none",  # text stays text: readable, searchable, in the page's own font
}


@contextmanager
def house_figure(width: float, height: float, **subplots: object) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure of its own in the house style, with its axes as a 2-d array."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots(squeeze=False, **subplots)
        _plain_powers(figure)


class _PlainPowers(LogFormatterSciNotation):
    """Labels of a logarithmic axis as text, 10⁻³ and 2×10⁻³, where matplotlib's own are formulas."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        formula = super().__call__(x, pos)
        found = re.fullmatch(r"\$\\mathdefault\{(.*?)(\d+)\^\{(-?\d+)\}\}\$", formula)
        if found is None:
            return formula.removeprefix("$\\mathdefault{").removesuffix("}$")
        return f"{found[1]}{found[2]}{found[3].translate(_RAISED)}".replace("\\times", TIMES)


def _plain_powers(figure: Figure) -> None:
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        if type(axis.get_major_formatter()) is LogFormatterSciNotation:
            axis.set_major_formatter(_PlainPowers())
        if type(axis.get_minor_formatter()) is LogFormatterSciNotation:
            axis.set_minor_formatter(_PlainPowers())


def families_style(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(colour, marker) by family name, the known ones always alike; no two others share both."""
    others = sorted({name for name in names if name not in FAMILIES})
    colours, markers = len(OTHERS), len(_SPARE_MARKERS)
    spare = {name: (OTHERS[n % colours], _SPARE_MARKERS[n % markers]) for n, name in enumerate(others)}
    return {**FAMILIES, **spare}


def settings_style(families: Mapping[str, str]) -> dict[str, tuple[str, str, str]]:
    """(colour, marker, dashes) by setting's name, from each setting's family; no two are drawn alike.

    The first setting of a family has the family's colour, where no other setting has it already.
    """
    known = families_style(list(families.values()))
    first = {family: name for name, family in reversed(list(families.items()))}
    spare = [colour for colour in _LINES if colour not in {known[family][0] for family in first}] or _LINES
    style, number = {}, 0
    for name, family in families.items():
        colour, marker = known[family]
        if first[family] == name:
            style[name] = (colour, marker, "-")
        else:
            turn, place = divmod(number, len(spare))
            style[name] = (spare[place], marker, _DASHES[turn % len(_DASHES)])
            number += 1
    return style


def text_colour(colour: str, least: float = 4.6) -> str:
    """The colour, darkened until words in it stand out from white by the contrast that WCAG asks of text (4.5).

    >>> text_colour("#1f2328"), text_colour("#d55e00")
    ('#1f2328', '#c05500')
    """
    red, green, blue = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    for step in range(100, 0, -1):
        shade = f"#{round(red * step / 100):02x}{round(green * step / 100):02x}{round(blue * step / 100):02x}"
        if 1.05 / (_luminance(shade) + 0.05) >= least:
            return shade
    return "#000000"


def lighter_colour(colour: str, least: float = 4.6) -> str:
    """The colour, mixed with white until it stands out from a black page (#14181d) by this contrast; ink becomes
    near white.

    >>> lighter_colour("#e69f00"), lighter_colour("#1f2328")
    ('#e69f00', '#e6e9ec')
    """
    if colour == INK:
        return "#e6e9ec"
    parts = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
    for step in range(101):
        shade = "#" + "".join(f"{round(part + (255 - part) * step / 100):02x}" for part in parts)
        if (_luminance(shade) + 0.05) / (_luminance("#14181d") + 0.05) >= least:
            return shade
    return "#ffffff"


def _luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def short_count(value: float) -> str:
    """A count for a reader's eye: 950, 12.8k, 3.4M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def percent() -> FuncFormatter:
    """Fractions as percentages with the digits that they need: a tick at 0.175 is 17.5%, not another 18%."""
    return FuncFormatter(lambda value, _: f"{100 * value:.6g}%".replace("-", "\N{MINUS SIGN}"))


def kernel_name(shape: Sequence[int] | str) -> str:
    """``3×3`` from a weight's shape (or its text in a CSV), ``1×1`` for a linear layer.

    >>> kernel_name("[32, 1, 5, 5]")
    '5×5'
    """
    sizes = [int(size) for size in re.findall(r"\d+", str(shape))][2:]
    return TIMES.join(map(str, sizes)) or f"1{TIMES}1"


def room_above_and_below(ax: Axes, values: pd.Series) -> None:
    room = max(0.02, 0.08 * (values.max() - values.min()))
    ax.set_ylim(max(0.0, values.min() - room), values.max() + room)


def spread(ax: Axes, values: pd.Series, lines: float = 1.35, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Heights for labels at these values, moved as little as needed to stand a line apart within the axes.

    ``limits`` are those of the axes where the values are not in its own units (logarithms).
    """
    low, high = limits or ax.get_ylim()
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
