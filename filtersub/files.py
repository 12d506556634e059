"""Files that appear whole or not at all: written aside, then renamed; JSON read and written strictly."""

from __future__ import annotations

import csv
import errno
import json
import math
import numbers
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import FiltersubError
from .schema import shown

if TYPE_CHECKING:
    import pandas as pd


def as_path(value: str | os.PathLike[str]) -> Path:
    """The path of a file or folder that a caller gave.

    >>> as_path(3)
    Traceback (most recent call last):
    filtersub.errors.FiltersubError: 3 is no path of a file or folder; give text or a pathlib.Path
    """
    try:
        path = Path(value)
    except TypeError:
        path = None
    if path is None or "\0" in str(path):
        raise FiltersubError(f"{shown(value)} is no path of a file or folder; give text or a pathlib.Path")
    return path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; it becomes ``path`` on success and is removed on failure.

    Raises FiltersubError, with what to do, when the file cannot be written: also for what safetensors and torch make of
    a full disk.
    """
    target = as_path(path)
    make_folder(target.parent)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield aside
        give_usual_mode(aside)
        os.replace(aside, target)
    except Exception as error:
        if (reason := _why_not_written(error)) is None:
            raise
        raise FiltersubError(f"cannot write {target}: {reason}") from None
    finally:
        aside.unlink(missing_ok=True)


def give_usual_mode(*files: Path) -> None:
    """Give files that their owner alone may read the permissions of any new file beside them, as the umask says: what
    safetensors 0.8 writes could not be read by who shares the folder."""
    for file in files:
        probe = file.with_name(f".mode.{os.getpid()}.part")
        with suppress(OSError):  # the file was not written, which is told elsewhere, or its disk knows no permissions
            if stat.S_IMODE(file.stat().st_mode) == 0o600:
                try:
                    probe.touch()
                    file.chmod(stat.S_IMODE(probe.stat().st_mode))
                finally:
                    probe.unlink(missing_ok=True)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _why_not_written(error: Exception) -> str | None:
    """Why a file could not be written, and what to do; None for an error that is about something else."""
    number, words = getattr(error, "errno", None), str(error)
    if type(error).__module__.startswith("safetensors") and (found := re.search(r"(?:os error|code:) (\d+)", words)):
        number = int(found[1])
    elif isinstance(error, RuntimeError) and "inline_container" in words:  # torch.save does not say why
        return "the disk is full, or the file larger than is allowed; make room, then run the same command again"
    elif not isinstance(error, OSError):
        return None
    reason = os.strerror(number) if number else words
    return f"{reason}; make room, then run the same command again" if number in FULL else reason


def make_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, made with its parents and found writable; FiltersubError otherwise."""
    folder = as_path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        said = f"cannot make the folder {folder.absolute()}: a file is in its way; choose another folder"
        raise FiltersubError(said) from None
    except OSError as error:
        raise FiltersubError(f"cannot make the folder {folder.absolute()}: {error.strerror or error}") from None
    if not os.access(folder, os.W_OK):
        raise FiltersubError(f"cannot write into the folder {folder.absolute()}: permission denied")
    return folder


def find_folder(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a folder that is there.

    A relative one is looked for in the working directory, then in each folder above it: a notebook finds
    ``reports/quickstart`` of its checkout whether its kernel starts in the checkout or in ``notebooks/``. Raises
    FiltersubError where there is none.
    """
    here, path = Path.cwd(), as_path(path)
    for above in (here, *here.parents):
        if (above / path).is_dir():
            return (above / path).resolve()
    where = "" if path.is_absolute() else f" in {here}, nor in a folder above it"
    raise FiltersubError(f"there is no folder {path}{where}; `filtersub ablate` makes one with records")


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write text as UTF-8; a lone surrogate (a folder's name that is no UTF-8) becomes its escape."""
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")
    return as_path(path)


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Strict JSON, indented, ending in a newline; numbers of numpy and torch are written as numbers.

    Raises FiltersubError, naming the entry, for NaN, infinity and values that JSON does not know.
    """
    try:
        plain = plain_json(value)
    except ValueError as error:
        raise FiltersubError(f"cannot write {path}: {error}") from None
    return write_text(path, json.dumps(plain, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a strict JSON file, with or without a byte order mark; a name stands once in an object.

    Raises ValueError or OSError that say why it cannot be read.
    """
    try:
        text = as_path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 text (byte {error.start}); save it as UTF-8") from None
    try:
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once_each)
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it is no valid Unicode") from None
    return content


def plain_json(value: Any, entry: str = "") -> Any:
    """``value`` in the types that JSON knows: numbers of numpy and torch as Python's, tuples and arrays as lists, paths
    as text.

    Raises ValueError that names the entry (such as ``metrics.accuracy``) for NaN, infinity and other types.
    """
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value  # a numpy string is a str of its own type
    what = entry or "the value"
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise ValueError(f"{what} is {value}, which JSON does not know; give a finite number or None")
        return float(value)
    if isinstance(value, Mapping):
        return {_key(key, entry): plain_json(each, f"{entry}.{key}".lstrip(".")) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(each, f"{entry}[{number}]") for number, each in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(getattr(value, "tolist", None)):  # scalars and arrays of numpy, tensors of torch, columns of pandas
        return plain_json(value.tolist(), entry)
    kind = type(value).__name__
    raise ValueError(f"{what} is a {kind}, which JSON does not know; give a number, text, list or mapping")


def visible(root: str | os.PathLike[str], name: str) -> list[Path]:
    """Every file of this name below a folder, in the order of their paths; those in hidden folders are skipped."""
    return sorted(path for path in as_path(root).rglob(name) if path.is_file() and not is_hidden(path, root))


def is_hidden(path: Path, root: str | os.PathLike[str]) -> bool:
    """Whether a folder between ``root`` and the path, or the path itself, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _key(key: Any, entry: str) -> str:
    if isinstance(key, str):
        return str(key)
    plain = key.item() if callable(getattr(key, "item", None)) else key
    if plain is None or isinstance(plain, bool | int | float):
        return next(iter(json.loads(json.dumps({plain: 0}))))  # as JSON writes it: true, null, 1
    raise ValueError(f"{entry or 'the value'} has the name {key!r}; names must be texts")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no JSON")


def write_csv(path: str | os.PathLike[str], table: pd.DataFrame) -> None:
    """Write a table as csv_text has it, as UTF-8."""
    with atomic_write(path) as aside:
        aside.write_bytes(csv_text(table).encode("utf-8"))


def csv_text(table: pd.DataFrame) -> str:
    """The table as CSV, lines ended by a line feed. pandas leaves a carriage return within a text unquoted, which would
    be read as the end of a line."""
    texts = table.select_dtypes(exclude="number")
    has_returns = any(isinstance(value, str) and "\r" in value for name in texts for value in texts[name])
    return table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC if has_returns else csv.QUOTE_MINIMAL)
