"""Learning a dictionary and coding every row: ours against spams and scikit-learn, on the CPU.

Sides, in one process and in turn, so that a busy machine slows all: learn_dictionary with its default settings;
spams.trainDL (1,000 batches of 512) with spams.lasso (LARS); scikit-learn's MiniBatchDictionaryLearning, on as many
batches of 512 (its own rule stops far earlier and higher), with coordinate descent (fit, then transform), for one seed,
since it takes minutes (``--sklearn-rows`` takes fewer rows). All minimise
``1/2 ||rows - C D||_F^2 + l ||C||_1`` over atoms of unit norm, from the same random rows as first atoms (drawn within
our time, given to the others), on the same number of threads. Each dictionary is judged by exact codes in float64.

Rows (d = 9), as in benchmarks/lasso.py: "stack" has 262,144 rows with the covariance and the heavy tails of real
depthwise kernels (the network at hand has too few to be tall by itself); "expand", "project", "all" are real pointwise
layers in 3 x 3 blocks of channels; "depthwise": the 2,624 real 3 x 3 kernels of EfficientNet-Lite0 themselves.
``--weights FILE`` (safetensors) takes the three largest 3 x 3 layers of a network of yours, scaled to the standard
deviation 0.02 of a typical one, beside "stack".

    python benchmarks/dictionary.py [--only spams|sklearn] [--weights FILE] [--seeds 3] [--repeats 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import spams
import torch
from lasso import LAYERS, pointwise_rows, stack_rows, timed_in_turn, weights
from safetensors.torch import load_file
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.exceptions import ConvergenceWarning as SklearnConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from filtersub.dictionary import learn_dictionary
from filtersub.dictionary.starts import random_rows
from filtersub.sparse_coding.lasso import lasso

SCALE = 0.02
SETTINGS = [(n_atoms, penalty) for n_atoms in (9, 12) for penalty in (1e-3, 5e-3)]
BATCHES = 1000  # of 512 rows
COUNTERPART = {"spams": "spams.trainDL + lasso", "sklearn": "MiniBatchDictionaryLearning + lasso_cd"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(COUNTERPART), help="leave the other counterpart out")
    parser.add_argument("--weights", type=Path, help="a safetensors file: its three largest 3 x 3 layers")
    parser.add_argument("--matrices", help="names of matrices, with commas; default all")
    parser.add_argument("--rows", type=int, default=262_144, help='rows of "stack"')
    parser.add_argument(
        "--sklearn-rows", type=int, default=262_144, help="at most, for scikit-learn and ours beside it"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each, of which the median is taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the table there as well")
    parser.add_argument("--quick", action="store_true", help="a tenth of the stack, one seed")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.sklearn_rows, args.seeds = args.rows // 10, args.sklearn_rows // 40, 1
    torch.set_num_threads(args.threads)
    learn_dictionary(torch.randn(5000, 9) * SCALE, 9)  # compiles

    matrices = matrices_of(args)
    print(f"{args.threads} threads, load at the start {os.getloadavg()[0]:.1f}, medians of {args.repeats}; times in ms")
    print("objective: ours against theirs, both with exact codes in float64; below 0 is better")
    print(f"{'counterpart':<12}{'matrix':<22}{'rows':>7}{'m':>4}{'l':>7}{'seed':>5}{'theirs':>9}{'ours':>8}", end="")
    print(f"{'times':>7}{'objective':>11}{'rounds':>8}")
    lines = []
    for counterpart in COUNTERPART:
        if args.only in (None, counterpart):
            for name, rows in matrices.items():
                n_seeds = args.seeds
                if counterpart == "sklearn":
                    rows, n_seeds = rows[: args.sklearn_rows], 1
                for n_atoms, penalty in SETTINGS:
                    for seed in range(n_seeds):
                        lines.append(compare(counterpart, name, rows, n_atoms, penalty, seed, args))
                    summarise(lines[-n_seeds:])
    if args.json:
        args.json.write_text(json.dumps(lines, indent=1))


def compare(counterpart: str, name: str, rows: Tensor, n_atoms: int, penalty: float, seed: int, args) -> dict:
    """Time one case and print its line."""
    theirs, found = {"spams": spams_side, "sklearn": sklearn_side}[counterpart](
        rows, n_atoms, penalty, seed, args.threads
    )

    def ours() -> None:
        found["ours"] = learn_dictionary(rows, n_atoms, l1_penalty=penalty, seed=seed)

    # scikit-learn takes seconds at least: once is enough
    repeats = args.repeats if counterpart == "spams" else 1
    theirs_ms, ours_ms = timed_in_turn([theirs, ours], repeats)
    if counterpart == "sklearn":
        (ours_ms,) = timed_in_turn([ours], args.repeats)
    value = exact_objective(rows, found["ours"].atoms, penalty)
    reference = exact_objective(rows, torch.from_numpy(np.ascontiguousarray(found["theirs"])), penalty)
    line = {
        "counterpart": COUNTERPART[counterpart],
        "matrix": name,
        "rows": len(rows),
        "atoms": n_atoms,
        "l1_penalty": penalty,
        "seed": seed,
        "theirs_ms": theirs_ms,
        "ours_ms": ours_ms,
        "times_faster": theirs_ms / ours_ms,
        "objective": value / reference - 1,
        "rounds": found["ours"].rounds,
    }
    print(f"{counterpart:<12}{name:<22}{len(rows):>7}{n_atoms:>4}{penalty:>7g}{seed:>5}{theirs_ms:>9.0f}", end="")
    print(
        f"{ours_ms:>8.1f}{theirs_ms / ours_ms:>7.1f}{100 * line['objective']:>+10.2f}%{line['rounds']:>8}", flush=True
    )
    return line


def summarise(lines: list[dict]) -> None:
    times = statistics.median(line["times_faster"] for line in lines)
    print(
        f"{'':<57}median of seeds: {times:6.1f} times, worst objective {100 * max(x['objective'] for x in lines):+.2f}%"
    )


def spams_side(rows: Tensor, n_atoms: int, penalty: float, seed: int, threads: int) -> tuple[Callable[[], None], dict]:
    """A call that learns and codes with spams, and where it leaves its atoms; the layout it wants is made before."""
    columns, found = np.asfortranarray(rows.numpy().T), {}
    start = np.asfortranarray(random_rows(rows, n_atoms, np.random.default_rng(seed)).numpy().T)
    settings = {"lambda1": penalty, "mode": 2, "numThreads": threads}

    def run() -> None:
        atoms = spams.trainDL(columns, D=start, iter=BATCHES, batchsize=512, verbose=False, **settings)
        spams.lasso(columns, D=atoms, **settings)
        found["theirs"] = atoms.T

    return run, found


def sklearn_side(
    rows: Tensor, n_atoms: int, penalty: float, seed: int, threads: int
) -> tuple[Callable[[], None], dict]:
    """The same with scikit-learn; its transform is Lasso's coordinate descent, whose penalty it divides by itself."""
    data, found = rows.double().numpy(), {}
    start = random_rows(rows.double(), n_atoms, np.random.default_rng(seed)).numpy()

    def run() -> None:
        with warnings.catch_warnings(), threadpool_limits(threads):
            warnings.simplefilter("ignore", SklearnConvergenceWarning)
            learner = MiniBatchDictionaryLearning(
                n_atoms,
                alpha=penalty,
                dict_init=start,
                fit_algorithm="cd",
                transform_algorithm="lasso_cd",
                transform_alpha=penalty,
                batch_size=512,
                max_iter=-(-BATCHES * 512 // len(rows)),  # passes
                tol=0.0,
                max_no_improvement=None,
                random_state=seed,
                n_jobs=threads,
            )
            learner.fit_transform(data)
        found["theirs"] = learner.components_

    return run, found


def exact_objective(rows: Tensor, atoms: Tensor, penalty: float) -> float:
    unit = torch.nn.functional.normalize(atoms.double())
    return lasso(rows.double(), unit, penalty).objective[-1]


def matrices_of(args) -> dict[str, Tensor]:
    found = {"stack": stack_rows(args.rows)} | (own_layers(args.weights) if args.weights else real_layers())
    if args.matrices:
        found = {name: found[name] for name in args.matrices.split(",")}
    return found


def real_layers() -> dict[str, Tensor]:
    depthwise = torch.cat([w.flatten(1) for w in weights() if w.shape[1:] == (1, 3, 3)])
    return {name: pointwise_rows(3, wanted) for name, wanted in LAYERS.items()} | {"depthwise": depthwise}


def own_layers(path: Path) -> dict[str, Tensor]:
    kernels = {name: w for name, w in load_file(path).items() if w.ndim == 4 and w.shape[2:] == (3, 3)}
    largest = sorted(kernels, key=lambda name: kernels[name].numel(), reverse=True)[:3]
    return {name.removesuffix(".weight"): scaled(kernels[name].reshape(-1, 9)) for name in largest}


def scaled(rows: Tensor) -> Tensor:
    return (rows * (SCALE / rows.std())).contiguous()


if __name__ == "__main__":
    warnings.simplefilter("default")
    main()
