"""Tables of the command line: a grid where it fits, else folded columns, and those that do not fit below them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..printable import printable

if TYPE_CHECKING:
    from rich.table import Table

_GAP = 2  # columns of text between two columns of a list
_LONG = 24  # letters of a word that may be folded after a hyphen, a dot or a slash
_LEAST = 20  # columns of text that such words are given
_INDENT = "  "  # of the further lines of a cell in the first column
_PARTS = re.compile(r".+?(?:[-_/]+|\.(?!\d)|$)")  # no fold within 0.003


@dataclass(frozen=True)
class Column:
    """A column of texts; numbers stand to the right and are never folded."""

    heading: str
    cells: Sequence[str]
    numeric: bool

    @cached_property
    def widest(self) -> int:
        return max(map(_width, [self.heading, *self.cells]))

    @cached_property
    def narrowest(self) -> int:
        """The width that breaks no word of the column."""
        pieces = [piece.rstrip() for text in self._folding for piece in _pieces(text)]
        least = max(map(_width, pieces), default=0)
        long = any(_width(word) > _LONG for text in self._folding for word in text.split())
        return min(self.widest, max(least + len(_INDENT), _LEAST)) if long else least

    @property
    def _folding(self) -> list[str]:
        return [self.heading] if self.numeric else [self.heading, *self.cells]

    def folded(self, width: int, indent: str) -> list[str]:
        return list(self.cells) if self.numeric else [fold(text, width, indent) for text in self.cells]

    @cached_property
    def of_cells(self) -> int:
        """The width that folds no cell."""
        return max(map(_width, self.cells), default=0)

    @property
    def least(self) -> int:
        return max(self.narrowest, self.of_cells if self.numeric else 0)


def grid_width(columns: Sequence[Column]) -> int:
    """Of grid(columns) without a fold."""
    return sum(column.widest + 3 for column in columns) + 1


def grid(columns: Sequence[Column], title: str) -> Table:
    """With lines around each column."""
    from rich.table import Table

    shown = Table(title=title)
    for column in columns:
        shown.add_column(column.heading, justify="right" if column.numeric else "left", no_wrap=True)
    for row in zip(*(column.cells for column in columns), strict=True):
        shown.add_row(*row)
    return shown


def lists(columns: Sequence[Column], title: str, keys: int, width: int) -> list[tuple[int, Table]]:
    """(width, table) of each part; every part begins with the first ``keys`` columns. Wider than ``width`` only where
    the words of these and of one column more are."""
    rest, found = list(columns[keys:]), []
    while rest or not found:
        part = list(columns[:keys])
        taken = sum(column.least + _GAP for column in part) - _GAP
        while rest and (len(part) == keys or taken + _GAP + rest[0].least <= width):
            taken += _GAP + rest[0].least
            part.append(rest.pop(0))
        found.append((max(width, taken), _list(part, "" if found else title, max(width, taken))))
    return found


def _list(columns: Sequence[Column], title: str, width: int) -> Table:
    """Without lines between columns, as wide as ``width`` at most."""
    from rich import box
    from rich.table import Table

    shown = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    shown.padding = (0, _GAP - 1, 0, 0)  # the divider of this box is a space too
    widths = [column.least for column in columns]
    for most in ([column.of_cells for column in columns], [column.widest for column in columns]):  # headings last
        widths = _shared(widths, most, width)
    for column, own in zip(columns, widths, strict=True):
        shown.add_column(fold(column.heading, own), justify="right" if column.numeric else "left", width=own)
    cells = [
        column.folded(own, "" if n else _INDENT) for n, (column, own) in enumerate(zip(columns, widths, strict=True))
    ]
    for row in zip(*cells, strict=True):
        shown.add_row(*row)
    return shown


def _shared(least: list[int], most: list[int], width: int) -> list[int]:
    """Widths from ``least`` to ``most``: what is left is shared out evenly."""
    widths, left = list(least), width - sum(least) - _GAP * (len(least) - 1)
    while left > 0 and (growing := [n for n, own in enumerate(widths) if own < most[n]]):
        for n in growing[:left]:
            widths[n] += 1
        left -= len(growing[:left])
    return widths


def fold(text: str, width: int, indent: str = "") -> str:
    """The text in lines of at most ``width``, broken between words and within long names, the further ones indented.

    >>> fold("tuning-filter-subspace-learning-rate0.003", 24, "  ")
    'tuning-filter-subspace-\\n  learning-rate0.003'
    """
    lines, line = [], ""
    for piece in _pieces(text):
        if line.strip() and _width(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = indent
        line += piece
    return "\n".join([*lines, line.rstrip()])


def _pieces(text: str) -> list[str]:
    words = re.findall(r"\S+\s*", text)
    return [piece for word in words for piece in (_PARTS.findall(word) if _width(word.rstrip()) > _LONG else [word])]


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def heading_of(name: str) -> str:
    """A column's name for readers; k_c and m_1 are symbols."""
    name = printable(name)
    return name.replace("_", " ") if len(name) > 3 else name
