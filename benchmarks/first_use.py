"""The first `filtersub decompose efficientnet_lite0` on a machine: kernels compiled on the way, ahead, or on disk.

    .venv/bin/python benchmarks/first_use.py
    .venv/bin/python benchmarks/first_use.py --against ../filtersub-before   # a checkout of another version beside

Each call is a process of its own, with folders for kernels that were empty before; calls of both versions alternate.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
DECOMPOSE = ("decompose", "efficientnet_lite0", "--json")


def call(checkout: Path, kernels: Path, *arguments: str) -> tuple[float, float]:
    """(wall seconds, processor seconds) of a command of a checkout."""
    own = {"PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": str(kernels)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "filtersub", *arguments]
    subprocess.run(command, env={**os.environ, **own}, cwd=kernels, check=True, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_use(checkout: Path) -> dict[str, tuple[float, float]]:
    """What each call takes on a machine that has compiled nothing; `compile-kernels` where the version has it."""
    found = {}
    with tempfile.TemporaryDirectory() as kernels:
        found["first decompose, compiling on the way"] = call(checkout, Path(kernels), *DECOMPOSE)
        found["decompose again"] = call(checkout, Path(kernels), *DECOMPOSE)
    if (checkout / "filtersub" / "compile_ahead.py").exists():
        with tempfile.TemporaryDirectory() as kernels:
            found["compile-kernels"] = call(checkout, Path(kernels), "compile-kernels")
            found["first decompose after it"] = call(checkout, Path(kernels), *DECOMPOSE)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="checkout of another version")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    sides = {"here": HERE} | ({} if given.against is None else {"against": given.against.resolve()})
    rounds = [{side: first_use(checkout) for side, checkout in sides.items()} for _ in range(given.repeats)]
    print("| version | call | wall s | processor s |\n|---|---|---|---|")
    middle = {}
    for side in sides:
        for what in rounds[0][side]:
            wall, processor = (statistics.median(each[side][what][n] for each in rounds) for n in (0, 1))
            middle[side, what] = wall
            print(f"| {side} | {what} | {wall:.1f} | {processor:.1f} |", flush=True)
    ahead = middle["here", "first decompose after it"]
    for side in sides:
        ratio = ahead / middle[side, "first decompose, compiling on the way"]
        print(f"first decompose after compile-kernels, of the first one {side} that compiles on the way: {ratio:.2f}")


if __name__ == "__main__":
    main()
