"""Time and memory of the exact LASSO against the number of rows: d = 9, m = 9, float32, cold.

Each size runs in a process of its own. Counted as memory: all that the process holds at its peak beyond what it
held once the kernels were compiled and before there were any rows, so the kernel matrix itself, the codes, and whatever
the solver needs beside them; over the size of the kernel matrix. Where codes are as large as the rows, 2 is the least.

    python benchmarks/scaling.py [--rows 10000 100000 1000000 10000000] [--repeats 3] [--threads 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

SIZE, ATOMS, PENALTY = 9, 9, 5e-3
PART = 65_536  # rows made at a time, so that making them does not need more memory than coding them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--repeats", type=int, default=3, help="timed runs, of which the median is taken")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(args.one, args.repeats, args.threads)))
        return
    found = []
    if not args.json:
        print(f"{'rows':>10}{'seconds':>10}{'ns a row':>10}{'matrix MB':>11}{'peak MB':>9}{'peak / matrix':>15}")
    for n_rows in args.rows:
        command = [sys.executable, __file__, "--one", str(n_rows)]
        command += ["--repeats", str(args.repeats), "--threads", str(args.threads)]
        one = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found.append(one)
        if not args.json:
            print(f"{n_rows:>10}{one['seconds']:>10.4f}{1e9 * one['seconds'] / n_rows:>10.0f}", end="")
            print(f"{one['matrix_bytes'] / 1e6:>11.1f}{one['peak_bytes'] / 1e6:>9.1f}", end="")
            print(f"{one['peak_bytes'] / one['matrix_bytes']:>15.2f}", flush=True)
    if args.json:
        json.dump(found, sys.stdout, indent=1)


def measure(n_rows: int, repeats: int, threads: int) -> dict[str, float]:
    import psutil
    import torch

    from filtersub.sparse_coding import lasso, warm_up

    torch.set_num_threads(threads)
    warm_up()
    generator = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(ATOMS, SIZE, generator=generator))
    lasso(torch.randn(PART, SIZE, generator=generator), atoms, PENALTY)
    before = psutil.Process().memory_info().rss
    rows = torch.empty(n_rows, SIZE)
    for part in rows.split(PART):
        part.normal_(0, 0.02, generator=generator)
    forget_peak()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = lasso(rows, atoms, PENALTY)
        seconds.append(time.perf_counter() - started)
        assert result.converged
        del result
    matrix = rows.numel() * rows.element_size()
    return {
        "rows": n_rows,
        "seconds": statistics.median(seconds),
        "matrix_bytes": matrix,
        "peak_bytes": peak() - before,
    }


def forget_peak() -> None:
    """Linux: the peak counts from now on. Elsewhere it counts from the start, which can only be more."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def peak() -> int:
    try:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
