"""An ablation on a cluster of several machines, as far as one machine can stand for them: network namespaces.

    sudo .venv/bin/python tests/cluster.py        # make cluster; Linux, as root, with ip and unshare; some minutes
    sudo .venv/bin/python tests/cluster.py --ablation networks --out FOLDER   # a real one, on the same two hosts

Each worker has a network, a host name, mounts and where it can a core of its own, joined by a bridge; the scheduler and
the command run outside. Files are shared, or hidden from one worker by an empty file system over the output folder.
Prints a table in Markdown; exit code 1 where a case ends otherwise than it should.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from filtersub.ablation.notebook_run import read_state

BRIDGE, NETWORK, PORT = "fsbridge", "10.77.0", 8799
SCHEDULER = f"tcp://{NETWORK}.1:{PORT}"
SILENT = 15  # seconds after which the scheduler takes a silent worker for dead
RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
WORK = """
import socket, time
from pathlib import Path
from filtersub.records import Record, describe_environment
with open("hosts.txt", "a") as file:
    file.write(socket.gethostname() + "\\n")
time.sleep(seconds)
counts = {"trainable": 10, "head": 5, "total": 100}
Record("tuning", f"rate={rate}", {"rate": rate}, 0, {"test_accuracy": rate}, counts, {"wall_seconds": 1.0},
       describe_environment()).write(out_dir)
"""


def ip(*arguments: object) -> None:
    subprocess.run(["ip", *map(str, arguments)], check=True, capture_output=True)


@contextmanager
def network(hosts: dict[str, int]) -> Iterator[None]:
    """A bridge on this machine, and a namespace for each host with a cable to it."""
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for host, number in hosts.items():
            ip("netns", "add", host)
            ip("link", "add", f"{host}-out", "type", "veth", "peer", "name", f"{host}-in")
            ip("link", "set", f"{host}-in", "netns", host)
            ip("link", "set", f"{host}-out", "master", BRIDGE, "up")
            ip("-n", host, "addr", "add", f"{NETWORK}.{number}/24", "dev", f"{host}-in")
            ip("-n", host, "link", "set", f"{host}-in", "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for name in hosts:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            subprocess.run(["ip", "link", "del", f"{name}-out"], capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


class Cluster:
    """A scheduler, and workers by host; ``place`` is the folder that the ablation is written below."""

    def __init__(self, place: Path) -> None:
        self.place, self.scheduler, self.workers = place, None, {}
        self.log = open(place.parent / "cluster.log", "ab")  # noqa: SIM115 (closed with this process)

    def start(self, *hosts: str, hidden: tuple[str, ...] = ()) -> None:
        """The scheduler where there is none, and these workers; from the hidden ones the files are kept."""
        if self.scheduler is None:
            own = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{SILENT}s"}
            module = ["distributed.cli.dask_scheduler", "--host", f"{NETWORK}.1", "--port", str(PORT), "--no-dashboard"]
            self.scheduler = self._process([sys.executable, "-m", *module], own)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", SCHEDULER, "--nthreads", "1", "--no-nanny"]
        worker += ["--no-dashboard"]
        cores = sorted(os.sched_getaffinity(0))
        for host in hosts:
            core = cores[len(self.workers) % len(cores)]
            cover = f"mount -t tmpfs none {self.place} && " if host in hidden else ""
            shell = f'hostname {host} && {cover}exec "$@"'
            inside = ["unshare", "--mount", "--uts", "sh", "-c", shell, "sh", "taskset", "-c", str(core), *worker]
            self.workers[host] = self._process(["ip", "netns", "exec", host, *inside], {})

    def _process(self, command: list[str], own: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env={**os.environ, **own}, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def kill(self, host: str | None = None) -> None:
        """A worker, or the scheduler, at once."""
        process = self.scheduler if host is None else self.workers.pop(host)
        if host is None:
            self.scheduler = None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def wait_for_workers(self, count: int) -> None:
        from distributed import Client

        with Client(SCHEDULER, timeout="60s") as client:
            client.wait_for_workers(count, timeout=120)

    def close(self) -> None:
        for host in list(self.workers):
            self.kill(host)
        self.kill()


class Batch:
    """One ablation of notebooks that sleep, on the cluster's scheduler."""

    def __init__(self, place: Path, seconds: float) -> None:
        self.out = place / "out"
        first = new_code_cell(f"rate = 0.5\nseconds = {seconds}\nout_dir = '.'", metadata={"tags": ["parameters"]})
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        book = new_notebook(cells=[first, new_code_cell(WORK)], metadata={"kernelspec": kernel})
        nbformat.write(book, place.parent / "w.ipynb")
        stage = {"notebook": "w.ipynb", "runs": [{"rate": rate} for rate in RATES]}
        content = {"name": "t", "title": "T", "question": "Q?", "stages": [stage]}
        self.spec = place.parent / "own.yaml"
        self.spec.write_text(json.dumps(content))

    def start(self) -> subprocess.Popen[str]:
        command = ["ablate", str(self.spec), "--out", str(self.out), "--scheduler", SCHEDULER]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, "-m", "filtersub", *command], **pipes)

    def records(self) -> dict[str, float]:
        """Test accuracy by run, of records that can be read."""
        read = (json.loads(path.read_text()) for path in self.out.glob("runs/*/record.json"))
        return {record["label"]: record["metrics"]["test_accuracy"] for record in read}

    def hosts(self) -> list[str]:
        """Where each run was, one entry for each time that it began."""
        return [name for path in self.out.glob("runs/*/hosts.txt") for name in path.read_text().split()]

    def has_begun(self, count: int) -> bool:
        return len(self.hosts()) >= count


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.1)


