"""CSV lists: a column of paths, a column of labels, and the part of each image."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import FiltersubError, reason
from ..image_reading import is_image_path
from .images import FileImages, Source, fenced_images
from .parts import PART_NAMES, by_part, part_of
from .problems import Problem, classes_up_to, problem

_PATHS = ("path", "image", "file", "file_name", "filename", "image_path", "file_path", "filepath", "img", "image_name")
_LABELS = ("label", "class", "target", "labels", "class_name", "category")
_USUAL = {"image": _PATHS, "label": _LABELS, "split": ("split", "part")}


class _Row(NamedTuple):
    """A row as it stands; an empty path or label is a problem of the set, told with all others of its kind."""

    where: str  # "line 7", for messages
    image: str
    label: str
    part: str


def open_csv(path: Path, columns: Mapping[str, str]) -> Source:
    """A CSV file with a column ``split`` (train, val, test), or a folder of train.csv, val.csv and test.csv.

    Parameters
    ----------
    path : the file or folder; images lie below the folder, and their paths are relative to it, with / or, where no file
        has that very name, with \\
    columns : names of the columns "image", "label" and "split", where they are not found by their usual names

    Labels are whole numbers from 0 where every training label is one as it is written (``7``, not ``07``); else they
    are names, numbered in alphabetical order, ``01`` and ``1`` two of them. An empty label is a problem, no class.
    Without test images, or without validation images, a fifth of each class is held out. Raises FiltersubError for
    files that are no such lists.
    """
    root = path if path.is_dir() else path.parent
    lists = _lists(path, columns)
    if not lists.get("train"):
        raise FiltersubError(f"{path} lists no training images; its column 'split' (or train.csv) must name some")
    problems: list[Problem] = []
    for part, rows in lists.items():
        empty = [f"{row.where} ({row.image or 'no path either'})" for row in rows if not row.label]
        problems += problem("label", part, empty, "rows with an empty label; fill it in, or remove the row")
        unnamed = [f"{row.where} ({row.label})" for row in rows if row.label and not row.image]
        problems += problem("missing image", part, unnamed, "rows without a path")
    labelled = {part: [row for row in rows if row.label and row.image] for part, rows in lists.items()}
    classes, number = _classes([row.label for row in labelled["train"]])
    largest = max((number(row.label) or 0 for row in labelled["train"]), default=0)
    n_classes = len(classes) or classes_up_to(largest, path)
    parts: dict[str, FileImages] = {}
    for part, rows in labelled.items():
        unknown = [f"{row.image} {row.label} ({row.where})" for row in rows if number(row.label) is None]
        problems += problem("label", part, unknown, "labels that no training image has")
        known = [(_with_slashes(root, row.image), number(row.label)) for row in rows if number(row.label) is not None]
        parts[part], found = fenced_images(root, known, n_classes, part)
        problems += found
    search = parts["train"] if "validation" in parts else None
    return Source(n_classes, search=search, classes=classes, problems=tuple(problems), **parts)


def _lists(path: Path, columns: Mapping[str, str]) -> dict[str, list[_Row]]:
    """The rows of each part there is."""
    if path.is_dir():
        names = {file.stem: file for file in path.iterdir() if file.suffix.lower() == ".csv" and file.is_file()}
        return {part: _rows(names[name], columns) for part, name in by_part(names, path).items()}
    parts: dict[str, list[_Row]] = {part: [] for part in PART_NAMES}
    for row in _rows(path, columns):
        parts[row.part].append(row)
    return {part: rows for part, rows in parts.items() if rows}


def _rows(path: Path, columns: Mapping[str, str]) -> list[_Row]:
    header, rows = read_csv_table(path)
    image, label, split = (_place(path, header, what, columns.get(what)) for what in _USUAL)
    found = []
    for line, values in rows:
        part = "train" if split is None else part_of(values[split])
        if part is None:
            known = ", ".join(name for names in PART_NAMES.values() for name in names)
            raise FiltersubError(f"{path}, line {line}: split is {values[split]!r}; known: {known}")
        found.append(_Row(f"line {line}", values[image], values[label], part))
    return found


def _place(path: Path, header: Sequence[str], what: str, asked: str | None) -> int | None:
    """Position of a column: of the name that is asked for, else of a usual one, in any spelling of case and spaces."""
    if asked in header:
        return header.index(asked)
    plain = [_plain(name) for name in header]
    wanted = _USUAL[what] if asked is None else (_plain(asked),)
    found = next((plain.index(name) for name in wanted if name in plain), None)
    if found is not None or (asked is None and what == "split"):
        return found
    if asked is None and any(is_image_path(value) for value in header):
        raise FiltersubError(
            f"{path} begins with a row ({', '.join(header)}), not with names of columns; put path,label above it"
        )
    raise FiltersubError(
        f"{path} has no column {asked or what!r}; it has {', '.join(header)}. "
        f"Name it, as in csv:{path.name}?{what}=COLUMN"
    )


def _plain(name: str) -> str:
    """A column's name as it is compared: ``Image Path`` and ``image-path`` are ``image_path``."""
    return re.sub(r"[ .-]+", "_", name.strip().lower())


