"""A kill matrix: commands are killed at random moments, then run again, and must end as if nothing had happened.

    .venv/bin/python tests/torture.py --kills 50                 # make torture; hours
    .venv/bin/python tests/torture.py --kills 2 --only decompose
    .venv/bin/python tests/torture.py --kills 50 --log kills.jsonl   # goes on where the file ends

After a kill no process of the command may run on. After the same command once more the records (all but times and
places), the files and the temporary files must be those of an uninterrupted run. Prints a table in Markdown; exit
code 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
import psutil
from dask_processes import start_cluster
from nbformat.v4 import new_code_cell, new_notebook

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
MARK = "FILTERSUB_TORTURE"  # in the environment of every process of a trial
GRACE = 20.0  # seconds in which the children of a killed process end
_CHANGING = ("cost", "environment")  # of a record: times and places
_OF_TIME = {"seconds", "learning_seconds", "coding_seconds", "decomposition_seconds"}


@dataclass(frozen=True)
class Command:
    """What is run, and who of it is killed; ``prepare`` writes what it reads into a folder."""

    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[Path], None]
    targets: tuple[str, ...] = ("parent",)
    scheduler: bool = False  # a Dask scheduler with two workers is beside the command, which gets its address


@dataclass(frozen=True)
class Kill:
    """What became of one kill: of ``command``, which process, by which signal, after how many seconds."""

    command: str
    target: str
    sent: str
    after: float
    orphans: int
    leftovers: list[str]
    lost: list[str]  # files that differ from those of an uninterrupted run, and the second run's error

    @property
    def bad(self) -> bool:
        return bool(self.orphans or self.leftovers or self.lost)


WORK = """
import time
from pathlib import Path
from filtersub.records import Record, describe_environment
time.sleep(1.0)
counts = {"trainable": 10, "head": 5, "total": 100}
Record("tuning", f"rate={rate}", {"rate": rate}, 0, {"test_accuracy": rate}, counts, {"wall_seconds": 1.0},
       describe_environment()).write(out_dir)
