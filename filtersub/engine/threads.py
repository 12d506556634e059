"""Plain threads beside the one that calls, for loops that may last no longer than a millisecond.

The caller works too, and waits only for helpers that have begun. On a busy machine a thread may wait longer for its
turn than the whole loop takes: then the caller has done it all, and the helper finds the loop closed. None stays
behind, so that there is no pool that a forked process would hang on. Numba's parallel loops would take twice as long to
compile, could not run twice at once, and share their threads with other libraries.
"""

import _thread
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

_CHUNK = 4096  # rows that are summed together, and that a thread takes at a time
_MOST_CHUNKS = 64  # of one matrix: what is summed up of each takes memory


def work_together(work: Callable[[], None], n_threads: int, stop: Callable[[], None]) -> None:
    """Call ``work`` here and on ``n_threads - 1`` helpers, all of which take from one supply until it is used up.

    ``work`` should release the lock, and return to the interpreter now and then, where Ctrl-C is heard. ``stop``
    empties the supply: where a call fails or is interrupted, the others end with what they have in hand. Raises what
    ``work`` raises, on any thread.
    """
    gate, closed, begun, failures = _thread.allocate_lock(), False, [], []

    def help_along() -> None:
        with gate:
            if closed:
                return
            busy = _thread.allocate_lock()
            busy.acquire()
            begun.append(busy)
        try:
            work()
        except BaseException as failure:  # what a thread raises would otherwise be printed and forgotten
            failures.append(failure)
            stop()
        finally:
            busy.release()

    try:
        for _ in range(n_threads - 1):
            try:
                # threading.Thread.start would wait until the thread has had its first turn
                _thread.start_new_thread(help_along, ())
            except RuntimeError:  # no more threads are to be had: then with fewer
                break
        work()
        with gate:
            closed = True
        for busy in begun:
            busy.acquire()
    except BaseException:
        closed = True
        stop()
        raise
    if failures:
        raise failures[0]


def for_each(work: Callable[..., None], parts: Iterable[tuple], n_threads: int | None = None) -> None:
    """``work(*part)`` for each part, on so many threads (None: as many as torch has); who is free takes the next part.

    An error or an interrupt ends the loop once the parts under way are done.
    """
    waiting = deque(parts)

    def take() -> None:
        while True:
            try:
                part = waiting.popleft()
            except IndexError:
                return
            work(*part)

    work_together(take, min(torch.get_num_threads() if n_threads is None else n_threads, len(waiting)), waiting.clear)


def over_rows(
    kernel: Callable[..., None], chunk_rows: int, arrays: Sequence[np.ndarray], n_outputs: int, *, widen: bool = True
) -> None:
    """Call ``kernel(number, *parts)`` with the same ``chunk_rows`` rows of every array until all rows are done.

    The last ``n_outputs`` arrays are written, the others read. With ``widen`` the kernel sees float64 only: of float32
    arrays it gets copies, made and rounded back in cache. The number tells the chunks apart: what is summed up for
    each is the same whichever thread takes it. The kernels release the interpreter's lock.
    """
    first_output = len(arrays) - n_outputs

    def run(begin: int) -> None:
        wanted = [array[begin : begin + chunk_rows] for array in arrays]
        parts = wanted
        if widen:
            parts = [_widened(part, read=place < first_output) for place, part in enumerate(wanted)]
        kernel(begin // chunk_rows, *parts)
        for target, part in list(zip(wanted, parts, strict=True))[first_output:]:
            if target is not part:
                target[...] = part

    for_each(run, ((begin,) for begin in range(0, arrays[0].shape[0], chunk_rows)))


def _widened(part: np.ndarray, read: bool) -> np.ndarray:
    if part.dtype == np.float64:
        return part
    return part.astype(np.float64) if read else np.empty(part.shape)


def chunk_rows(n_rows: int) -> int:
    """Rows of a chunk of so many rows: the same on any number of threads."""
    return _CHUNK * max(1, -(-n_rows // (_CHUNK * _MOST_CHUNKS)))
