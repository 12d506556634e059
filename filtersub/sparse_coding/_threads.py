"""Compiled kernels: made ready ahead of the clock, and run over all rows on as many plain threads as torch has."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch

from ..compile_notice import compile_notice
from ._crew import work_together

_ready: set[Hashable] = set()


def make_ready(key: Hashable, call: Callable[[], object]) -> None:
    """Have ``call`` compile a kernel, or fetch it from disk, unless done for that key; say so where it takes long."""
    if key in _ready:
        return
    with compile_notice():
        call()
    _ready.add(key)


def over_rows(
    kernel: Callable[..., None], share: int, arrays: Sequence[np.ndarray], n_outputs: int, *, widen: bool = True
) -> None:
    """Call ``kernel(number, *parts)`` with the same ``share`` rows of every array until all rows are done.

    The last ``n_outputs`` arrays are written, the others read. With ``widen`` the kernel sees float64 only: of float32
    arrays it gets copies, made and rounded back in cache. The number tells the shares apart: what is summed up for
    each is the same whichever thread takes it. The kernels release the interpreter's lock.
    """
    n_rows = arrays[0].shape[0]
    waiting = deque(range(0, n_rows, share))  # for all threads: who is free takes the next share
    first_output = len(arrays) - n_outputs

    def work() -> None:
        while True:
            try:
                begin = waiting.popleft()
            except IndexError:
                return
            wanted = [array[begin : begin + share] for array in arrays]
            parts = wanted
            if widen:
                parts = [_widened(part, read=place < first_output) for place, part in enumerate(wanted)]
            kernel(begin // share, *parts)
            for target, part in list(zip(wanted, parts, strict=True))[first_output:]:
                if target is not part:
                    target[...] = part

    work_together(work, min(torch.get_num_threads(), len(waiting)), waiting.clear)


def _widened(part: np.ndarray, read: bool) -> np.ndarray:
    if part.dtype == np.float64:
        return part
    return part.astype(np.float64) if read else np.empty(part.shape)
