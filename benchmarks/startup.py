"""What a command costs that only answers: help pages, lists, checks of notebooks, dry runs of an ablation.

Each command is a process of its own; the commands take turns. "processor" are its seconds of user and system, which
neighbours on a shared machine change little, "clock" its seconds by the clock, "memory" the most that was resident.
Medians, after a first round that nobody counts: it writes Python's caches.

    python benchmarks/startup.py [--repeats 9] [--against ../filtersub-before]

With another checkout both take turns, and the last column is processor time of this one over the other's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "02_tuning.ipynb"
ANSWERS = (*(["--help"], ["--version"], ["data", "list"], ["check-notebook", str(NOTEBOOK)]), ["tune", "--help"])
_OVERRIDES = ({".*conv_dw": {"atoms": 4}}, {"conv_stem": {"atoms": 3}}, {"blocks.1": {"atoms": 5}})
#: 30 runs of each kind
ABLATIONS: dict[str, dict[str, Any]] = {
    "m, m_1, k_c": {"grid": {"atoms": [3, 6, 9, 12, 16], "expansion": [None, 4], "block": [None, 2, 4]}},
    "baselines": {"grid": {"method": ["lora", "bitfit", "norm", "ssf", "conv-adapter"], "seed": [*range(6)]}},
    "nonzeros": {"parameters": {"solver": "omp"}, "grid": {"nonzeros": [1, 2, 3, 4, 5], "seed": [*range(6)]}},
    "overrides": {"grid": {"overrides": [*_OVERRIDES], "seed": [*range(10)]}},
}


class Taken(NamedTuple):
    """Seconds of the processor and by the clock, and megabytes."""

    processor: float
    clock: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--against", type=Path, help="another checkout")
    args = parser.parse_args()
    trees = [ROOT, *([] if args.against is None else [args.against.resolve()])]
    found: dict[str, list[list[Taken]]] = {}  # by command, then by checkout
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + args.repeats):
            rounds = [one_round(Path(folder), tree) for tree in trees]
            for turn in zip(*rounds, strict=True):
                by_tree = found.setdefault(turn[0][0], [[] for _ in trees])
                for counted, (_, taken) in zip(by_tree, turn, strict=True):
                    counted.append(taken)
    ratio = " processor, ratio |" if len(trees) > 1 else ""
    print(f"| command | processor s | clock s | memory MB |{ratio}\n|---|---|---|---|{'---|' if ratio else ''}")
    for name, by_tree in found.items():
        (processor, clock, memory), *others = (
            [statistics.median(each) for each in zip(*counted, strict=True)] for _, *counted in by_tree
        )
        row = f"| {name} | {processor:.2f} | {clock:.2f} | {memory:.0f} |"
        print(row + "".join(f" {processor / before:.2f} |" for before, *_ in others))


def one_round(folder: Path, tree: Path) -> Iterator[tuple[str, Taken]]:
    """Every command once; a dry run first with an empty cache, then with its own."""
    for words in ANSWERS:
        yield f"`{' '.join(words).replace(str(ROOT) + '/', '')}`", measured(words, folder, tree)
    for number, (name, stage) in enumerate(ABLATIONS.items()):
        spec, cache = folder / f"{number}.yaml", tempfile.mkdtemp(dir=folder)
        stages = [{"notebook": str(NOTEBOOK), **stage}]
        spec.write_text(json.dumps({"name": "dry", "title": "Dry", "question": "How long?", "stages": stages}))
        for again in ("first", "again"):
            words = ["ablate", str(spec), "--out", str(folder / "out"), "--dry-run"]
            yield f"dry run of 30 runs: {name}, {again}", measured(words, Path(cache), tree)


def measured(words: list[str], cache: Path, tree: Path) -> Taken:
    """One process of the command line of this checkout; its caches are in a folder of their own."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(tree)}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "filtersub", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=cache,  # Python looks for the package in the working folder first
    )
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(words)} ended with {process.returncode}: {said.decode()}")
    return Taken(used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
