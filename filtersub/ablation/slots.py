"""Where runs are handed to: a Dask client of this machine or of a scheduler, and the threads that each worker has."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from ..errors import FiltersubError
from .run_slot import cores, visible_gpus


def checked_workers(workers: int | None) -> int:
    """Notebooks at once on this machine: as asked, else one a GPU, else one a core.

    Raises FiltersubError for anything but a positive integer, and for more than there are GPUs where there are any.
    """
    gpus = len(visible_gpus())
    if workers is None:
        return gpus or cores()
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise FiltersubError(f"workers must be a positive integer, got {workers!r}")
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
    with (
        patient,
        LocalCluster(**local, **nowhere) as cluster,
        Client(cluster) as client,
    ):
        yield client


def threads_of_workers(client: Any) -> dict[str, int]:
    """By address, the threads that a run on each Dask worker gets: its cores over the slots of all that share them."""
    slots = {address: info["nthreads"] for address, info in client.scheduler_info(n_workers=-1)["workers"].items()}
    return share_cores({address: (*where, slots.get(address, 1)) for address, where in client.run(_place).items()})


def share_cores(places: dict[str, tuple[str, frozenset[int], int]]) -> dict[str, int]:
    """Threads of a run by worker, from each worker's (host, its cores, its slots).

    Workers of one host whose cores overlap share them, so that all slots together never have more threads than cores
    (but for one each).

    >>> both = frozenset({0, 1, 2, 3})
    >>> share_cores({"a": ("host", both, 1), "b": ("host", both, 1), "c": ("other", both, 2)})
    {'a': 2, 'b': 2, 'c': 2}
    """
    shares = {}
    for address, (host, own, _) in places.items():
        rivals = sum(slots for there, theirs, slots in places.values() if there == host and theirs & own)
        shares[address] = max(1, len(own) // rivals)
    return shares


def _place() -> tuple[str, frozenset[int]]:
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(cores())
    return socket.gethostname(), frozenset(own)
