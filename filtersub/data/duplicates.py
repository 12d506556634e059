"""Images with the same content, found by their digests: one that trains and is judged on flatters what is reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Digests = Sequence[bytes | None]  # None where an image cannot be decoded
Name = Callable[[int], str]


def shared_images(trained: Digests, trained_name: Name, judged: Digests, judged_name: Name) -> list[str]:
    """``JUDGED = TRAINED`` for each judged image whose content is among the training images too."""
    first = {digest: index for index, digest in enumerate(trained) if digest is not None}
    return [
        f"{judged_name(index)} = {trained_name(first[digest])}"
        for index, digest in enumerate(judged)
        if digest in first
    ]


def repeated_images(digests: Digests, name: Name) -> list[str]:
    """``LATER = FIRST`` for each image whose content an earlier one of the same part has."""
    first: dict[bytes, int] = {}
    found = []
    for index, digest in enumerate(digests):
        if digest is not None and first.setdefault(digest, index) != index:
            found.append(f"{name(index)} = {name(first[digest])}")
    return found


def contradictions(digests: Digests, labels: Sequence[Any], name: Name) -> list[str]:
    """``LATER = FIRST`` for each image whose content an earlier one has under another label."""
    first: dict[bytes, int] = {}
    return [
        f"{name(index)} = {name(first[digest])}"
        for index, digest in enumerate(digests)
        if digest is not None and labels[first.setdefault(digest, index)] != labels[index]
    ]
