"""One notebook, executed in a process of its own: ``python -m filtersub.ablation.notebook_run NOTEBOOK FOLDER``.

The folder's ``run.json`` says what to pass and, at every moment, how far the run is. One process a notebook, since
papermill cannot run inside another event loop and a kernel must be stoppable without its neighbours; the kernel talks
over IPC, since TCP kernels started side by side race for their ports.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FiltersubError
from ..files import read_json, write_json, write_text, written_whole
from ..processes import end_tree
from ..schema import check

if TYPE_CHECKING:
    from .warm_kernel import ForkedKernel

RUN_FILE, NOTEBOOK_FILE, HTML_FILE, ERROR_FILE = "run.json", "notebook.ipynb", "notebook.html", "error.txt"
_ASIDE = f".{NOTEBOOK_FILE}.part.ipynb"  # papermill saves it after every cell
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def read_state(folder: Path) -> dict[str, Any]:
    """The folder's ``run.json``; empty where there is none, or none that can be read."""
    from .schemas import StateSchema

    try:
        state = read_json(folder / RUN_FILE)
        check(StateSchema, state, RUN_FILE)
    except (OSError, ValueError):
        return {}
    return state


def update_state(folder: Path, **changes: Any) -> dict[str, Any]:
    """Write ``run.json`` with these entries changed."""
    state = {**read_state(folder), **changes}
    write_json(folder / RUN_FILE, state)
    return state


def execute(notebook: Path, folder: Path, kernel: ForkedKernel | None = None) -> bool:
    """Execute a notebook with the parameters of its ``run.json``; True when every cell ran.

    The executed notebook and its HTML appear whole, or, after a failure, as far as they came with ``error.txt`` beside
    them. The kernel's working directory is the folder, so nothing in the outputs names a place on this machine.
    """
    started = time.monotonic()
    passed = update_state(folder, status="running", started=time.time())["passed"]
    error = _papermill(notebook, folder / _ASIDE, passed, folder, kernel)
    try:
        keep_executed(notebook, folder)
    except (FiltersubError, OSError) as full:  # the error that came first is the one to tell
        error = error or f"{full}\n"
    seconds = round(time.monotonic() - started, 2)
    if error is not None:
        write_text(folder / ERROR_FILE, error)
    update_state(folder, status="done" if error is None else "failed", seconds=seconds)
    return error is None


def keep_executed(notebook: Path, folder: Path) -> None:
    """Make what papermill has saved, perhaps a part only, the folder's notebook and HTML; nothing where there is none.

    Raises FiltersubError or OSError when that cannot be written; half-written files do not stay.
    """
    import nbformat

    aside = folder / _ASIDE
    try:
        executed = nbformat.read(os.fspath(aside), as_version=4)
    except (OSError, ValueError):  # none was begun, or its writer was killed while it wrote
        return
    finally:
        aside.unlink(missing_ok=True)
    _forget_paths(executed, notebook.name)
    with written_whole(folder / NOTEBOOK_FILE) as part:
        nbformat.write(executed, part)
    _write_html(executed, notebook.stem, folder)


def _papermill(
    notebook: Path, aside: Path, passed: dict[str, Any], folder: Path, kernel: ForkedKernel | None
) -> str | None:
    """Run papermill; the error's text, its first line the exception itself, or None."""
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    with tempfile.TemporaryDirectory(prefix="fs-") as sockets:  # a socket's path may not exceed about 100 characters
        os.environ["JUPYTER_RUNTIME_DIR"] = sockets
        config = Config()
        if os.name != "nt":
            config.KernelManager.update({"transport": "ipc", "ip": f"{sockets}/kernel"})
        if kernel is not None:
            from .warm_kernel import manager_class

            config.NotebookClient.kernel_manager_class = manager_class(kernel)
        try:
            papermill.execute_notebook(
                notebook, aside, passed, progress_bar=False, cwd=folder, config=config, autosave_cell_every=15
            )
        except PapermillExecutionError as error:
            lines = "\n".join(error.traceback)
            # As written, counted from 1: the index counts from 0, but with the cell that papermill added.
            first = f"{error.ename}: {error.evalue} (cell {error.cell_index} of {notebook.name})"
            return _ANSI.sub("", f"{first}\n\n{lines}\n")
        except Exception as error:  # a kernel that died, a disk that is full: all of it is this run's failure
            return f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
    return None


def _forget_paths(executed: Any, name: str) -> None:
    """Drop where this machine keeps its files from the notebook's metadata."""
    executed.metadata.get("papermill", {}).update(input_path=name, output_path=NOTEBOOK_FILE)


def _write_html(executed: Any, name: str, folder: Path) -> None:
    from ..records import describe_environment, read_record
    from .notebook_html import write_html

    run = read_state(folder)
    try:
        record = read_record(folder)
        environment, run = record.environment, {**run, "parameters": record.parameters}
    except ValueError:  # a notebook that only reads records writes none
        environment = describe_environment()
    write_html(executed, folder / HTML_FILE, name=name, environment=environment, run=run)


def _stop_with_parent() -> None:
    """End this process and its kernel as soon as the parent's end of stdin closes, however the parent ended."""
    os.read(sys.stdin.fileno(), 1)  # below the buffer, whose lock an exiting interpreter needs
    end_tree(os.getpid())


def main(arguments: list[str]) -> int:
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    notebook, folder = map(Path, arguments)
    return 0 if execute(notebook.resolve(), folder.resolve()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
