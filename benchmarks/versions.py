"""Coding, learning, decomposing and training in two versions of the package, in turns.

    .venv/bin/python benchmarks/versions.py --against ../filtersub-before [--only lasso] [--repeats 9] [--wall]

Two versions cannot be imported by one process, so each has a process of its own that waits while the other works. Every
case is run once without being counted, then by one version after the other. A turn takes the quickest call; times are
medians over the turns, of processor time on one thread (``--wall``: of the clock, on as many threads as torch takes).
The ratio is of this version to the other: above 1 this one is slower. Only calls that both versions know are used, with
the same limits on rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
ROWS, WIDE_ROWS, SLOW_ROWS = 60_000, 4_000, 20_000
_TURN = 0.1  # seconds of a turn at least; its time is that of the quickest call


def cases() -> dict[str, Callable[[], Callable[[], object]]]:
    """Name -> what makes ready and returns the call that is timed."""
    import torch
    from torch.nn.functional import normalize

    def problem(n_rows: int, d: int, n_atoms: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(n_rows, d, generator=generator) * torch.rand(n_rows, 1, generator=generator)
        return rows, normalize(torch.randn(n_atoms, d, generator=generator))

    def coding(n_rows: int, d: int, n_atoms: int, penalty: float, warm: bool) -> Callable[[], object]:
        from filtersub.sparse_coding.lasso import lasso

        rows, atoms = problem(n_rows, d, n_atoms)
        nearby = normalize(
            atoms + 0.01 * normalize(torch.randn(atoms.shape, generator=torch.Generator().manual_seed(1)))
        )
        start = {"codes_init": lasso(rows, nearby, penalty).codes} if warm else {}
        return lambda: lasso(rows, atoms, penalty, **start)

    def pursuit(name: str, n_atoms: int, n_nonzero: int) -> Callable[[], object]:
        from filtersub import sparse_coding

        rows, atoms = problem(SLOW_ROWS, 9, n_atoms)
        return lambda: getattr(sparse_coding, name)(rows, atoms, n_nonzero)

    def learning(n_atoms: int, **settings: object) -> Callable[[], object]:
        from filtersub.dictionary import learn_dictionary

        rows, _ = problem(SLOW_ROWS, 9, n_atoms)
        return lambda: learn_dictionary(rows, n_atoms, seed=0, max_rounds=300, tol=1e-4, **settings)

    def decomposing(name: str, **recipe: object) -> Callable[[], object]:
        from filtersub.decomposition import DecompositionConfig, decompose_model
        from filtersub.models import load_model

        torch.manual_seed(0)
        model = load_model(name, pretrained=False, num_classes=10)
        return lambda: decompose_model(model, DecompositionConfig(max_rounds=20, tol=0.0, **recipe))

    def training(name: str, **options: object) -> Callable[[], object]:
        from peft import get_peft_model

        from filtersub.memory import keep_freed_memory
        from filtersub.models import head_name, load_model
        from filtersub.tuning import FilterSubspaceConfig

        keep_freed_memory()
        torch.manual_seed(0)
        model = load_model(name, pretrained=False, num_classes=10)
        model = get_peft_model(model, FilterSubspaceConfig(modules_to_save=[head_name(model)], **options))
        model = model.to(memory_format=torch.channels_last).train()
        images = torch.randn(16, 3, 96, 96).contiguous(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-5)

        def step() -> None:
            torch.nn.functional.cross_entropy(model(images), torch.arange(16) % 10).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    found: dict[str, Callable[[], Callable[[], object]]] = {}
    for n_atoms in (6, 9, 12):
        for warm in (False, True):
            name = f"lasso, d 9, m {n_atoms}, {'warm' if warm else 'cold'}"
            found[name] = lambda n=n_atoms, w=warm: coding(ROWS, 9, n, 0.1, w)
    found["lasso, d 16, m 144, cold"] = lambda: coding(WIDE_ROWS, 16, 144, 0.2, False)
    found["lasso, d 144, m 144, cold"] = lambda: coding(WIDE_ROWS, 144, 144, 0.5, False)
    for name in ("matching_pursuit", "orthogonal_matching_pursuit"):
        for n_atoms in (9, 36):
            found[f"{name}, m {n_atoms}"] = lambda f=name, n=n_atoms: pursuit(f, n, 3)
    for solver in ({"l1_penalty": 0.05}, {"solver": "omp", "n_nonzero": 3}):
        name = str(solver.get("solver", "lasso"))
        found[f"dictionary, {name}, m 9"] = lambda s=solver: learning(9, **s)
    for name in ("efficientnet_lite0", "resnet50"):
        for what, recipe in {"": {}, ", 4 x 4 blocks, pca": {"block": 4, "solver": "pca"}}.items():
            found[f"decompose {name}{what}"] = lambda n=name, r=recipe: decomposing(n, **r)
        plain: dict[str, object] = {"max_rounds": 0}
        options = {"1": plain, "1, pca": {"solver": "pca"}, "3": {**plain, "block": 4}}
        for setting, given in options.items():
            found[f"train {name}, setting {setting}"] = lambda n=name, g=given: training(n, **g)
    return found


def answer(wall: bool) -> None:
    """One version's process: makes a case ready, and times it whenever asked."""
    import torch

    if not wall:
        torch.set_num_threads(1)
    clock = time.perf_counter if wall else time.process_time
    known, call = cases(), None
    print(*known, sep="|", flush=True)
    for line in sys.stdin:
        if name := line.strip():
            call = known[name]()
        assert call is not None
        times: list[float] = []
        while sum(times) < _TURN:
            began = clock()
            call()
            times.append(clock() - began)
        print(min(times), flush=True)


class Version:
    """The process of one version."""

    def __init__(self, checkout: Path, wall: bool) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONWARNINGS": "ignore"}
        environment |= {} if wall else {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--answer", *(["--wall"] if wall else [])]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=checkout, text=True
        )
        self.cases = self._line().split("|")

    def _line(self) -> str:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise SystemExit("one of the two versions stopped; its message is above")
        return line.strip()

    def seconds(self, case: str = "") -> float:
        """What a case takes, made ready anew where it is named."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        return float(self._line())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="checkout of another version")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--wall", action="store_true", help="time by the clock, on all threads")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.answer:
        return answer(given.wall)
    if given.against is None:
        raise SystemExit("name the checkout of the other version: --against FOLDER")
    here, other = Version(HERE, given.wall), Version(given.against.resolve(), given.wall)
    print("| case | this version ms | other version ms | ratio |\n|---|---|---|---|")
    for case in here.cases:
        if given.only in case:
            sides = {here: [], other: []}
            for side in sides:
                side.seconds(case)
            for _ in range(given.repeats):
                for side, times in sides.items():
                    times.append(1e3 * side.seconds())
            mine, theirs = (statistics.median(times) for times in sides.values())
            print(f"| {case} | {mine:.1f} | {theirs:.1f} | {mine / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
