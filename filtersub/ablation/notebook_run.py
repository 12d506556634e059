"""One notebook, executed in a process of its own: ``python -m filtersub.ablation.notebook_run NOTEBOOK FOLDER``.

The folder's ``run.json`` says what to pass and, at every moment, how far the run is. One process a notebook, since
papermill cannot run inside another event loop and a kernel must be stoppable without its neighbours; the kernel talks
over IPC, since TCP kernels started side by side race for their ports.
"""

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
from ..files import atomic_write, read_json, write_json, write_text
from ..folder_lock import socket_prefix
from ..processes import end_tree
from ..schema import check
from .notebook_contract import OUT_DIR, RECORDS_DIR
from .notebook_file import import_nbformat, read_notebook
from .own_files import add_to_path, own_files

if TYPE_CHECKING:
    from .warm_kernel import ForkedKernel

RUN_FILE, NOTEBOOK_FILE, HTML_FILE, ERROR_FILE = "run.json", "notebook.ipynb", "notebook.html", "error.txt"
ASIDE = f".{NOTEBOOK_FILE}.part.ipynb"  # papermill saves it after every cell
_FOLDERS = (OUT_DIR, RECORDS_DIR)
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


def execute(notebook: Path, folder: Path, kernel: "ForkedKernel | None" = None) -> bool:
    """Execute a notebook with the parameters of its ``run.json``; True when every cell ran.

    The executed notebook and its HTML appear whole, or, after a failure, as far as they came with ``error.txt`` beside
    them. The kernel begins in the folder, and is given absolute paths, so that a notebook may change its working
    folder; what is kept names no place on this machine.
    """
    started = time.monotonic()
    if own_files(notebook.parent, (cell.source for cell in read_notebook(notebook).cells if cell.is_code)):
        add_to_path(notebook.parent)
    passed = update_state(folder, status="running", started=time.time())["passed"]
    absolute = {name: str((folder / path).resolve()) for name, path in passed.items() if name in _FOLDERS}
    error = _papermill(notebook, folder / ASIDE, {**passed, **absolute}, folder, kernel)
    try:
        keep_executed(notebook, folder, error)
    except (FiltersubError, OSError) as full:  # the error that came first is the one to tell
        error = error or f"{full}\n"
    seconds = round(time.monotonic() - started, 2)
    if error is not None:
        write_text(folder / ERROR_FILE, _portable(error, folder))
    update_state(folder, status="done" if error is None else "failed", seconds=seconds)
    return error is None


def keep_executed(notebook: Path, folder: Path, error: str | None = None) -> None:
    """Make what papermill has saved, perhaps a part only, the folder's notebook and HTML; nothing where there is none.

    ``error`` is the text of a failure, whose first line the page shows. Raises FiltersubError or OSError when that
    cannot be written; half-written files do not stay.
    """
    nbformat = import_nbformat()
    aside = folder / ASIDE
    try:
        executed = nbformat.read(os.fspath(aside), as_version=4)
    except (OSError, ValueError):  # none was begun, or its writer was killed while it wrote
        return
    finally:
        aside.unlink(missing_ok=True)
    executed.metadata.get("papermill", {}).update(input_path=notebook.name, output_path=NOTEBOOK_FILE)
    executed = nbformat.from_dict(_portable(executed, folder))
    with atomic_write(folder / NOTEBOOK_FILE) as part:
        nbformat.write(executed, part)
    _write_html(executed, notebook, folder, None if error is None else _portable(error, folder).partition("\n")[0])


def _portable(content: Any, folder: Path) -> Any:
    """A notebook or a text with the run's folder as ``.`` and the ablation's as ``../..``; pictures are let be."""
    if isinstance(content, str):
        for place, short in ((folder, "."), (folder.parent.parent, "../..")):
            content = re.sub(rf"{re.escape(str(place))}(?![\w.-])", short, content)
        return content
    if isinstance(content, dict):
        return {key: each if key.startswith("image/") else _portable(each, folder) for key, each in content.items()}
    return [_portable(each, folder) for each in content] if isinstance(content, list) else content


def _papermill(
    notebook: Path, aside: Path, passed: dict[str, Any], folder: Path, kernel: "ForkedKernel | None"
) -> str | None:
    """Run papermill; the error's text, its first line the exception itself, or None."""
    import_nbformat()
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    # a socket's path may not exceed about 100 characters
    with tempfile.TemporaryDirectory(prefix=socket_prefix()) as sockets:
        os.environ["JUPYTER_RUNTIME_DIR"] = sockets
        config = Config()
        # beside the sockets: what a killed process leaves there is swept at the next start
        config.KernelManager.connection_file = os.path.join(sockets, "kernel.json")
        if os.name != "nt":
            config.KernelManager.update({"transport": "ipc", "ip": f"{sockets}/kernel"})
        if kernel is not None:
            from .warm_kernel import manager_class

            config.NotebookClient.kernel_manager_class = manager_class(kernel)
        try:
            papermill.execute_notebook(
                *(str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, aside)),  # it formats them
                passed,
                progress_bar=False,
                cwd=folder,
                config=config,
                autosave_cell_every=15,
                language=_language(notebook),
            )
        except PapermillExecutionError as error:
            lines = "\n".join(error.traceback)
            # As written, counted from 1: the index counts from 0, but with the cell that papermill added.
            first = f"{error.ename}: {error.evalue} (cell {error.cell_index} of {notebook.name})"
            return _ANSI.sub("", f"{first}\n\n{lines}\n")
        except Exception as error:  # a kernel that died, a disk that is full: all of it is this run's failure
            return f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
    return None


def _language(notebook: Path) -> str | None:
    """Python where the notebook states none, as only some editors do; None leaves it to what the notebook says."""
    stated = import_nbformat().read(os.fspath(notebook), as_version=4).metadata
    named = stated.get("kernelspec", {}).get("language") or stated.get("language_info", {}).get("name")
    return None if named else "python"


def _write_html(executed: Any, notebook: Path, folder: Path, error: str | None) -> None:
    from ..records import describe_environment, read_record
    from .notebook_html import write_html

    run = read_state(folder)
    try:
        record = read_record(folder)
        environment, run = record.environment, {**run, "parameters": record.parameters}
    except ValueError:  # a notebook that only reads records writes none
        environment = describe_environment()
    described = {"environment": environment, "run": run, "error": error, "pictures": notebook.parent}
    write_html(executed, folder / HTML_FILE, name=notebook.stem, **described)


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
