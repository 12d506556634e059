"""The installed package's version and the processor: results that are kept are told apart by them."""

import functools
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def package_version() -> str:
    try:
        return version("filtersub")
    except PackageNotFoundError:  # imported from a checkout that was never installed
        return "unknown"


@functools.cache
def processor() -> str:
    """What the processor calls itself."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:  # the first of many processors will do
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
