"""The page of a large report: its size, and how long headless Chromium takes to open it.

The records are synthetic: settings of the recipe that differ in m, m_1, blocks and the learning rate, five seeds each,
with learning curves, errors by layer and atoms before and after tuning for the layers of EfficientNet-Lite0.
"load" is the time to the page's load event, "usable" to its scripts being ready. "processor" is what the page's main
thread computed until then, which neighbours on a shared machine change little, and "charts" what drawing every chart
takes on top, that of atoms among them, which happens as a reader scrolls to them.

    python benchmarks/report_page.py [--runs 500] [--epochs 30] [--repeats 5] [--out FOLDER] [--against CHECKOUT]

With --against, the page that another checkout makes of the same records is opened in turns with this one's.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from filtersub.experiment import TuneSettings
from filtersub.kernel_layout import blocked_layout
from filtersub.parameters.outline import packaged_outline
from filtersub.records import Record, describe_environment

HERE = Path(__file__).resolve().parents[1]
SEEDS = 5
_MOST_ATOMS = 16  # of a layer in a table, as experiment.layer_tables has them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where records and page are kept; default a folder that is deleted")
    parser.add_argument("--against", type=Path, help="another checkout, the side before")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        root = args.out or Path(made)
        write_records(root, args.runs, args.epochs)
        sides = {"now": HERE} if args.against is None else {"before": args.against.resolve(), "now": HERE}
        pages = {side: write_page(root, checkout, side) for side, checkout in sides.items()}
        found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _, (side, page) in itertools.product(range(args.repeats), pages.items()):
            found[side].append(opening(page))
        print(f"{args.runs} runs of {args.epochs} epochs, medians of {args.repeats} openings")
        for side, page in pages.items():
            times = {name: statistics.median(one[name] for one in found[side]) for name in found[side][0]}
            words = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items())
            print(f"{side}: {page.stat().st_size / 1e6:.2f} MB, {words}")


def write_records(root: Path, runs: int, epochs: int) -> None:
    """``runs`` records of tuning with their learning curves below ``root``/runs."""
    environment, random = describe_environment(), np.random.default_rng(0)
    grid = itertools.product((0.01, 0.02, 0.03, 0.05, 0.08), (6, 9, 12, 16), (None, 3, 4, 5, 6), (None, 4))
    for number in range(runs):
        if number % SEEDS == 0:
            rate, atoms, expansion, block = next(grid)
        settings = TuneSettings(
            atoms=atoms, expansion=expansion, block=block, learning_rate=rate, epochs=epochs, seed=number % SEEDS
        )
        best = 0.7 + 0.02 * atoms**0.5 + 0.05 * (block is not None) + random.normal(0, 0.01)
        epoch = np.arange(1, epochs + 1)
        accuracy = (best * (1 - np.exp(-epoch / 4)) + random.normal(0, 0.005, epochs)).clip(0, 1)
        loss = 2.3 * np.exp(-epoch / 5) + random.normal(0, 0.02, epochs)
        columns = {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy, "test_loss": loss + 0.1}
        history = pd.DataFrame({**columns, "test_accuracy": accuracy - 0.02, "learning_rate": rate, "seconds": 9.8})
        trained = 700 * atoms + 90 * atoms * (expansion or 0) + 40_000 * (block is not None)
        measures = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
        Record(
            kind="tuning",
            label=settings.label,
            parameters=settings.parameters,
            seed=settings.seed,
            metrics={name: float(history[name].iloc[-1]) for name in measures},
            counts={"trainable": trained, "head": 12_810, "total": 3_383_834, "saved": trained + 60_000},
            cost={"wall_seconds": 120.5, "seconds_per_step": 0.51 + random.normal(0, 0.01), "peak_memory_bytes": 1.2e9},
            environment=environment,
        ).write(root / "runs" / f"run-{number:04d}", history=history, **layer_tables(settings, random))


def layer_tables(settings: TuneSettings, random: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Tables ``layers`` and ``atoms`` as a run writes them, of random atoms."""
    layers, atoms = [], []
    for layout in packaged_outline("efficientnet_lite0").layers:
        taken = blocked_layout(layout, settings.recipe.block)
        if taken is None:
            continue
        count = min(settings.recipe.atoms * taken.block[0] * taken.block[1], taken.n_rows)
        side = round(taken.patch_size**0.5)
        before = random.standard_normal((min(count, _MOST_ATOMS), side * side))
        before /= np.linalg.norm(before, axis=1, keepdims=True)
        after = before + random.normal(0, 0.02, before.shape)
        norms = np.linalg.norm(after - before, axis=1)
        shape = {"kind": taken.kind, "shape": "x".join(map(str, taken.shape)), "block": "x".join(map(str, taken.block))}
        moved = {"mean_change": norms.mean(), "largest_change": norms.max(), "weight_change": norms.mean() / 2}
        error = {"relative_error": random.uniform(0.01, 0.3), "density": 0.5}
        layers.append({"layer": layout.name, **shape, "atoms": count, **error, **moved})
        for number, sides in enumerate(zip(before, after, strict=True), start=1):
            one, other = (" ".join(f"{value:.4g}" for value in picture) for picture in sides)
            size = {"height": side, "width": side}
            atoms.append({"layer": layout.name, "atom": number, **size, "before": one, "after": other})
    return {"layers": pd.DataFrame(layers), "atoms": pd.DataFrame(atoms)}


def write_page(root: Path, checkout: Path, side: str) -> Path:
    """The page that a checkout makes of the records, under a name of its own."""
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run([sys.executable, "-m", "filtersub", "report", str(root)], check=True, env=environment, cwd=checkout)
    print(f"{side}: written in {time.perf_counter() - began:.1f} s")
    return Path(shutil.copy(root / "index.html", root / f"{side}.html"))


def opening(page: Path) -> dict[str, float]:
    """Seconds of one opening in a fresh browser."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        sys.exit("needs Chromium on the PATH")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        session = opened.context.new_cdp_session(opened)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        opened.set_default_timeout(300_000)
        opened.goto(page.as_uri())
        opened.locator("#explore[data-ready]").wait_for()
        times: dict[str, Any] = opened.evaluate(
            "() => ({load: performance.getEntriesByType('navigation')[0].loadEventEnd / 1000,"
            " usable: performance.now() / 1000})"
        )
        times["processor"] = computed(session)
        for chart in opened.locator("#explore .chart").all():
            chart.scroll_into_view_if_needed()
            chart.locator("canvas").wait_for()
        times["charts"] = computed(session) - times["processor"]
        browser.close()
    return times


def computed(session: Any) -> float:
    """Processor seconds of the page's main thread so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


if __name__ == "__main__":
    main()
