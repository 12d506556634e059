"""Threads beside the caller: everything is done once, whoever does it, and what goes wrong is heard."""

import _thread
import threading
import time
from collections import deque

import pytest

from filtersub.engine.threads import work_together


def supply(n, each=lambda part: None):
    """(work, done, stop, threads seen) over n parts."""
    waiting, done, seen = deque(range(n)), [], set()

    def work():
        while True:
            try:
                part = waiting.popleft()
            except IndexError:
                return
            each(part)
            seen.add(threading.get_ident())
            done.append(part)

    return work, done, waiting.clear, seen


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_part_is_done_once_before_the_call_returns(threads):
    work, done, stop, _ = supply(200, lambda part: time.sleep(1e-4))
    work_together(work, threads, stop)
    assert sorted(done) == list(range(200))


def test_helpers_share_the_work_and_none_stays_behind():
    before = _thread._count()
    work, done, stop, seen = supply(50, lambda part: time.sleep(2e-3))
    work_together(work, 3, stop)
    assert len(done) == 50
    assert len(seen) > 1
    while _thread._count() > before:
        time.sleep(1e-3)


def test_one_thread_starts_no_other():
    work, _, stop, seen = supply(5)
    work_together(work, 1, stop)
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("whose", ["a helper's", "the caller's"])
def test_an_error_empties_the_supply_and_is_raised(whose):
    caller, others = threading.get_ident(), threading.Event()

    def fails(part):
        mine = threading.get_ident() == caller
        if mine == (whose == "the caller's"):
            raise ZeroDivisionError(whose)
        if mine:
            others.wait(0.005)  # leaves the helper its turn

    work, done, stop, _ = supply(2000, fails)
    with pytest.raises(ZeroDivisionError, match=whose):
        work_together(work, 2, stop)
    assert len(done) < 2000


def test_a_helper_that_comes_too_late_finds_the_loop_closed(monkeypatch):
    late = []
    monkeypatch.setattr(_thread, "start_new_thread", lambda run, arguments: late.append(run))
    work, done, stop, seen = supply(10)
    work_together(work, 2, stop)
    assert sorted(done) == list(range(10))
    calls = len(done)
    late[0]()
    assert len(done) == calls
    assert seen == {threading.get_ident()}


def test_without_further_threads_the_caller_does_it_all(monkeypatch):
    def refuse(run, arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    work, done, stop, _ = supply(10)
    work_together(work, 4, stop)
    assert sorted(done) == list(range(10))
