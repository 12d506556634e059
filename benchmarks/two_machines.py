"""How far the same runs, same seeds, are apart on two machines: by rounding alone, which training makes larger.

    git show 4aaa94b:reports/embedded/networks/runs.csv > before.csv
    python benchmarks/two_machines.py before.csv reports/embedded/networks/runs.csv

Prints differences of test accuracy in points by method; runs are paired by their settings and seed.
"""

import sys

import pandas as pd

SETTINGS = ["model", "data", "method", "atoms", "block", "expansion", "learning_rate", "seed"]


def main(first: str, second: str) -> None:
    both = (pd.read_csv(path)[[*SETTINGS, "test_accuracy"]] for path in (first, second))
    runs = pd.merge(*both, on=SETTINGS, validate="one_to_one")
    runs["points"] = 100 * (runs["test_accuracy_y"] - runs["test_accuracy_x"])
    blocks, expanded = runs["block"].notna(), runs["expansion"].notna()
    runs["kind"] = runs["method"].mask(expanded, "atoms over atoms").mask(blocks, "atoms with blocks")
    print("| | runs | the same | mean size of the difference | the largest | mean |\n|---|---|---|---|---|---|")
    for kind, points in runs.groupby("kind", sort=False)["points"]:
        size = points.abs()
        row = f"{len(points)} | {(size == 0).sum()} | {size.mean():.1f} | {size.max():.1f} | {points.mean():+.1f}"
        print(f"| {kind} | {row} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
