"""Where runs are handed to: a Dask client of this machine or of a scheduler, and the threads that each worker has."""

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import FiltersubError
from ..settings import MOST_WORKERS, check_whole
from ..version import package_version
from .run_slot import cores, visible_gpus

_PATIENCE = 10.0  # seconds in which a file that was just written shows on other machines


def checked_workers(workers: int | None) -> int:
    """Notebooks at once on this machine: as asked, else one a GPU, else one a core.

    Raises FiltersubError for anything but a positive integer, and for more than there are GPUs where there are any.
    """
    gpus = len(visible_gpus())
    if workers is None:
        return gpus or cores()
    check_whole("workers", workers, 1, MOST_WORKERS)
    if gpus and workers > gpus:
        raise FiltersubError(
            f"{workers} workers for {gpus} visible GPU{'s' * (gpus > 1)}: each worker has one of its own; ask for at "
            "most that many, or set CUDA_VISIBLE_DEVICES= (to nothing) to run on the CPU"
        )
    return workers


@contextlib.contextmanager
def open_slots(workers: int, scheduler: str | None) -> Iterator[Any]:
    """A Dask client: of the scheduler given, or of threads of this process, each a slot for one child process."""
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="20s")
        except (OSError, ValueError) as error:
            raise FiltersubError(f"no Dask scheduler answers at {scheduler!r}: {error}") from None
        with client:
            yield client
        return
    local = {"processes": False, "n_workers": 1, "threads_per_worker": workers, "memory_limit": 0, "silence_logs": 50}
    # None would still serve Dask's pages, to the whole network and on a port that may be taken.
    nowhere = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    # A worker of this process has not died because it was silent: a laptop that sleeps for longer than Dask's limit
    # would come back to a batch without a worker, which waits for ever.
    patient = dask.config.set({"distributed.scheduler.worker-ttl": None})
    with patient, LocalCluster(**local, **nowhere) as cluster, Client(cluster) as client:
        yield client


def check_workers(client: Any, plan: Path, notebooks: Iterable[Path]) -> None:
    """FiltersubError, naming the hosts, where Dask workers do not see this plan file or the notebooks under the same
    paths, or have another version of the package."""
    digest = hashlib.sha256(plan.read_bytes()).hexdigest()
    asked = str(plan), digest, [str(path) for path in notebooks]
    found = client.run(_seen_there, *asked, on_error="return")
    odd: dict[str, list[str]] = {}
    for address, seen in found.items():
        host, version, unseen = (address, None, repr(seen)) if isinstance(seen, BaseException) else seen
        if version is None:
            odd.setdefault(f"cannot answer ({unseen}): each needs the same Python environment", []).append(host)
        elif unseen is not None:
            each = "each needs the output folder and the notebooks, by a network file system, under the same paths"
            odd.setdefault(f"do not see {unseen}: {each}", []).append(host)
        elif version != package_version():
            odd.setdefault(f"have filtersub {version}, not {package_version()}: install the same", []).append(host)
    if odd:
        raise FiltersubError("; ".join(f"Dask workers on {', '.join(sorted(set(h)))} {why}" for why, h in odd.items()))


def _seen_there(plan: str, digest: str, notebooks: list[str]) -> tuple[str, str, str | None]:
    """On a worker: (its host, its version of the package, a path that it does not see)."""
    deadline = time.monotonic() + _PATIENCE
    while not (same := _digest(plan) == digest) and time.monotonic() < deadline:
        time.sleep(0.2)
    unseen = [str(Path(plan).parent)] if not same else [name for name in notebooks if not Path(name).is_file()]
    return socket.gethostname(), package_version(), next(iter(unseen), None)


def _digest(path: str) -> str | None:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def threads_of_workers(client: Any) -> dict[str, int]:
    """By address, the threads that a run on each Dask worker gets: its cores over the slots of all that share them."""
    slots = {address: info["nthreads"] for address, info in client.scheduler_info(n_workers=-1)["workers"].items()}
    return share_cores({address: (*where, slots.get(address, 1)) for address, where in client.run(_place).items()})


def share_cores(places: dict[str, tuple[str, frozenset[int], int, int]]) -> dict[str, int]:
    """Threads of a run by worker, from each worker's (host, the cores it may be on, how many at once, its slots).

    Workers of one host whose cores overlap share them, so that all slots together never have more threads than cores
    (but for one each).

    >>> four = frozenset({0, 1, 2, 3})
    >>> share_cores({"a": ("host", four, 4, 1), "b": ("host", four, 4, 1), "c": ("other", four, 3, 1)})
    {'a': 2, 'b': 2, 'c': 3}
    """
    shares = {}
    for address, (host, own, count, _) in places.items():
        rivals = sum(slots for there, theirs, _, slots in places.values() if there == host and theirs & own)
        shares[address] = max(1, count // rivals)
    return shares


def _place() -> tuple[str, frozenset[int], int]:
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(cores())
    return socket.gethostname(), frozenset(own), cores()
