"""Learning rates where batch norm keeps ImageNet's statistics: which one each method should start from.

EfficientNet-Lite0, 48 pixels, 6 epochs (72 steps), batch norm frozen. Each trial trains on 300 images and is judged on
the validation images; a row is the mean over the data sets and seeds. docs/data.md says how to get the data sets
beside the digits; trials that are in the folder are read back. ``--model`` and ``--weights`` name another
network, such as one without batch norm.

    python benchmarks/frozen_rates.py FOLDER [--sets digits,elpv,emoji,fashion-mnist] [--seeds 0,1] [--only "LoRA;full"]
        [--model mtcnn_onet] [--weights FILE]
"""

import argparse
import os
import statistics
from itertools import product
from pathlib import Path
from typing import Any

from filtersub.decomposition.cache import DECOMPOSITIONS
from filtersub.experiment import TuneSettings, tune

TASK: dict[str, Any] = {"n_train": 300, "epochs": 6, "batch_size": 25, "image_size": 48, "evaluation_interval": 6}
SHARED: dict[str, Any] = {"validation": True, "batch_norm": "frozen"}
ATOMS: dict[str, Any] = {"method": "filter-subspace", "atoms": 9, "solver": "pca"}
#: name -> settings, rates, rates of the head
METHODS: dict[str, tuple[dict[str, Any], tuple[float, ...], tuple[float, ...]]] = {
    "head alone": ({"method": "linear"}, (0.001,), (0.001, 0.003, 0.01, 0.03)),
    "setting 1": (ATOMS, (0.001, 0.003, 0.01, 0.03), (0.003,)),
    "setting 1, m = 3": ({**ATOMS, "atoms": 3}, (0.001, 0.003, 0.01), (0.003,)),
    "setting 2": ({**ATOMS, "expansion": 4}, (0.0003, 0.001, 0.003, 0.01), (0.003,)),
    "setting 3, 2 x 2": ({**ATOMS, "block": 2}, (0.001, 0.003, 0.01), (0.003,)),
    "setting 3, 4 x 4": ({**ATOMS, "block": 4}, (0.001, 0.003, 0.01), (0.003,)),
    "LoRA": ({"method": "lora-loralib"}, (0.0003, 0.001, 0.003), (0.003,)),
    "full": ({"method": "full"}, (0.0001, 0.0003, 0.001, 0.003), (0.003,)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", default="digits,elpv,emoji,fashion-mnist")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--only", default="", help="methods whose name has one of these in it, separated by semicolons")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--weights", help="file of the network's weights, where no package holds them")
    args = parser.parse_args()
    os.environ.setdefault(DECOMPOSITIONS, str(args.folder / "decompositions"))
    sets, seeds = args.sets.split(","), [int(seed) for seed in args.seeds.split(",")]
    print(f"| method | rate | rate of the head | mean | {' | '.join(sets)} |\n|{'---|' * (4 + len(sets))}", flush=True)
    for name, (own, rates, head_rates) in METHODS.items():
        for rate, head_rate in product(rates, head_rates) if any(part in name for part in args.only.split(";")) else ():
            found = []
            for data in sets:
                trials = []
                for seed in seeds:
                    given = {**TASK, **SHARED, **own, "data": data, "seed": seed}
                    given |= {"model": args.model, "weights": args.weights}
                    settings = TuneSettings(**given, learning_rate=rate, head_learning_rate=head_rate)
                    out = (
                        args.folder / name.replace(" ", "-").replace(",", "") / f"{data}-{rate:g}-{head_rate:g}-{seed}"
                    )
                    trials.append(100 * tune(settings, out, quiet=True).metrics["validation_accuracy"])
                found.append(statistics.mean(trials))
            cells = " | ".join(f"{value:.1f}" for value in [statistics.mean(found), *found])
            print(f"| {name} | {rate:g} | {head_rate:g} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
