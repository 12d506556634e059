"""How far an ablation is: a live panel in a terminal, a plain line now and then in a log."""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..printable import counted, printable
from ..progress import FROM, clock
from .dry_run import makespan
from .notebook_run import RUN_FILE, read_state
from .planning import Run
from .run_times import RunTimes

PROGRESS_FILE = "progress.json"


class RunProgress:
    """Counts of runs done, failed and running, with the running ones' epochs and the time left where it is known.

    Parameters
    ----------
    total : runs planned, those that are re-used included
    line_every : seconds between two lines where the output is no terminal
    """

    def __init__(self, total: int, *, line_every: float = 10.0, console: Console | None = None) -> None:
        self.total, self.line_every = total, line_every
        self.console = console or Console(soft_wrap=True)
        self.done = self.failed = self.kept = 0
        self.started = time.monotonic()
        self._last_line = self._last_asked = self._last_look = self.started - line_every
        self._states: dict[Path, tuple[int, dict[str, Any]]] = {}
        self._stuck = False
        self._times: RunTimes | None = None
        self._workers = 1
        self._left = ""
        self._begun = 0.0
        self._took: dict[str, list[float]] = defaultdict(list)
        self._live = Live(console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> RunProgress:
        if self.console.is_terminal:
            self._live.start()
            self._live.update(self._panel([("starting", "")]), refresh=True)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.console.is_terminal:
            self._live.stop()
        if kind is None:
            self._say(self._closing())

    def reused(self, count: int) -> None:
        """These runs are there already."""
        self.kept += count
        if count and self.kept == count < self.total:
            self._say(f"{count} of {self.total} runs are there already")

    def told(self, lines: list[str]) -> None:
        """Say these."""
        for line in lines:
            self._say(line)

    def expects(self, times: RunTimes, workers: int) -> None:
        """Take the time left from these times of earlier runs, and from those of the runs that end from now on."""
        self._times, self._workers = times, workers

    def ended(self, run: Run, outcome: str, error: str = "") -> None:
        """A run ended as "done" or "failed"."""
        if self._times is not None:
            self._times.add(run.folder)
        if "seconds" in (state := read_state(run.folder)):
            self._took[run.notebook.stem].append(state["seconds"])
        self.done += outcome == "done"
        self.failed += outcome == "failed"
        position = f"[{self.kept + self.done + self.failed}/{self.total}]"
        self._say(f"{position} {outcome} {run.run_id}" + (f": {error}" if error else ""))

    def update(self, runs: list[Run], no_worker: Callable[[], bool] = lambda: False) -> None:
        """Show those of these unfinished runs that have begun, and the time left for all of them.

        Where none has, ``no_worker`` tells whether there is nobody to begin; it is asked no more often than lines are
        said. May be called as often as one likes: the folders are looked into once a second, or as often as lines are
        said, since reading those of hundreds of runs takes a share of a core that the runs need.
        """
        every = min(1.0, self.line_every) if self.console.is_terminal else self.line_every
        if time.monotonic() - self._last_look < every:
            return
        self._last_look = time.monotonic()
        folders = [run.folder for run in runs if self._state(run.folder).get("status") == "running"]
        self._begun = sum(epoch / epochs for epoch, epochs in map(_epochs, folders) if epochs)
        seconds = self._seconds_left(runs)
        self._left = "" if seconds is None else f", about {clock(seconds)} left"
        if self.console.is_terminal:
            running = self._running(folders)
            self._live.update(self._panel(running or [(self._idle(no_worker), "")]))
        elif time.monotonic() - self._last_line >= self.line_every:
            running = ", ".join(f"{name} ({how})" for name, how in self._running(folders))
            self._say(f"{self._counts()}; " + (f"running: {running}" if running else self._idle(no_worker)))

    def _idle(self, no_worker: Callable[[], bool]) -> str:
        if time.monotonic() - self._last_asked >= self.line_every:
            self._last_asked, self._stuck = time.monotonic(), no_worker()
        return "no Dask worker is left; waiting for one" if self._stuck else "starting"

    def _say(self, text: str) -> None:
        self._last_line = time.monotonic()
        self.console.print(Text(printable(text)))

    def _counts(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        done = f"{self.kept + self.done} of {self.total} done"
        return f"{clock(time.monotonic() - self.started)}  {done}{failed}{self._left}"

    def _seconds_left(self, runs: list[Run]) -> float | None:
        """By each run's own epochs, else by earlier runs like it, else by the runs of this batch once a tenth is done.

        None before: a guess from less would be taken for more than it is. How long a run that reads records takes,
        other runs cannot tell: it counts for nothing.
        """
        left: list[float] = []
        unknown: list[tuple[Run, float]] = []
        whole: dict[str, list[float]] = defaultdict(list, {name: [*took] for name, took in self._took.items()})
        for run in runs:
            state = self._state(run.folder)
            elapsed = time.time() - state["started"] if state.get("status") == "running" else 0.0
            expected = self._times.estimate(run.notebook.stem, run.parameters) if self._times is not None else None
            epoch, epochs = _epochs(run.folder) if elapsed else (0, 0)
            if epoch:
                left.append(elapsed * (epochs - epoch) / epoch)
                whole[run.notebook.stem].append(elapsed + left[-1])
            elif expected is not None:
                left.append(max(0.0, expected.seconds - elapsed))
            elif not run.reads_records or self._took[run.notebook.stem]:
                unknown.append((run, elapsed))
        if unknown and (self._finished() < FROM * self.total or not whole):
            return None
        every = [seconds for took in whole.values() for seconds in took]
        for run, elapsed in unknown:
            typical = statistics.fmean(whole.get(run.notebook.stem) or every)
            left.append(max(0.0, typical - elapsed))
        return makespan(left, self._workers) if left else None

    def _state(self, folder: Path) -> dict[str, Any]:
        """read_state, from memory while the file is the same."""
        try:
            written = (folder / RUN_FILE).stat().st_mtime_ns
        except OSError:
            return {}
        if folder not in self._states or self._states[folder][0] != written:
            self._states[folder] = written, read_state(folder)
        return self._states[folder][1]

    def _running(self, folders: list[Path]) -> list[tuple[str, str]]:
        """(run, how far) of these, which have begun."""
        found = []
        for folder in folders:
            epoch, epochs = _epochs(folder)
            told = f"epoch {epoch}/{epochs}, " if epochs else ""
            found.append((folder.name, told + clock(time.time() - self._state(folder).get("started", time.time()))))
        return found

    def _finished(self) -> float:
        """Runs that are there or have failed, with the share of those that train."""
        return self.kept + self.done + self.failed + self._begun

    def _closing(self) -> str:
        if self.kept == self.total:
            return f"{self.total} of {self.total} runs are there already; nothing to run"
        again = f", {self.kept} there already" if self.kept else ""
        failed = f", {self.failed} failed" if self.failed else ""
        made, took = f"{counted(self.done, 'run')} made", clock(time.monotonic() - self.started)
        return f"{made}{again}{failed}, in {took}"

    def _panel(self, running: list[tuple[str, str]]) -> Group:
        table = Table.grid(padding=(0, 2))
        for name, how in running:
            table.add_row(Text("  " + name), Text(how, style="dim"))
        bar = ProgressBar(total=self.total, completed=self._finished(), width=40)
        return Group(Text(self._counts(), style="bold"), bar, table)


def _epochs(folder: Path) -> tuple[int, int]:
    """(epochs done, of how many) from the ``progress.json`` that a training run keeps; (0, 0) where there is none."""
    try:
        progress = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
        return int(progress["epoch"]), int(progress["epochs"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0
