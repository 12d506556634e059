"""Loops over chunks of rows on plain threads; sums over chunks do not depend on how many."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch

from ..sparse_coding._crew import work_together

_CHUNK = 4096  # rows that are summed together, and that a thread takes at a time
_MOST_CHUNKS = 64  # of one matrix: what is summed up of each takes memory


def chunks(n_rows: int) -> list[tuple[int, int, int]]:
    """(begin, end, number) of the chunks of so many rows: the same on any number of threads."""
    size = _CHUNK * max(1, -(-n_rows // (_CHUNK * _MOST_CHUNKS)))
    return [(begin, min(begin + size, n_rows), number) for number, begin in enumerate(range(0, n_rows, size))]


def in_threads(work: Callable[[int, int, int], None], parts: list[tuple[int, int, int]]) -> None:
    """Call ``work(begin, end, number)`` on each part, on as many plain threads as torch uses.

    ``work`` should release the lock. An error or an interrupt ends the loop once the parts under way are done.
    """
    waiting = deque(parts)  # one supply for all: who is free takes the next

    def worker() -> None:
        while True:
            try:
                part = waiting.popleft()
            except IndexError:
                return
            work(*part)

    work_together(worker, min(torch.get_num_threads(), len(parts)), waiting.clear)
