"""Threads beside the one that calls, for loops that may last no longer than a millisecond.

The caller works too, and waits only for helpers that have begun. On a busy machine a thread may wait longer for its
turn than the whole loop takes: then the caller has done it all, and the helper finds the loop closed. None stays
behind, so that there is no pool that a forked process would hang on.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable


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
