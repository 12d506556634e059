"""Joins safetensors files by copying bytes, so that results larger than memory can be written."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..files import atomic_write

_PIECE = 1 << 24  # bytes copied at once


def join(files: Sequence[Path], target: str | os.PathLike[str], metadata: Mapping[str, str]) -> Path:
    """One safetensors file with the tensors of all, in their order, and the given metadata, written whole or not at
    all.

    A tensor that several files have under one name is taken from the first. The format: the length of the header
    (8 bytes, little-endian), the header (JSON, names to dtype, shape, data_offsets), the tensors' bytes without gaps.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    pieces: list[tuple[Path, int, int]] = []  # file, first byte, length
    end = 0
    for file in files:
        with file.open("rb") as stream:
            described, start = _header(stream)
        for name, tensor in sorted(described.items(), key=lambda item: item[1]["data_offsets"]):
            if name in header:
                continue
            first, last = tensor["data_offsets"]
            header[name] = {**tensor, "data_offsets": [end, end + last - first]}
            pieces.append((file, start + first, last - first))
            end += last - first
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(target) as aside, aside.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for file, start, length in pieces:
            with file.open("rb") as stream:
                _copy(stream, start, out, length)
    return Path(target)


def _header(stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """(tensors by name, where their bytes begin)."""
    (length,) = struct.unpack("<Q", stream.read(8))
    described = json.loads(stream.read(length))
    described.pop("__metadata__", None)
    return described, 8 + length


def _copy(stream: BinaryIO, start: int, out: BinaryIO, length: int) -> None:
    """Within the system where it can be (Linux), otherwise through memory, piece by piece."""
    out.flush()
    while length > 0:
        try:
            done = os.copy_file_range(stream.fileno(), out.fileno(), min(length, _PIECE), start)
        except (AttributeError, OSError):  # another system, or a file system that does not know it
            break
        if done == 0:
            break
        start, length = start + done, length - done
    out.seek(0, os.SEEK_END)
    stream.seek(start)
    while length > 0:
        block = stream.read(min(length, _PIECE))
        if not block:
            raise OSError("a file that was to be joined ended early")
        out.write(block)
        length -= len(block)
