"""A move of a slider in the explorer: from the setting to the figure, for a layer of 512 x 512 kernels of 3 x 3.

Beside it the same layer decomposed in full, which is what the look's sample and few rounds save; prints the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

from filtersub.explore import SAMPLE_ROWS, Explorer, look_html


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    explorer = Explorer(nn.Sequential(nn.Conv2d(512, 512, 3)))
    print(f"{torch.get_num_threads()} threads, medians of {options.repeats} moves, m going from 8 up")
    print(f"{'solver':8s} {'look s':>8s} {'figure s':>9s} {'both s':>8s} {'in full s':>10s} {'times faster':>13s}")
    for solver in SAMPLE_ROWS:
        explorer.look("0", atoms=8, solver=solver)  # what opening the notebook has done
        looks, figures = [], []
        for move in range(options.repeats):
            began = time.perf_counter()
            found = explorer.look("0", atoms=9 + move, solver=solver)
            looks.append(time.perf_counter() - began)
            look_html(found)
            figures.append(time.perf_counter() - began - looks[-1])
        began = time.perf_counter()
        full = explorer.look("0", atoms=9, solver=solver, every_kernel=True) if solver != "fista" else None
        seconds = time.perf_counter() - began
        both = statistics.median(a + b for a, b in zip(looks, figures, strict=True))
        row = f"{solver:8s} {statistics.median(looks):8.3f} {statistics.median(figures):9.3f} {both:8.3f}"
        print(row + (f" {seconds:10.2f} {seconds / both:13.1f}" if full is not None else ""))


if __name__ == "__main__":
    main()
