"""The explorer on a layer of 512 x 512 kernels of 3 x 3: the first figure in a fresh kernel, and a move of a slider.

A first figure counts from the cell that imports torch and filtersub to the output with figure and widgets. A move
counts from the slider's new m to all that the panel shows: figure, kernels, codes of one, recipe. Both in seconds of
the processor, which a busy machine changes less, and of the clock. Beside a move the same layer decomposed in full,
which is what the look's sample and few rounds save; prints the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from jupyter_client.manager import start_new_kernel
from torch import nn

from filtersub.explore import SAMPLE_ROWS, Explorer, look_html
from filtersub.explore_widgets import Board

CELL = """
import time
_began, _busy = time.perf_counter(), time.process_time()
import torch
_torch = time.process_time() - _busy
from filtersub import show_explorer
from filtersub.explore import Explorer
torch.manual_seed(0)
layer = torch.nn.Sequential(torch.nn.Conv2d(512, 512, 3))
show_explorer(Explorer(layer))
print(time.perf_counter() - _began, time.process_time() - _busy, _torch)
"""


def first_figure() -> tuple[float, float, float]:
    """(seconds of the clock, of the processor, of the processor for importing torch) in a kernel of its own."""
    manager, client = start_new_kernel()
    shown, said = [], []

    def told(message: dict) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "display_data" and "application/vnd.jupyter.widget-view+json" in content["data"]:
            shown.append(message)
        if kind == "stream" and content["name"] == "stdout":
            said.append(content["text"])

    try:
        reply = client.execute_interactive(CELL, output_hook=told, timeout=600)
        assert reply["content"]["status"] == "ok", reply["content"]
        assert shown, "the cell showed no widgets"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    clock, busy, of_torch = map(float, "".join(said).splitlines()[-1].split())
    return clock, busy, of_torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kernels", type=int, default=3, help="fresh kernels; the first one may compile")
    parser.add_argument("--no-full", action="store_true", help="leave out the whole layer, which takes the longest")
    options = parser.parse_args()
    for number in range(options.kernels):
        clock, busy, of_torch = first_figure()
        of_all = f"{busy:.2f} s of the processor ({of_torch:.2f} s import torch)"
        print(f"fresh kernel {number + 1}: {clock:.2f} s, {of_all}")
    torch.manual_seed(0)
    explorer = Explorer(nn.Sequential(nn.Conv2d(512, 512, 3)))
    print(f"{torch.get_num_threads()} threads, medians of {options.repeats} moves, m going from 8 up")
    columns = ("look", "figure", "move", "move by the clock", "in full")
    print(f"{'solver':8s}" + "".join(f"{name + ' s':>20s}" for name in columns) + f"{'times faster':>14s}")
    for solver in SAMPLE_ROWS:
        begin = explorer.look("0", atoms=8, solver=solver)  # what opening the notebook has done
        (panel,) = Board([(explorer, begin)]).panels
        taken: dict[str, list[float]] = {name: [] for name in columns[:4]}
        for move in range(options.repeats):
            busy = time.process_time()
            found = explorer.look("0", atoms=9 + move, solver=solver)
            looked = time.process_time()
            look_html(found)
            taken["look"].append(looked - busy)
            taken["figure"].append(time.process_time() - looked)
            panel.atoms.value = 8 + move % 2  # where it stood, then on: every move below changes m
            began, busy = time.perf_counter(), time.process_time()
            panel.atoms.value = 10 + move
            taken["move"].append(time.process_time() - busy)
            taken["move by the clock"].append(time.perf_counter() - began)
        medians = [statistics.median(taken[name]) for name in columns[:4]]
        row = f"{solver:8s}" + "".join(f"{value:20.3f}" for value in medians)
        if solver != "fista" and not options.no_full:
            began = time.perf_counter()
            explorer.look("0", atoms=9, solver=solver, every_kernel=True)
            seconds = time.perf_counter() - began
            row += f"{seconds:20.2f}{seconds / medians[3]:14.1f}"
        print(row)


if __name__ == "__main__":
    main()
