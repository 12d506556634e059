"""Ends a process with its children, ends a child with its parent, and counts the cores that a process may use."""

import contextlib
import ctypes
import os
import signal
import sys

import psutil

#: Names, in the environment of every run of an ablation, the folder of decomposed layers that its runs share.
DECOMPOSITIONS = "FILTERSUB_DECOMPOSITIONS"
#: Names, in the environment of a training run, the experiment trackers that it logs to, separated by commas.
LOG_WITH = "FILTERSUB_LOG_WITH"


def cores() -> int:
    """Cores that this process may use, in a container no more than its quota."""
    from joblib import cpu_count

    return cpu_count()


def keep_to_quota() -> None:
    """Lower torch's threads, which the kernels of this package use too, to the cores of a container's quota.

    By default torch starts a thread for each core of the machine. Under a quota these threads wait for each other: two
    threads under a quota of one core took three times as long as one. Does nothing where OMP_NUM_THREADS is set.
    """
    import torch

    allowed = cores()
    if "OMP_NUM_THREADS" not in os.environ and allowed < torch.get_num_threads():
        torch.set_num_threads(allowed)


def end_tree(pid: int) -> None:
    """Kill a process and all that it started; nothing happens where it is gone already."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for part in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                part.kill()


def end_with_parent(parent: int) -> None:
    """Have Linux kill this forked process when ``parent``, the thread that forked it, ends."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def is_running(pid: int, since: float) -> bool:
    """Whether a process runs that was there at the time ``since`` (seconds since the epoch): ids are given anew."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= since + 1
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # of another user
        return True


def exit_text(code: int) -> str:
    """How a process ended, in words, from Popen's return code."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
