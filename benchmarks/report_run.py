"""Where the time of one tuning run of `make report` goes; beside another checkout of this project, the ratio.

Seconds are of the processor (user and system, one thread), so that neighbours on a shared machine count little. With
--against both sides run alternately, each in a process of its own, on the settings of its own quickstart; accuracies
stand beside. The last part is the notebook and its page: a finished run is executed as a notebook, which then reads the
record.

    python benchmarks/report_run.py [--methods filter-subspace linear full] [--epochs N] [--against CHECKOUT] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parents[1]
CAPS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
PARTS = {  # what is timed, by module of the package and name; an earlier checkout has some by other names
    "model": [("experiment.run", "new_model"), ("experiment.run", "load_model")],
    "decomposition": [("experiment.run", "inject")],
    "images": [("experiment.run", "images_of"), ("experiment.run", "load_data")],
    "operations counted": [("experiment.run", "step_flops"), ("experiment.run", "try_image")],
    "steps": [("training.loop", "Loop._step"), ("training.loop", "_Run._step")],
    "batch norm": [(f"training.{file}", "recompute_batch_norm_") for file in ("classification", "loop")],
    "judging": [(f"training.{file}", "evaluate") for file in ("classification", "loop")],
    "checkpoints and record": [("training.checkpoint", "Checkpoint.keep"), ("experiment.run", "_write")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["filter-subspace", "linear", "full"])
    parser.add_argument("--epochs", type=int, help="others than the quickstart's")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--against", type=Path, help="another checkout, the side before")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one_run(json.loads(args.one))))
        return
    sides = {"now": HERE} if args.against is None else {"before": args.against.resolve(), "now": HERE}
    found = {}
    for method in args.methods:
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for _ in range(args.repeats):
            for side, folder in sides.items():
                settings = {**settings_of_quickstart(folder), "method": method}
                runs[side].append(in_process(folder, settings | ({"epochs": args.epochs} if args.epochs else {})))
        found[method] = {side: medians(of_side) for side, of_side in runs.items()}
        if not args.json:
            show(method, found[method])
    if args.json:
        json.dump(found, sys.stdout, indent=1)


def settings_of_quickstart(checkout: Path) -> dict[str, Any]:
    """Of its tuning runs, but for the method."""
    stages = yaml.safe_load((checkout / "filtersub" / "presets" / "quickstart.yaml").read_text())["stages"]
    (tuning,) = (stage for stage in stages if stage["notebook"] == "02_tuning")
    return tuning["parameters"]


def in_process(checkout: Path, settings: dict[str, Any]) -> dict[str, float]:
    environment = {**os.environ, **dict.fromkeys(CAPS, "1"), "PYTHONPATH": str(checkout)}
    command = [sys.executable, __file__, "--one", json.dumps({**settings, "checkout": str(checkout)})]
    done = subprocess.run(command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def show(method: str, sides: dict[str, dict[str, float]]) -> None:
    last = next(reversed(sides.values()))
    print(f"\n{method}: seconds of the processor")
    print(f"{'':<26}" + "".join(f"{side:>9}" for side in sides) + (f"{'ratio':>9}" if len(sides) > 1 else ""))
    for name in last:
        values = [side[name] for side in sides.values()]
        ratio = f"{values[1] / values[0]:>9.2f}" if len(values) > 1 and values[0] > 0 else ""
        form = "{:>9.4f}" if name == "test accuracy" else "{:>9.2f}"
        print(f"{name:<26}" + "".join(form.format(value) for value in values) + ratio)


def one_run(settings: dict[str, Any]) -> dict[str, float]:
    """In a process of the side's own: seconds by part, their sum, and the accuracy."""
    checkout, spent = Path(settings.pop("checkout")), defaultdict(float)
    began = time.process_time()
    import filtersub
    from filtersub.experiment import TuneSettings, tune

    assert Path(filtersub.__file__).is_relative_to(checkout), filtersub.__file__
    for part, places in PARTS.items():
        for module, name in places:
            with contextlib.suppress(ImportError, AttributeError):
                clock(spent, part, module, name)
    spent["imports"] = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "runs" / "one"
        began = time.process_time()
        record = tune(TuneSettings(**settings), out, quiet=True)
        whole = time.process_time() - began
        notebook = notebook_seconds(checkout, out, settings)
    parts = {"imports": spent.pop("imports"), **{part: spent[part] for part in PARTS}}
    parts["the rest of the run"] = whole - sum(parts[part] for part in PARTS)
    parts["notebook and page"] = notebook
    parts["sum"] = sum(parts.values())
    return {**parts, "test accuracy": record.metrics["test_accuracy"]}


def clock(spent: dict[str, float], part: str, module: str, name: str) -> None:
    """Have a function of the package add its seconds to a part."""
    home: Any = __import__(f"filtersub.{module}", fromlist=["x"])
    *owner, last = name.split(".")
    for each in owner:
        home = getattr(home, each)
    plain: Callable[..., Any] = getattr(home, last)

    @functools.wraps(plain)
    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return plain(*arguments, **options)
        finally:
            spent[part] += time.process_time() - began

    setattr(home, last, timed)


def notebook_seconds(checkout: Path, out: Path, settings: dict[str, Any]) -> float:
    """Of executing 02_tuning over the finished run and writing its page, with the imports of the two processes."""
    from filtersub.ablation.notebook_run import RUN_FILE
    from filtersub.files import write_json

    notebook = checkout / "notebooks" / "02_tuning.ipynb"
    run = {"run_id": "one", "notebook": notebook.stem, "parameters": settings, "text": ""}
    write_json(out / RUN_FILE, {**run, "passed": {**settings, "out_dir": "."}, "inputs": None, "status": "waiting"})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "filtersub.ablation.notebook_run", str(notebook), str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    code = process.wait()  # standard input stays open: its end would end the run
    process.stdin.close()
    assert code == 0, code
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
