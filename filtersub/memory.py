"""Memory of a stretch of work: its peak (of the GPU's allocator or this process's resident set), and what is freed."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from pathlib import Path

import psutil
import torch

_INTERVAL = 0.02  # seconds between two looks at the resident set
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _NEVER = -1, -3, -1  # of glibc's mallopt
_OF_THE_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what comes next, for the rest of this process.

    A training step on the CPU frees what the next one allocates. Given back to the system in between, every page of it
    is made anew, and on virtual machines that takes a good part of the step (benchmarks/README.md). Only blocks of a
    GiB and more still go back at once; PeakMemory gives all back at its two ends. Settings of the user for the
    allocator go first; nothing happens where the C library is not glibc.
    """
    if any(name in os.environ for name in _OF_THE_USER):
        return
    _ask_glibc("mallopt", _MMAP_THRESHOLD, 2**30)
    _ask_glibc("mallopt", _TRIM_THRESHOLD, _NEVER)


class PeakMemory:
    """``with PeakMemory(device) as memory: ...``, then ``memory.bytes``: the largest use within, in bytes.

    On a GPU what torch's allocator held at its peak. On a CPU the largest resident set of the whole process (code,
    libraries and data included): the system's own high-water mark, set back at the start, where it has one (Linux),
    else looked at every 20 ms by a thread. ``memory.added_bytes`` is the part above what was in use at the start, when
    memory that earlier work had freed was first given back to the system, as it is at the end.
    """

    _open: list[PeakMemory] = []  # noqa: RUF012 (those around this one: they share the process's one mark)

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.bytes = 0
        self.before_bytes = 0

    @property
    def added_bytes(self) -> int:
        return max(0, self.bytes - self.before_bytes)

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            self.before_bytes = torch.cuda.memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        gc.collect()
        _ask_glibc("malloc_trim", 0)  # what earlier work has freed would be counted as this stretch's
        self._process, self._done, self._watcher = psutil.Process(), threading.Event(), None
        for outer in self._open:
            outer._look()
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets back the peak of the resident set
            self._has_mark = _mark() > 0
        except (OSError, ValueError):  # the system keeps no mark that could be set back
            self._has_mark = False
        self.before_bytes = self.bytes = self._process.memory_info().rss
        if not self._has_mark:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        self._open.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
            return
        self._done.set()
        if self._watcher is not None:
            self._watcher.join()
        self._look()
        self._open.remove(self)
        _ask_glibc("malloc_trim", 0)

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        now = _mark() if self._has_mark else self._process.memory_info().rss
        self.bytes = max(self.bytes, now)


def _mark() -> int:
    """The largest resident set since the mark was set back, in bytes; 0 where the system does not say."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _ask_glibc(function: str, *arguments: int) -> None:
    try:
        getattr(ctypes.CDLL("libc.so.6"), function)(*arguments)
    except (OSError, AttributeError):  # not glibc
        return