def _with_slashes(root: Path, file: str) -> str:
    """A path of Windows as one of this system, unless a file has that very name."""
    return file.replace("\\", "/") if "\\" in file and not (root / file).is_file() else file


def _classes(train: Sequence[str]) -> tuple[tuple[str, ...], Callable[[str], int | None]]:
    """(names of the classes, a function from a label to its number); None for a label that no training image has."""
    if all(_is_number(label) for label in train):
        return (), lambda label: int(label) if _is_number(label) else None
    classes = tuple(sorted(set(train)))
    return classes, {name: place for place, name in enumerate(classes)}.get


def _is_number(label: str) -> bool:
    """Whether a label is a whole number as it is usually written, without leading zeros."""
    return re.fullmatch(r"0|-?[1-9][0-9]{0,99}", label) is not None


_SEPARATORS = (",", ";", "\t", "|")
_ENCODINGS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}  # by their marks


def read_csv_table(path: Path) -> tuple[tuple[str, ...], list[tuple[int, tuple[str, ...]]]]:
    """(names of the columns, rows) of a file, each row as (the line that it ends in, as many values as columns).

    Names and values are stripped; empty lines, and empty values beyond the header's last column, are left out. The
    separator is the one of comma, semicolon, tab and bar that the header has most of. UTF-8, with or without a byte
    order mark, and UTF-16 are read.

    Raises FiltersubError, naming file and line, where the file cannot be read, is no such text, has no header, a column
    twice, or a row with more or fewer values than the header.
    """
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(_SEPARATORS, key=first.count)  # the first of them where there is none
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    header, rows = None, []
    try:
        for read in reader:
            values = [value.strip() for value in read]
            if not any(values):
                continue
            while len(values) > len(header or ()) and not values[-1]:  # a separator at the end of the line
                values.pop()
            if header is None:
                header = values
            elif len(values) == len(header):
                rows.append((reader.line_num, tuple(values)))
            else:
                many = len(values) > len(header)
                fix = "a value that holds the separator needs quotes" if many else "a separator is missing"
                raise FiltersubError(
                    f"{path}, line {reader.line_num} has {len(values)} values where the header has {len(header)} "
                    f"({', '.join(header)}): {', '.join(values)[:80]!r}; {fix}"
                )
    except csv.Error as error:
        raise FiltersubError(f"{path}, line {reader.line_num}: not CSV ({error}); look at its quotes") from None
    if header is None:
        raise FiltersubError(f"{path} is empty; its first line must name the columns, such as path,label")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise FiltersubError(f"{path} has the column {twice[0]!r} twice; rename or remove one")
    return tuple(header), rows


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        encoding = next((name for mark, name in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
        return content.decode(encoding)
    except OSError as error:
        raise FiltersubError(f"cannot read {path}: {reason(error)}") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FiltersubError(f"{path}, line {line}: not {encoding.upper()} text; save the file as UTF-8") from None
