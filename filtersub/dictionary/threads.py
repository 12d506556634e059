"""Loops over chunks of rows on plain threads; sums over chunks do not depend on how many."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

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
    n_threads = min(torch.get_num_threads(), len(parts))
    waiting = iter(parts)

    def worker() -> None:
        for part in waiting:  # one iterator for all: who is free takes the next
            work(*part)

    if n_threads <= 1:
        worker()
        return
    with ThreadPoolExecutor(n_threads - 1) as pool:
        others = [pool.submit(worker) for _ in range(n_threads - 1)]
        worker()
        wait(others)
        for other in others:
            other.result()
