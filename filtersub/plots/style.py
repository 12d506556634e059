"""The house style: colours, marks of families and settings, counts for a reader's eye.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart, and markers repeat what colours say.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.lines import Line2D

INK, MUTED, GRID = "#1f2328", "#59636e", "#e4e7eb"
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
GREY = "#7a828c"
FRONT = "#9aa4ae"  # the line of a Pareto front
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
_METRICS = {
    "frechet": "Fréchet distance",
    "floor_frechet": "Fréchet distance of real images",
    "kernel": "kernel distance",
}
FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
TIMES = "\N{MULTIPLICATION SIGN}"
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
STYLE = matplotlib.rc_params_from_file(Path(__file__).with_name("house.mplstyle"), use_default_template=False)


def family_marks(names: Iterable[str], style: Mapping[str, tuple[str, str]]) -> list[Line2D]:
    """Handles for a legend of families of settings."""
    return [
        Line2D([], [], ls="none", color=style[name][0], marker=style[name][1], label=name)
        for name in dict.fromkeys(names)
    ]


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
    return _mixed(colour, 0, 1.0, least)


def lighter_colour(colour: str, least: float = 4.6) -> str:
    """The colour, mixed with white until it stands out from a black page (#14181d) by this contrast; ink becomes
    near white.

    >>> lighter_colour("#e69f00"), lighter_colour("#1f2328")
    ('#e69f00', '#e6e9ec')
    """
    return "#e6e9ec" if colour == INK else _mixed(colour, 255, _luminance("#14181d"), least)


def _mixed(colour: str, end: int, ground: float, least: float) -> str:
    """The colour mixed with black (``end`` 0) or white (255) until it stands out from a ground of this luminance."""
    parts = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
    for step in range(101):
        shade = "#" + "".join(f"{round(part + (end - part) * step / 100):02x}" for part in parts)
        lower, upper = sorted((_luminance(shade), ground))
        if (upper + 0.05) / (lower + 0.05) >= least:
            break
    return shade


def _luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def short_count(value: float, digits: int = 3) -> str:
    """A count for a reader's eye: 950, 12.8k, 3.4M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def metric_words(name: str) -> str:
    """What a reader calls a metric of records.

    >>> metric_words("test_accuracy"), metric_words("frechet")
    ('test accuracy', 'Fréchet distance')
    """
    return _METRICS.get(name, name.replace("_", " "))


def kernel_name(shape: Sequence[int] | str) -> str:
    """``3×3`` from a weight's shape (or its text in a CSV), ``1×1`` for a linear layer.

    >>> kernel_name("[32, 1, 5, 5]")
    '5×5'
    """
    sizes = [int(size) for size in re.findall(r"\d+", str(shape))][2:]
    return TIMES.join(map(str, sizes)) or f"1{TIMES}1"
