"""The explorer on a layer of 512 x 512 kernels of 3 x 3: the first figure in a fresh kernel, and moves of its controls.

A first figure counts from the cell that imports torch and filtersub to the output with figure and widgets; one kernel
before those that count has compiled what has to be compiled. A move counts from the new value of a control (m, the
penalty, the solver) to all that the panel shows: figure, kernels, codes of one, recipe. Both in seconds of the
processor, which a busy machine changes less, and of the clock. Beside them the same layer decomposed in full, which is
what the look's sample and few rounds save.

    python benchmarks/explore.py [--repeats 5] [--kernels 3] [--no-full]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Callable

import torch
from jupyter_client.manager import start_new_kernel
from torch import nn

from filtersub.explore import SAMPLE_ROWS, Explorer
from filtersub.explore_widgets import Board, Panel

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
    manager, client = start_new_kernel(stderr=subprocess.DEVNULL)
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


def timed(move: Callable[[], object]) -> tuple[float, float]:
    """(seconds of the processor, of the clock)."""
    began, busy = time.perf_counter(), time.process_time()
    move()
    return time.process_time() - busy, time.perf_counter() - began


def moves(panel: Panel, solver: str, repeats: int) -> dict[str, tuple[float, float]]:
    """Medians of moves by what is moved; each asks for a setting that the panel did not show before."""
    taken: dict[str, list[tuple[float, float]]] = {"m": [], "penalty": [], "solver": []}
    others = [name for name in SAMPLE_ROWS if name != solver]
    for number in range(repeats):
        panel.solver.value = others[number % len(others)]
        taken["solver"].append(timed(lambda: setattr(panel.solver, "value", solver)))
        taken["m"].append(timed(lambda number=number: setattr(panel.atoms, "value", 9 + number % 16)))
        penalty = 2e-3 * 1.26 ** (number % 16)
        taken["penalty"].append(timed(lambda penalty=penalty: setattr(panel.l1_penalty, "value", penalty)))
    return {name: tuple(map(statistics.median, zip(*of, strict=True))) for name, of in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kernels", type=int, default=3, help="fresh kernels, beside the one that compiles")
    parser.add_argument("--no-full", action="store_true", help="leave out the whole layer, which takes the longest")
    options = parser.parse_args()
    for number in range(options.kernels + 1):
        clock, busy, of_torch = first_figure()
        of_all = f"{busy:.2f} s of the processor ({of_torch:.2f} s import torch)"
        print(f"{f'fresh kernel {number}' if number else 'not counted'}: {clock:.2f} s, {of_all}")
    torch.manual_seed(0)
    explorer = Explorer(nn.Sequential(nn.Conv2d(512, 512, 3)))
    (panel,) = Board([(explorer, explorer.look("0", atoms=8))]).panels
    for solver in SAMPLE_ROWS:  # compiles, and draws for the first time
        panel.solver.value = solver
    print(f"{torch.get_num_threads()} threads, medians of {options.repeats}; seconds of the processor (of the clock)")
    print("| solver | new m | new penalty | from another solver | in full |\n|---|---|---|---|---|")
    for solver in SAMPLE_ROWS:
        cells = [f"{busy:.3f} ({clock:.3f})" for busy, clock in moves(panel, solver, options.repeats).values()]
        in_full = ""
        if solver != "fista" and not options.no_full:
            busy, clock = timed(lambda: explorer.look("0", atoms=9, solver=solver, every_kernel=True))  # noqa: B023
            in_full = f"{busy:.2f} ({clock:.2f})"
        print(f"| {solver} | {' | '.join(cells)} | {in_full} |")


if __name__ == "__main__":
    main()
