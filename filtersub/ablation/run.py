"""A grid of settings becomes notebook runs becomes records: many at once, here or on a cluster, none made twice.

Dask hands out the runs (slots of this process by default, or the workers of a scheduler); each run is a process of its
own, see run_slot. A run that fails leaves its error behind and the others go on.
"""

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FiltersubError
from ..files import as_path, make_folder, write_json, write_text
from ..folder_lock import locked
from ..processes import LOG_WITH, exit_text
from ..records import RECORD_FILE, read_records
from .dry_run import DryRun, dry_run
from .folder import ABLATION_FILE, set_aside_damaged, take_folder, write_plan
from .kept_results import kept_results
from .notebook_contract import OUT_DIR, RECORDS_DIR
from .notebook_run import ERROR_FILE, HTML_FILE, RUN_FILE, keep_executed, read_state, update_state
from .planning import Run, plan
from .progress import RunProgress
from .run_slot import DECOMPOSITIONS_FOLDER, LOG_FILE, Terms, cores, end_children, run_child, visible_gpus
from .run_times import RunTimes, machine
from .slots import check_workers, checked_workers, open_slots, threads_of_workers
from .spec import Spec, load_spec


@dataclass(frozen=True)
class AblationSummary:
    """How an ablation went: run_ids by what became of them."""

    root: Path
    done: tuple[str, ...]
    reused: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 when every run is there, 1 when some failed."""
        return 1 if self.failed else 0


def run_ablation(
    spec: Spec | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    rerun: bool = False,
    force: bool = False,
    warm: bool = True,
    log_with: str | None = None,
    on_begin: Callable[[], None] = lambda: None,
) -> AblationSummary:
    """Run what is missing of an ablation and write all of it below ``out``.

    Parameters
    ----------
    spec : Spec, the name of a preset, or the path of a YAML file
    out : folder; ``runs/RUN_ID/`` holds each run, ``ablation.json`` what was planned
    workers : notebooks at once on this machine, the cores shared evenly among them; default one a GPU, else one a core
    scheduler : address of a Dask scheduler whose workers see ``out`` under the same path; ``workers`` is theirs then
    rerun : run again what is there already
    force : take ``out`` even where it holds another ablation, whose runs stay but are no longer planned
    warm : fork runs from a process that has made their imports, where there is more than one and the system is Linux
    log_with : trackers of the runs that train, such as "wandb,mlflow"; None leaves FILTERSUB_LOG_WITH as it is
    on_begin : called once all runs are checked, before the first line of progress

    Raises FiltersubError, before anything runs, for a bad spec, a parameter that a notebook does not have, an output
    folder of another ablation, one that another process writes into, one that cannot be written, or workers that do not
    see it. KeyboardInterrupt ends the children and keeps every finished run.
    """
    spec = spec if isinstance(spec, Spec) else load_spec(spec)
    variables = {} if log_with is None else _tracked(log_with, spec.name, as_path(out).resolve())
    workers = checked_workers(workers) if scheduler is None else 1
    runs = plan(spec, out)
    outcome: dict[str, str] = {}
    call = uuid.uuid4().hex
    with contextlib.ExitStack() as stack:
        # A scheduler that does not answer leaves no file behind; this process's own slots take a second to open.
        client = None if scheduler is None else stack.enter_context(open_slots(workers, scheduler))
        stack.enter_context(locked(out))
        root, damaged = take_folder(out, spec, force=force)
        write_plan(spec, runs, root)
        if client is not None:
            check_workers(client, root / ABLATION_FILE, dict.fromkeys(run.notebook for run in runs))
        progress = RunProgress(len(runs))
        on_begin()
        stack.enter_context(progress)  # from here on there is a bar: opening the slots takes a second or two
        progress.told([*damaged, *set_aside_damaged(runs)])
        client = client or stack.enter_context(open_slots(workers, scheduler))
        threads = dict.fromkeys(client.scheduler_info()["workers"], max(1, cores() // workers))
        if scheduler is not None:
            threads = threads_of_workers(client)
        slots = [worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
        progress.expects(_times(root, next(iter(threads.values()), cores())), workers=sum(slots) or 1)
        for reading in (False, True):
            group = [run for run in runs if run.reads_records == reading]
            inputs = _fingerprint(root) if reading else None
            reused = [run for run in group if not rerun and is_finished(run, inputs)]
            progress.reused(len(reused))
            for run in reused:
                outcome[run.run_id] = "reused"
                (run.folder / LOG_FILE).unlink(missing_ok=True)  # where the command was killed as this run ended
            missing = [run for run in group if run.run_id not in outcome]
            ready = [run for run in missing if _prepared(run, inputs, rerun, outcome, progress)]
            terms = Terms(call, threads, warm and len(ready) > 1, variables)
            outcome.update(_run_group(ready, terms, client, progress))
        with contextlib.suppress(Exception):  # the runs are there; what is left is idle
            client.run(end_children, call)
    ended = {state: tuple(n for n, got in outcome.items() if got == state) for state in ("done", "reused", "failed")}
    if not ended["failed"]:
        shutil.rmtree(root / DECOMPOSITIONS_FOLDER, ignore_errors=True)
    return AblationSummary(root, **ended)


def _tracked(log_with: str, name: str, root: Path) -> dict[str, str]:
    """The environment of runs that log to these trackers: one place and one group for all, unless named otherwise."""
    from ..experiment.log import chosen_trackers

    shared = {"WANDB_RUN_GROUP": name, "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}"}
    named = {variable: os.environ.get(variable, value) for variable, value in shared.items()}
    return {**named, LOG_WITH: ",".join(chosen_trackers(log_with))}


def list_runs(
    spec: Spec, out: str | os.PathLike[str], *, workers: int | None = None, **options: Callable[[str, int, int], None]
) -> DryRun:
    """What run_ablation would do, with parameter counts and times (``options`` as of plan, dry_run); writes nothing."""

    def claims() -> list[dict[str, Any]]:
        from ..paper import claims_of

        return [row.to_json() for row in claims_of(spec.parts, spec.reading)]

    workers, runs, root = checked_workers(workers), plan(spec, out, **options), as_path(out).resolve()
    finished = {run.run_id for run in runs if is_finished(run, _fingerprint(root) if run.reads_records else None)}
    with kept_results() as kept:
        said = kept.result("claims", [spec.parts, spec.reading], claims) if spec.parts else ()
        times = _times(root, max(1, cores() // workers))
        return dry_run(runs, finished, times, workers, tuple(said), **options, kept=kept)


def is_finished(run: Run, inputs: str | None = None) -> bool:
    """Whether a run is there whole: its notebook ran to the end, with its HTML, and its record (or the same inputs)."""
    state = read_state(run.folder)
    same = state.get("status") == "done" and state.get("inputs") == inputs and state.get("text") == run.text
    if not same or not (run.folder / HTML_FILE).is_file():
        return False
    return run.reads_records or (run.folder / RECORD_FILE).is_file()


def _times(root: Path, threads: int) -> RunTimes:
    return RunTimes(root, machine(threads, bool(visible_gpus())))


def _fingerprint(root: Path) -> str:
    """A digest of every record below the folder: what the reading notebooks read."""
    digest = hashlib.sha256()
    for folder in read_records(root)[0]:
        digest.update(folder.relative_to(root).as_posix().encode() + (folder / RECORD_FILE).read_bytes())
    return digest.hexdigest()[:16]


def _run_group(runs: list[Run], terms: Terms, client: Any, progress: RunProgress) -> dict[str, str]:
    """Run these side by side; "done" or "failed" by run_id."""
    arguments = [(str(run.notebook), str(run.folder), terms) for run in runs]
    futures = {client.submit(run_child, *each, pure=False): run for each, run in zip(arguments, runs, strict=True)}
    outcome: dict[str, str] = {}
    try:
        while len(outcome) < len(runs):
            for future, run in futures.items():
                if run.run_id not in outcome and future.done():
                    error = _error(future, run)
                    outcome[run.run_id] = "done" if error is None else "failed"
                    progress.ended(run, outcome[run.run_id], (error or "").partition("\n")[0])
            left = [run for run in runs if run.run_id not in outcome]
            progress.update(left, no_worker=lambda: not client.scheduler_info()["workers"])
            time.sleep(0.25)
    except BaseException:
        end_children(terms.ablation)
        with contextlib.suppress(Exception):  # a scheduler that is gone must not hide why this ends
            client.cancel(list(futures), force=True)
            client.run(end_children, terms.ablation)
        raise
    return outcome


def _prepared(run: Run, inputs: str | None, rerun: bool, outcome: dict[str, str], progress: RunProgress) -> bool:
    """The run's folder with its ``run.json``; what an interrupted run resumes from stays, unless it is a rerun.

    Where that cannot be written (a full disk) the run has failed, and the others get their chance.
    """
    passed = {**run.parameters, OUT_DIR: "."}
    if run.reads_records:
        # Two levels up: OUT/runs/RUN_ID. Relative, so that the executed notebook names no place on this machine.
        passed[RECORDS_DIR] = "../.."
    described = {"run_id": run.run_id, "notebook": run.notebook.stem, "parameters": run.parameters, "text": run.text}
    try:
        if rerun and run.folder.exists():
            shutil.rmtree(run.folder)
        make_folder(run.folder)
        for name in (ERROR_FILE, HTML_FILE):
            (run.folder / name).unlink(missing_ok=True)
        write_json(run.folder / RUN_FILE, {**described, "passed": passed, "inputs": inputs, "status": "waiting"})
    except (FiltersubError, OSError) as error:
        outcome[run.run_id] = "failed"
        progress.ended(run, "failed", str(error))
        return False
    return True


def _error(future: Any, run: Run) -> str | None:
    """Why a run failed, None when it is there; kept in the run's folder where its process could not do so itself.

    Raises FiltersubError where the whole output folder is gone: no other run could be kept either.
    """
    if not read_state(run.folder).get("run_id"):  # as _prepared wrote it; what a process writes later has none
        root = run.folder.parents[1]
        if not (root / ABLATION_FILE).exists():
            raise FiltersubError(
                f"{root} was removed or replaced while its runs were in progress; nothing more is run. Let the folder "
                "be, then run the same command again: it makes every run anew"
            )
        return _mark_failed(run, f"{run.folder} was removed while the run was in progress; the same command makes it")
    if future.status != "finished":
        reason = future.exception() if future.status == "error" else f"its scheduler is gone ({future.status})"
        return _mark_failed(run, f"the worker lost it: {reason}")
    code = future.result()
    if code != 0:
        ended = f"the notebook's process {exit_text(code)}\n\n{_written(run.folder / LOG_FILE)}"
        return _written(run.folder / ERROR_FILE) or _mark_failed(run, ended)
    if not run.reads_records and not (run.folder / RECORD_FILE).exists():
        return _mark_failed(run, f"the notebook ran but wrote no {RECORD_FILE} into its out_dir")
    (run.folder / LOG_FILE).unlink(missing_ok=True)
    return None


def _written(path: Path) -> str:
    """A file's text; empty where it is not there."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _mark_failed(run: Run, error: str) -> str:
    """Write the error and the notebook as far as it came; on a full disk what fits."""
    with contextlib.suppress(FiltersubError, OSError):
        write_text(run.folder / ERROR_FILE, error)
    with contextlib.suppress(FiltersubError, OSError):
        update_state(run.folder, status="failed")
    with contextlib.suppress(FiltersubError, OSError):
        keep_executed(run.notebook, run.folder, error)
    return error
