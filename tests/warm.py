"""One process per session with torch, timm and peft imported, which forks for notebooks and for commands.

Each run is a process of its own with its own environment, folder, output and exit code; only the imports are shared.
``python tests/warm.py ADDRESS`` is that process.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

#: See there: imported by other processes, never by the tests' own.
LIGHT = Path(__file__).with_name("light_warm.py")
#: ``python -m filtersub``, whose ablations use light warm processes; the words of the command are to be added.
LIGHT_COMMAND = [
    *(sys.executable, "-c"),
    f"import sys; sys.path.insert(0, {str(LIGHT.parent)!r}); import light_warm; sys.path.pop(0); "
    "from filtersub.cli import main; main()",
]


def start(environment: dict[str, str]) -> Any:
    """The process, as ``filtersub ablate`` starts one, which runs commands too."""
    from filtersub.ablation.warm_start import WarmStart

    class Warm(WarmStart):
        SERVER = (__file__,)

    return Warm(environment)


def run_command(warm: Any, arguments: list[str], folder: Path, **place: Any) -> subprocess.CompletedProcess[str]:
    """``python -m filtersub ARGUMENTS`` in a process forked from this one; a cold process where there is none.

    ``place`` has ``cwd`` and ``env`` as subprocess takes them; the output is read from files in ``folder``.
    """
    command = [sys.executable, "-m", "filtersub", *arguments]
    if warm is not None:
        files = [str(folder / name) for name in ("stdout", "stderr")]
        request = {"arguments": arguments, "files": files, "cwd": str(place["cwd"] or Path.cwd()), "env": place["env"]}
        code = warm.ask(request)
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
    sys.argv[:] = ["filtersub", *request["arguments"]]
    runpy.run_module("filtersub", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, which neither a kernel nor the command would look into
    import filtersub.cli  # noqa: F401
    from filtersub.ablation.warm_process import run_one, serve

    asked = serve(sys.argv[1])
    if asked is not None and "arguments" in asked:
        _be_command(asked)
    elif asked is not None:
        sys.exit(run_one(asked))
