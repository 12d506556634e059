"""A CSV file as people write it: any usual separator and encoding, rows by their lines, errors that name the line."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from ..errors import FiltersubError

_SEPARATORS = (",", ";", "\t", "|")
_ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # by their marks


@dataclass(frozen=True)
class CsvTable:
    """Header and rows of a CSV file.

    Attributes
    ----------
    header : names of the columns, stripped
    rows : (line of the file that the row ends in, its stripped values, as many as the header has)
    """

    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def read_csv_table(path: Path) -> CsvTable:
    """The table of a file. Empty lines, and empty values beyond the header's last column, are left out.

    The separator is the one of comma, semicolon, tab and bar that the header has most of. UTF-8, with or without a
    byte order mark, and UTF-16 are read.

    Raises FiltersubError, naming file and line, where the file cannot be read, is no such text, has no header, a column
    twice, or a row with more or fewer values than the header.
    """
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(_SEPARATORS, key=first.count)  # the first of them where there is none
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows = []
    try:
        for values in reader:
            if any(value.strip() for value in values):
                rows.append((reader.line_num, tuple(value.strip() for value in values)))
    except csv.Error as error:
        raise FiltersubError(f"{path}, line {reader.line_num}: not CSV ({error}); look at its quotes") from None
    if not rows:
        raise FiltersubError(f"{path} is empty; its first line must name the columns, such as path,label")
    header = _header(path, rows[0][1])
    return CsvTable(header, tuple((line, _fitted(path, line, values, header)) for line, values in rows[1:]))


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FiltersubError(f"cannot read {path}: {error.strerror or error}") from None
    encoding = next((name for mark, name in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FiltersubError(f"{path}, line {line}: not {encoding.upper()} text; save the file as UTF-8") from None


def _header(path: Path, values: tuple[str, ...]) -> tuple[str, ...]:
    header = list(values)
    while header and not header[-1]:  # a comma at the end of the line
        header.pop()
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise FiltersubError(f"{path} has the column {twice[0]!r} twice; rename or remove one")
    return tuple(header)


def _fitted(path: Path, line: int, values: tuple[str, ...], header: tuple[str, ...]) -> tuple[str, ...]:
    kept = list(values)
    while len(kept) > len(header) and not kept[-1]:
        kept.pop()
    if len(kept) != len(header):
        fix = "a value that holds the separator needs quotes" if len(kept) > len(header) else "a separator is missing"
        raise FiltersubError(
            f"{path}, line {line} has {len(kept)} values where the header has {len(header)} "
            f"({', '.join(header)}): {', '.join(values)[:80]!r}; {fix}"
        )
    return tuple(kept)
