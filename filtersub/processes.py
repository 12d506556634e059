"""Processes that end together (a tree ended from above, a child that does not outlive its parent), and their cores."""

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
    """Have torch, and the kernels of this package, use no more threads than a container's quota has cores.

    torch counts the cores of the machine. Under a quota their threads wait for each other: twice as many threads as
    cores take twice the time (a quota of one core, two threads). OMP_NUM_THREADS, where it is set, is a user's word.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and cores() < torch.get_num_threads():
        torch.set_num_threads(cores())


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
