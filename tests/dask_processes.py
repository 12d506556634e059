"""A Dask scheduler and its workers on this machine, each in a process of its own."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from distributed import Client


def start_cluster(
    folder: Path,
    start: Callable[..., subprocess.Popen[bytes]],
    *,
    workers: int = 2,
    threads: int = 1,
    preload: Path | None = None,
) -> tuple[list[subprocess.Popen[bytes]], str]:
    """The processes, the scheduler first, and its address.

    ``start`` runs a module of Python with these arguments; ``preload`` is a file that each worker imports.
    """
    file = folder / "scheduler.json"
    shared = ("--scheduler-file", str(file), "--no-dashboard")
    processes = [start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *shared)]
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker = ("distributed.cli.dask_worker", "--nthreads", str(threads), "--no-nanny", "--memory-limit", "0", *shared)
    worker += () if preload is None else ("--preload", str(preload))
    processes += [start(*worker) for _ in range(workers)]
    address = json.loads(file.read_text())["address"]
    with Client(address) as client:  # a run's share of the cores is that of the workers there are when it is handed out
        client.wait_for_workers(workers, timeout=120)
    return processes, address
