"""A kill matrix: commands are killed at random moments, then run again, and must end as if nothing had happened.

    .venv/bin/python tests/torture.py --kills 50                 # make torture; hours
    .venv/bin/python tests/torture.py --kills 2 --only decompose

After a kill no process of the command may run on. After the same command once more the records (all but times and
places), the files and the temporary files must be those of an uninterrupted run. Prints a table in Markdown; exit
code 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
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


@dataclass
class Tally:
    """What became of the kills of one command and target."""

    kills: int = 0
    before_its_end: int = 0
    orphans: int = 0
    leftovers: int = 0
    lost: int = 0


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
    Command("generate-tune", ("generate-tune", "pipeline", "--data", "images", "--out", "out", *_GENERATE), pipeline),
)


class Trial:
    """A command in a folder of its own, with temporary files of its own."""

    def __init__(self, command: Command, place: Path) -> None:
        self.command, self.place, self.mark = command, place, uuid.uuid4().hex
        self.temporary = place / "t"
        self.temporary.mkdir(parents=True)
        command.prepare(place)

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary), "HF_HUB_OFFLINE": "1"}
        log = open(self.place / "log.txt", "ab")  # noqa: SIM115 (closed with this process)
        return subprocess.Popen(
            [sys.executable, "-m", "filtersub", *self.command.arguments],
            cwd=self.place,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def finish(self) -> float:
        """Run the command to its end; its seconds. Raises RuntimeError where it fails."""
        began = time.monotonic()
        code = self.start().wait(timeout=900)
        if code != 0:
            raise RuntimeError(f"exit code {code}: {(self.place / 'log.txt').read_text(errors='replace')[-300:]}")
        return time.monotonic() - began

    def processes(self) -> list[psutil.Process]:
        """All that runs for this trial, whoever its parent is by now."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def target(self, who: str, parent: psutil.Process) -> psutil.Process | None:
        """The process to be killed, None while there is none: a kernel is the child of a runner, which is the child of
        the warm process."""
        if who == "parent":
            return parent
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


def torture(command: Command, kills: int, root: Path, tell: Callable[[str], None]) -> dict[str, Tally]:
    """Kill a command so many times for each target; what became of it by target."""
    whole = Trial(command, root / f"{command.name}-whole")
    seconds, wanted, caches = whole.finish(), whole.result(), whole.leftovers()
    tell(f"{command.name}: {seconds:.1f} s uninterrupted, {len(wanted)} files")
    tallies = {who: Tally() for who in command.targets}
    for number in range(kills):
        for who, tally in tallies.items():
            sent, after = random.choice(SIGNALS), random.uniform(0, seconds)
            trial = Trial(command, root / f"{command.name}-{who.replace(' ', '-')}-{number}")
            hit, orphans, error = kill_once(trial, who, sent, after)
            got, left = trial.result(), [name for name in trial.leftovers() if name not in caches]
            different = sorted(name for name in {*got, *wanted} if got.get(name) != wanted.get(name))
            tally.kills += 1
            tally.before_its_end += hit
            tally.orphans += orphans
            tally.leftovers += len(left)
            tally.lost += bool(error or different)
            bad = bool(error or different or left or orphans)
            became = f"{error} {different} {left}, {orphans} orphans" if bad else "as before"
            tell(f"{command.name}, {who}, {sent} at {after:.1f} s: {became}")
            if not bad:
                shutil.rmtree(trial.place)
    return tallies


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of each command and target")
    parser.add_argument("--only", nargs="*", choices=[command.name for command in COMMANDS])
    parser.add_argument("--seed", type=int, default=0, help="of moments and signals")
    given = parser.parse_args(arguments)
    random.seed(given.seed)
    rows, bad = [], False
    with tempfile.TemporaryDirectory(prefix="torture-") as root:
        for command in COMMANDS:
            if given.only and command.name not in given.only:
                continue
            for who, t in torture(command, given.kills, Path(root), lambda s: print(s, file=sys.stderr)).items():
                rows.append(
                    (command.name, who, t.kills, t.before_its_end, t.kills - t.lost, t.orphans, t.leftovers, t.lost)
                )
                bad = bad or bool(t.lost or t.orphans or t.leftovers)
    print(
        "| command | killed | kills | of them before its end | same records afterwards | orphans | leftovers | lost |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
