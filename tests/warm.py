"""One process per session with torch, timm and peft imported, which forks for notebooks, commands and code.

Each run is a process of its own with its own environment, folder, output and exit code; only the imports are shared.
``python tests/warm.py ADDRESS`` is that process.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from filtersub.ablation.warm_start import WarmStart

Ended = subprocess.CompletedProcess[str]
#: See there: imported by other processes, never by the tests' own.
LIGHT = Path(__file__).with_name("light_warm.py")
#: ``python -m filtersub``, whose ablations use light warm processes, as code; the words of the command are to be added.
LIGHT_CODE = (
    f"import sys; sys.path.insert(0, {str(LIGHT.parent)!r}); import light_warm; sys.path.pop(0); "
    "from filtersub.cli import main; main()"
)
LIGHT_COMMAND = [sys.executable, "-c", LIGHT_CODE]


class Warm(WarmStart):
    """The process, as ``filtersub ablate`` starts one, which runs commands too."""

    SERVER = (__file__,)

    @property
    def address(self) -> str:
        return os.fspath(self._address)

    def connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        assert self._connected(connection), "the warm process has ended"
        return connection


class Shared(Warm):
    """The same process, started by another one, which ends it."""

    def __init__(self, address: str) -> None:
        self._address = Path(address)

    def _connected(self, connection: socket.socket) -> bool:
        connection.connect(self.address)
        return True


def run_command(warm: Any, arguments: list[str], folder: Path, **place: Any) -> Ended:
    """``python -m filtersub ARGUMENTS`` in a process forked from this one; a cold process where there is none.

    ``place`` has ``cwd`` and ``env`` as subprocess takes them; the output is read from files in ``folder``.
    """
    return _run(warm, ["-m", "filtersub"], {"arguments": arguments}, folder, **place)


def run_code(warm: Any, code: str, arguments: list[str], folder: Path, **place: Any) -> Ended:
    """``python -c CODE ARGUMENTS`` likewise, for code that need not import for itself what it uses."""
    return _run(warm, ["-c", code], {"arguments": arguments, "code": code}, folder, **place)


class Begun:
    """``python -c CODE ARGUMENTS`` in a process forked from this one, with as much of Popen as tests of its end use."""

    def __init__(self, warm: Any, code: str, arguments: list[str]) -> None:
        place = {"files": [os.devnull] * 2, "cwd": os.getcwd(), "env": {**os.environ}}
        self._connection = warm.connected()
        self._connection.sendall(json.dumps({"code": code, "arguments": arguments, **place}).encode() + b"\n")
        self._answers = self._connection.makefile()
        self.pid = json.loads(self._answers.readline())["pid"]

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        return json.loads(self._answers.readline() or '{"code": -9}')["code"]


def begin(warm: Any, code: str, arguments: list[str]) -> Any:
    """The same process, begun; a cold one where there is none to fork from."""
    if warm is not None:
        return Begun(warm, code, arguments)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], **quiet)


def launched(warm: Any, launcher: list[str], run: list[str], folder: Path, env: dict[str, str]) -> Ended:
    """``python -m LAUNCHER ... RUN``, where the processes that the launcher starts are forked from this one too.

    ``run`` is ``["-m", "filtersub", WORD, ...]`` or ``["-c", CODE, ARGUMENT, ...]``. The launcher is the real one, and
    gives each process its variables.
    """
    kind, what, *arguments = run
    if warm is None:
        script = ["-m", what]
        if kind == "-c":
            (folder / "script.py").write_text(what)
            script = [str(folder / "script.py")]
        command = [sys.executable, "-m", *launcher, *script, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    module, *options = launcher
    code = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    script = [str(Path(__file__).with_name("warm_rank.py")), warm.address]
    script.append(json.dumps({"code": what} if kind == "-c" else {}))
    return run_code(warm, code, [*options, *script, *arguments], folder, cwd=None, env=env)


def _run(warm: Any, words: list[str], request: dict[str, Any], folder: Path, **place: Any) -> Ended:
    command = [sys.executable, *words, *request["arguments"]]
    if warm is not None:
        files = [str(folder / name) for name in ("stdout", "stderr")]
        where = {"files": files, "cwd": str(place["cwd"] or Path.cwd()), "env": place["env"]}
        code = warm.ask({**request, **where})
        if code is not None:
            return subprocess.CompletedProcess(command, code, *(Path(file).read_text() for file in files))
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **place)


def _be_command(request: dict[str, Any]) -> None:
    for target, name in zip((1, 2), request["files"], strict=True):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(file, target)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if "code" in request:
        sys.argv[:] = ["-c", *request["arguments"]]
        sys.path.insert(0, "")
        exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})
        return
    sys.argv[:] = ["filtersub", *request["arguments"]]
    runpy.run_module("filtersub", run_name="__main__", alter_sys=True)


def _end_after(call: Callable[[], object]) -> NoReturn:
    """Call and end as Python does, but for taking all imports apart, which copies their pages: half a second."""
    code: object = 0
    try:
        call()
    except SystemExit as left:
        code = left.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120
    os._exit(code)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, which neither a kernel nor the command would look into
    import filtersub.cli.application  # noqa: F401
    from filtersub.ablation.warm_process import run_one, serve

    asked = serve(sys.argv[1])
    if asked is not None and "arguments" in asked:
        _end_after(lambda: _be_command(asked))
    elif asked is not None:
        _end_after(lambda: sys.exit(run_one(asked)))
