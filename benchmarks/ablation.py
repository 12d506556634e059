"""A batch of equal notebooks: papermill one after another against two workers, cold and warm; and what a start costs.

Each notebook imports what the tuning notebooks import, computes for --work seconds, and writes a record. Everything
happens in one run, on the same notebook; the ratio is of wall times.

    python benchmarks/ablation.py [--notebooks 6] [--work 1.0] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

CAPS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
PARAMETERS = 'work = 1.0\nseed = 0\nout_dir = "."'
CODE = """
import time
import matplotlib.pyplot as plt
import pandas as pd
import torch
from filtersub import plots
from filtersub.experiment import TuneSettings
from filtersub.records import Record, describe_environment

started, x = time.perf_counter(), torch.randn(256, 256)
while time.perf_counter() - started < work:
    x = torch.tanh(x @ x)
counts = {"trainable": 1, "head": 1, "total": 2}
Record("tuning", "work", {}, seed, {}, counts, {"wall_seconds": work}, describe_environment()).write(out_dir)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notebooks", type=int, default=6)
    parser.add_argument("--work", type=float, default=1.0, help="seconds that each one computes")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ.update(dict.fromkeys(CAPS, "1"))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), args.notebooks, args.work)
    if args.json:
        json.dump(found, sys.stdout, indent=1)
        return
    print(f"{args.notebooks} notebooks of {args.work:g} s of work each")
    print(f"{'':<34}{'seconds':>9}{'of papermill':>14}")
    for name, seconds in found.items():
        print(f"{name:<34}{seconds:>9.1f}{seconds / found['papermill, one after another']:>14.2f}")


def measure(folder: Path, notebooks: int, work: float) -> dict[str, float]:
    from filtersub.ablation import run_ablation
    from filtersub.ablation.spec import parse_spec

    notebook = write_notebook(folder / "work.ipynb")
    stage = {"notebook": str(notebook), "parameters": {"work": work}, "seeds": list(range(notebooks))}
    spec = parse_spec({"name": "b", "title": "Batch", "question": "How long?", "stages": [stage]})
    found = {"papermill, one after another": papermill_alone(notebook, folder, notebooks, work)}
    for name, workers, warm in (
        ("one worker, cold", 1, False),
        ("one worker, warm", 1, True),
        ("two workers, cold", 2, False),
        ("two workers, warm", 2, True),
    ):
        started = time.perf_counter()
        with redirect_stdout(sys.stderr):
            summary = run_ablation(spec, folder / name.replace(", ", "-"), workers=workers, warm=warm)
        assert len(summary.done) == notebooks, summary
        found[name] = time.perf_counter() - started
    return found


def papermill_alone(notebook: Path, folder: Path, notebooks: int, work: float) -> float:
    """What a loop over papermill takes, its own import included once."""
    started = time.perf_counter()
    import papermill

    for seed in range(notebooks):
        out = folder / f"alone{seed}"
        out.mkdir()
        passed = {"work": work, "seed": seed, "out_dir": str(out)}
        papermill.execute_notebook(notebook, out / "notebook.ipynb", passed, progress_bar=False)
        assert (out / "record.json").is_file()
    return time.perf_counter() - started


def write_notebook(path: Path) -> Path:
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), new_code_cell(CODE.strip())]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


if __name__ == "__main__":
    main()
