"""How the LASSO's kernels are run: interrupted, failing, and by several threads."""

import _thread
import signal
import threading
import time

import numpy as np
import pytest

from filtersub.engine.lasso import run as lasso_run

ROWS, N_ATOMS = np.ones((100, 3)), 2


def run(kernel, threads=3):
    totals = np.zeros((10, 1))
    arrays = ROWS, np.empty((0, N_ATOMS)), np.empty((len(ROWS), N_ATOMS))
    lasso_run.run_kernel(kernel, arrays, totals, 4, (), threads)
    return totals


@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupt_ends_the_threads(threads):
    alive, started, begun, ended = _thread._count(), threading.Event(), [], []

    def short(rows, given, codes, totals, counter, limit):
        """One call of many: as no chunk is ever taken, they would go on for ever."""
        begun.append(True)
        started.set()
        try:
            time.sleep(0.001)
        finally:
            ended.append(True)

    def interrupt():
        started.wait()
        # a real signal, as Ctrl-C sends: _thread.interrupt_main does not wake a main thread that waits for a lock
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(short, threads)
    while _thread._count() > alive:
        time.sleep(0.001)
    assert 1 <= len(ended) == len(begun)


def test_what_a_thread_raises_is_raised():
    def failing(rows, given, codes, totals, counter, limit):
        raise ZeroDivisionError("in a kernel")

    with pytest.raises(ZeroDivisionError, match="in a kernel"):
        run(failing)


def test_every_chunk_is_taken_once():
    lock = threading.Lock()

    def counting(rows, given, codes, totals, counter, limit):
        for _ in range(limit):
            with lock:
                chunk = counter[0]
                counter[0] += 1
            if chunk >= len(totals):
                return
            totals[chunk] += 1

    assert (run(counting) == 1).all()
