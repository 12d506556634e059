"""Peak memory of a stretch of work: the GPU's allocator where there is one, else this process's resident set."""

from __future__ import annotations

import threading

import psutil
import torch

_INTERVAL = 0.02  # seconds between two looks at the resident set


class PeakMemory:
    """``with PeakMemory(device) as memory: ...``, then ``memory.bytes``: the largest use within, in bytes.

    On a GPU what torch's allocator held at its peak; on a CPU the largest resident set of the whole process (code,
    libraries and data included), looked at every 20 ms by a thread.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        self._process, self._done = psutil.Process(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
            return
        self._done.set()
        self._watcher.join()
        self._look()

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes, self._process.memory_info().rss)