"""


def ablation(place: Path) -> None:
    first = new_code_cell("rate = 0.5\nout_dir = '.'", metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=[first, new_code_cell(WORK)], metadata={"kernelspec": kernel}), place / "w.ipynb")
    stage = {"notebook": "w.ipynb", "runs": [{"rate": rate} for rate in (0.1, 0.2, 0.3)]}
    (place / "own.yaml").write_text(json.dumps({"name": "t", "title": "T", "question": "Q?", "stages": [stage]}))


def recorded(place: Path) -> None:
    from filtersub.records import Record

    for number in range(8):
        counts = {"trainable": 10 * number, "head": 5, "total": 1000}
        parameters = {"method": "filter-subspace", "atoms": number}
        metrics = {"test_accuracy": 0.1 * number}
        Record("tuning", f"m={number}", parameters, 0, metrics, counts, {}, {}).write(place / "out" / f"run{number}")


def pipeline(place: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from tiny_pipeline import save_classes, save_pipeline

    save_pipeline(place / "pipeline")
    save_classes(place / "images")


_TUNE = ("tune", "efficientnet_lite0", "--solver", "pca", "--epochs", "3", "--image-size", "16", "--batch-size", "200")
_GENERATE = ("--atoms", "2", "--block", "2", "--steps", "6", "--batch-size", "2", "--image-size", "16", "--images", "0")
_GENERATE += ("--sampling-steps", "2", "--mixed-precision", "no")
COMMANDS = (
    Command("decompose", ("decompose", "efficientnet_lite0", "--atoms", "6", "--out", "out"), lambda place: None),
    Command("report", ("report", "out"), recorded),
    Command("tune", (*_TUNE, "--out", "out"), lambda place: None),
    Command(
        "ablate",
        ("ablate", "own.yaml", "--out", "out", "--workers", "2"),
        ablation,
        ("parent", "warm process", "runner", "kernel"),
    ),
    Command(
        "ablate --scheduler",
        ("ablate", "own.yaml", "--out", "out"),
        ablation,
        ("parent", "worker"),
        scheduler=True,
    ),
    Command("generate-tune", ("generate-tune", "pipeline", "--data", "images", "--out", "out", *_GENERATE), pipeline),
)


class Trial:
    """A command in a folder of its own, with temporary files of its own."""

    def __init__(self, command: Command, place: Path) -> None:
        self.command, self.place, self.mark = command, place, uuid.uuid4().hex
        self.temporary = place / "t"
        self.temporary.mkdir(parents=True)
        command.prepare(place)
        self.cluster: list[subprocess.Popen[bytes]] = []  # a scheduler and its workers
        self.arguments = command.arguments
        if command.scheduler:
            self.cluster, address = start_cluster(place, self._start)
            self.arguments += ("--scheduler", address)

    def start(self) -> subprocess.Popen[bytes]:
        return self._start("filtersub", *self.arguments)

    def _start(self, *module: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary), "HF_HUB_OFFLINE": "1"}
        log = open(self.place / "log.txt", "ab")  # noqa: SIM115 (closed with this process)
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=self.place,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def close(self) -> None:
        """End the cluster."""
        for process in reversed(self.cluster):
            process.kill()
            process.wait()

    def finish(self) -> float:
        """Run the command to its end; its seconds. Raises RuntimeError where it fails."""
        began = time.monotonic()
        code = self.start().wait(timeout=900)
        if code != 0:
            raise RuntimeError(f"exit code {code}: {(self.place / 'log.txt').read_text(errors='replace')[-300:]}")
        return time.monotonic() - began

    def processes(self) -> list[psutil.Process]:
        """All that runs for this trial beside its cluster, whoever its parent is by now."""
        found, cluster = [], {process.pid for process in self.cluster}
        for process in psutil.process_iter():
            try:
                if (
                    process.pid not in cluster
                    and process.environ().get(MARK) == self.mark
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def target(self, who: str, parent: psutil.Process) -> psutil.Process | None:
        """The process to be killed, None while there is none: a kernel is the child of a runner, which is the child of
        the warm process."""
        if who == "parent":
            return parent
        if who == "worker":
            return psutil.Process(random.choice(self.cluster[1:]).pid)
        warm = [child for child in parent.children() if "filtersub.ablation.warm_process" in child.cmdline()]
        runners = [runner for process in warm for runner in process.children()]
        kernels = [kernel for runner in runners for kernel in runner.children()]
        found = {"warm process": warm, "runner": runners, "kernel": kernels}[who]
        return random.choice(found) if found else None

    def result(self) -> dict[str, str]:
        """Digests of what was made, by file, without times and places; other files by their name."""
        out, found = self.place / "out", {}
        for path in sorted(path for path in out.rglob("*") if path.is_file()):
            name = path.relative_to(out).as_posix()
            found[name] = _digest(path)
        return found

    def leftovers(self) -> list[str]:
        """Hidden files of the output folder, and temporary ones (caches that libraries mean to keep among them)."""
        return [path.name for path in (*(self.place / "out").rglob(".*"), *self.temporary.iterdir())]


def _digest(path: Path) -> str:
    if path.name == "record.json":
        content = {k: v for k, v in json.loads(path.read_text()).items() if k not in _CHANGING}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if path.name == "atoms.safetensors":
        from filtersub.decomposition import ModelDecomposition

        layers = ModelDecomposition.load(path).layers.items()
        return hashlib.sha256(b"".join(name.encode() + d.atoms.numpy().tobytes() for name, d in layers)).hexdigest()
    if path.name == "index.html" and path.parent.name == "out" and not (path.parent / "ablation.json").exists():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return "there"


def kill_once(trial: Trial, who: str, sent: str, after: float) -> tuple[bool, int, str]:
    """(whether the command had not ended, processes that outlived it, an error of the second run)."""
    process = trial.start()
    parent, due = psutil.Process(process.pid), time.monotonic() + after
    hit = False
    while process.poll() is None:
        if time.monotonic() >= due:
            try:
                victim = trial.target(who, parent)
                if victim is not None:
                    victim.send_signal(getattr(signal, sent))
                    hit = True
                    break
            except psutil.Error:
                pass
        time.sleep(0.02)
    process.wait(timeout=600)
    deadline = time.monotonic() + GRACE
    while (alive := trial.processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    for orphan in alive:
        orphan.kill()
    try:
        trial.finish()
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return hit, len(alive), str(error)
    return hit, len(alive), ""


def torture(command: Command, wanted_kills: dict[str, int], root: Path) -> Iterator[Kill]:
    """Kill a command so many times for each target; what became of each kill."""
    whole = Trial(command, root / f"{command.name}-whole")
    seconds, wanted, caches = whole.finish(), whole.result(), whole.leftovers()
    whole.close()
    print(f"{command.name}: {seconds:.1f} s uninterrupted, {len(wanted)} files", file=sys.stderr)
    for who, kills in wanted_kills.items():
        number = 0
        while kills > 0:
            number += 1
            sent, after = random.choice(SIGNALS), random.uniform(0, seconds)
            trial = Trial(command, root / f"{command.name}-{who.replace(' ', '-')}-{number}")
            hit, orphans, error = kill_once(trial, who, sent, after)
            trial.close()
            if not hit:  # it had ended: no kill, but the moments are drawn from less time
                seconds = max(0.9 * seconds, min(seconds, after))
                shutil.rmtree(trial.place)
                continue
            kills -= 1
            got, left = trial.result(), [name for name in trial.leftovers() if name not in caches]
            lost = sorted(name for name in {*got, *wanted} if got.get(name) != wanted.get(name))
            kill = Kill(command.name, who, sent, round(after, 1), orphans, left, lost + ([error] if error else []))
            yield kill
            if not kill.bad:
                shutil.rmtree(trial.place)


def table(kills: list[Kill]) -> str:
    """The kills by command and target, in Markdown."""
    lines = [
        "| command | killed | kills | same records afterwards | orphans | leftovers | lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for command, who in dict.fromkeys((kill.command, kill.target) for kill in kills):
        of = [kill for kill in kills if (kill.command, kill.target) == (command, who)]
        lost = sum(bool(kill.lost) for kill in of)
        orphans, leftovers = sum(kill.orphans for kill in of), sum(len(kill.leftovers) for kill in of)
        cells = (command, who, len(of), len(of) - lost, orphans, leftovers, lost)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of each command, shared among its processes")
    parser.add_argument("--only", nargs="*", choices=[command.name for command in COMMANDS])
    parser.add_argument("--seed", type=int, help="of moments and signals; drawn where it is not given")
    parser.add_argument("--log", type=Path, help="JSON lines, one a kill, read and gone on with where it exists")
    given = parser.parse_args(arguments)
    random.seed(given.seed)
    kills = []
    if given.log and given.log.exists():
        kills = [Kill(**json.loads(line)) for line in given.log.read_text().splitlines()]
    with tempfile.TemporaryDirectory(prefix="torture-") as root:
        for command in COMMANDS:
            if given.only and command.name not in given.only:
                continue
            done = Counter(kill.target for kill in kills if kill.command == command.name)
            kinds = sum(len(other.targets) for other in COMMANDS if other.arguments[0] == command.arguments[0])
            each = math.ceil(given.kills / kinds)
            missing = {who: each - done[who] for who in command.targets}
            for kill in torture(command, missing, Path(root)) if max(missing.values()) > 0 else ():
                became = f"LOST {kill.lost} {kill.leftovers}, {kill.orphans} orphans" if kill.bad else "as before"
                print(f"{kill.command}, {kill.target}, {kill.sent} at {kill.after} s: {became}", file=sys.stderr)
                kills.append(kill)
                if given.log:
                    with open(given.log, "a") as file:
                        file.write(json.dumps(asdict(kill)) + "\n")
    print(table(kills))
    return int(any(kill.bad for kill in kills))


if __name__ == "__main__":
    sys.exit(main())
