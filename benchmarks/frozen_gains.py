"""What ImageNet's batch-norm statistics are worth to each method: runs of `frozen` beside those of `networks`.

Test accuracy in %, the same networks, data sets and seeds in both; a task is a network on a data set. Prints the table
of docs/results.md. The learning rates differ too: each ablation has those that were chosen for its statistics.

    python benchmarks/frozen_gains.py
"""

from pathlib import Path

import pandas as pd

EMBEDDED = Path(__file__).parent.parent / "reports" / "embedded"
NAMES = {
    ("linear", False): "head alone",
    ("filter-subspace", False): "atoms of spatial kernels",
    ("filter-subspace", True): "atoms with blocks",
    ("lora-loralib", False): "LoRA",
    ("full", False): "full tuning",
}
TASK = ["model", "data"]


def accuracies(name: str) -> pd.Series:
    """Mean test accuracy over the seeds 0 and 1 by method and task, without settings that only one ablation has."""
    runs = pd.read_csv(EMBEDDED / name / "runs.csv")
    runs = runs[runs["seed"].isin([0, 1]) & runs["expansion"].isna() & (runs["atoms"] == 9)]
    kinds = zip(runs["method"], runs["block"].notna(), strict=True)
    runs = runs.assign(kind=[NAMES[method, method == "filter-subspace" and block] for method, block in kinds])
    assert (runs.groupby(["kind", *TASK]).size() == 2).all(), f"{name}: not two seeds of each method and task"
    return 100 * runs.groupby(["kind", *TASK])["test_accuracy"].mean()


def main() -> None:
    frozen = accuracies("frozen")
    both = pd.DataFrame({"recomputed": accuracies("networks").reindex(frozen.index), "frozen": frozen})
    assert both.notna().all(axis=None), "a task of `frozen` is not in `networks`"
    both["gain"] = both["frozen"] - both["recomputed"]
    print("| | recomputed | frozen | gain of a task |\n|---|---|---|---|")
    for kind in NAMES.values():
        rows = both.loc[kind]
        means = " | ".join(f"{rows[column].mean():.1f}" for column in ("recomputed", "frozen"))
        low, high = (
            f"{value:.1f}".replace("-", "\N{MINUS SIGN}") for value in (rows["gain"].min(), rows["gain"].max())
        )
        print(f"| {kind} | {means} | {low} to {high} |")


if __name__ == "__main__":
    main()
