"""How the LASSO's kernels are run: interrupted, failing, and by several threads."""

import signal
import threading
import time

import numpy as np
import pytest

from filtersub.sparse_coding import _lasso_run

ROWS, N_ATOMS = np.ones((100, 3)), 2


def plan(kernel):
    return _lasso_run._Plan(kernel, (), 10, 1, False)


def run(kernel, threads=3):
    return _lasso_run._run(plan(kernel), ROWS, np.empty((0, N_ATOMS)), N_ATOMS, threads)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupt_ends_the_threads(threads):
    alive, started, begun, ended = threading.active_count(), threading.Event(), [], []

    def endless(rows, given, codes, totals, counter):
        begun.append(True)
        started.set()
        while counter[0] < len(totals):
            time.sleep(0.001)
        ended.append(True)

    def interrupt():
        started.wait()
        # a real signal, as Ctrl-C sends: _thread.interrupt_main does not wake a main thread that waits for a lock
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run(endless, threads)
    while threading.active_count() > alive:
        time.sleep(0.001)
    assert 1 <= len(ended) == len(begun) <= threads  # it may come before the last ones have begun


def test_what_a_thread_raises_is_raised():
    def failing(rows, given, codes, totals, counter):
        raise ZeroDivisionError("in a kernel")

    with pytest.raises(ZeroDivisionError, match="in a kernel"):
        run(failing)


def test_every_chunk_is_taken_once():
    lock = threading.Lock()

    def counting(rows, given, codes, totals, counter):
        while True:
            with lock:
                chunk = counter[0]
                counter[0] += 1
            if chunk >= len(totals):
                return
            totals[chunk] += 1

    totals, codes = run(counting)
    assert totals.shape == (10, 1)
    assert (totals == 1).all()
    assert codes.shape == (100, N_ATOMS)