def outcome(batch: Batch, process: subprocess.Popen[str], code: int = 0) -> str:
    """What the command came to; ValueError where it is not this exit code with every record whole."""
    printed = process.communicate(timeout=600)[0]
    if process.returncode != code:
        raise ValueError(f"exit code {process.returncode}: {printed[-800:]}")
    if code == 0 and sorted(batch.records().values()) != sorted(RATES):
        raise ValueError(f"records {batch.records()}")
    left = [path.name for path in batch.out.rglob("*.part*")]
    if left:
        raise ValueError(f"left behind: {left}")
    return " ".join(printed.split())


def shared(cluster: Cluster, batch: Batch) -> str:
    cluster.start("one", "two")
    cluster.wait_for_workers(2)
    outcome(batch, batch.start())
    if set(batch.hosts()) != {"one", "two"}:
        raise ValueError(f"ran on {batch.hosts()}")
    return f"{len(RATES)} records, from both"


def not_shared(cluster: Cluster, batch: Batch) -> str:
    cluster.start("one", "two", hidden=("two",))
    cluster.wait_for_workers(2)
    printed = outcome(batch, batch.start(), code=2)
    if "Dask workers on two do not see" not in printed or batch.hosts():
        raise ValueError(printed)
    return "refused in one line that names the host; nothing was run"


def killed_and_joined(cluster: Cluster, batch: Batch) -> str:
    cluster.start("one", "two")
    cluster.wait_for_workers(2)
    process = batch.start()
    until(lambda: batch.has_begun(2))
    cluster.kill("two")
    cluster.start("three")
    outcome(batch, process)
    if "three" not in batch.hosts():
        raise ValueError(f"ran on {batch.hosts()}")
    return f"{len(RATES)} records; what the killed one ran was run again"


def cut_off(cluster: Cluster, batch: Batch) -> str:
    cluster.start("one", "two")
    cluster.wait_for_workers(2)
    process = batch.start()
    until(lambda: "two" in batch.hosts())
    ip("link", "set", "two-out", "down")
    outcome(batch, process)
    ip("link", "set", "two-out", "up")
    return f"{len(RATES)} records; after {SILENT} s of silence (here) its run went to the other"


def scheduler_restarted(cluster: Cluster, batch: Batch) -> str:
    cluster.start("one", "two")
    cluster.wait_for_workers(2)
    process = batch.start()
    until(lambda: len(batch.records()) >= 2)
    cluster.kill()
    printed = process.communicate(timeout=300)[0]
    for host in list(cluster.workers):  # which may be amid a run: its record is there before its page
        cluster.kill(host)
    records = batch.out.glob("runs/*/record.json")
    before = {path: path.stat().st_mtime_ns for path in records if read_state(path.parent).get("status") == "done"}
    if process.returncode != 1 or not 0 < len(before) < len(RATES):
        raise ValueError(f"exit code {process.returncode}, {len(before)} runs: {printed[-800:]}")
    cluster.start("one", "two")
    cluster.wait_for_workers(2)
    outcome(batch, batch.start())
    if any(path.stat().st_mtime_ns != made for path, made in before.items()):
        raise ValueError("a finished run was made again")
    return f"exit code 1, {len(before)} of {len(RATES)} runs there; the same command made the rest"


CASES = {
    "two hosts, files shared": (shared, 2.0),
    "the output folder is hidden from one": (not_shared, 2.0),
    "a worker is killed, another joins": (killed_and_joined, 5.0),
    "a worker's network is cut": (cut_off, 5.0),
    "the scheduler is killed and started again": (scheduler_restarted, 5.0),
}


def run_ablation(name: str, out: Path) -> int:
    """A preset, or an ablation of one's own, on two hosts; its page and records are in ``out``. Resumes."""
    out.mkdir(parents=True, exist_ok=True)
    with network({"one": 2, "two": 3}):
        cluster = Cluster(out)
        try:
            cluster.start("one", "two")
            cluster.wait_for_workers(2)
            command = ["ablate", name, "--out", str(out), "--scheduler", SCHEDULER]
            return subprocess.run([sys.executable, "-m", "filtersub", *command]).returncode
        finally:
            cluster.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ablation", help="run this one in place of the cases")
    parser.add_argument("--out", type=Path, help="folder of its records and page")
    args = parser.parse_args()
    if (args.ablation is None) != (args.out is None):
        parser.error("--ablation and --out go together")
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        print("needs Linux, root, and the commands ip and unshare", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that workers and networks go, as with Ctrl-C
    if args.ablation is not None:
        return run_ablation(args.ablation, args.out.resolve())
    rows, bad = [], False
    for name, (case, seconds) in CASES.items():
        with (
            tempfile.TemporaryDirectory(prefix="cluster-") as root,
            network({"one": 2, "two": 3, "three": 4}),
        ):
            place = Path(root) / "shared"
            place.mkdir()
            cluster = Cluster(place)
            try:
                became = case(cluster, Batch(place, seconds))
            except (ValueError, TimeoutError, subprocess.TimeoutExpired) as error:
                became, bad = f"WRONG: {error}", True
            finally:
                cluster.close()
        print(f"{name}: {became}", file=sys.stderr)
        rows.append(f"| {name} | {became} |")
    print("\n".join(["| case | what became of it |", "|---|---|", *rows]))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
