"""The processor that this runs on."""

from __future__ import annotations

import functools
import platform
from pathlib import Path


@functools.cache
def processor() -> str:
    """What it calls itself."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:  # the first of many processors will do
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
