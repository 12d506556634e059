"""The warm process, ``filtersub.ablation.warm_process``: imports once what notebooks import, then forks for each run.

A fork copies no memory and imports nothing, so that a run begins at once; it is a process of its own all the same, and
so is its kernel, each to be killed alone. On Linux only: elsewhere the libraries that are loaded do not bear a fork.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..processes import end_tree, end_with_parent
from .notebook_file import import_nbformat

#: What a runner needs, then what the notebooks of this package import. One that is not installed is left out.
_OWN = ("filtersub.experiment", "filtersub.report", "filtersub.studies", "filtersub.tuning")
_PRELOADED = (
    *("papermill", "nbformat", "nbconvert", "filtersub.ablation.notebook_run", "filtersub.ablation.notebook_html"),
    *("ipykernel.kernelapp", "ipykernel.ipkernel", "matplotlib.pyplot", "matplotlib_inline.config", "pandas"),
    *("seaborn", "torch", "torchvision", "timm", "peft", "accelerate", "sklearn.datasets", *_OWN),
)
REFUSED = 3  # exit code: this process must not fork


def preload(names: tuple[str, ...] = _PRELOADED) -> None:
    """Import all this and keep the collector's hands, which would copy the pages, off it."""
    with contextlib.suppress(ImportError):
        import_nbformat()
    for name in names:
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            for public in module.__all__ if name in _OWN else ():  # which load when first used
                getattr(module, public)
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _ends_with_input() -> Iterator[None]:
    """Have the system end this process as soon as standard input ends: imports take long, and ask nobody meanwhile."""
    descriptor = sys.stdin.fileno()
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)  # SIGIO, whose default is to end
    if select.select([descriptor], [], [], 0)[0]:  # it ended before
        os._exit(1)
    try:
        yield
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)


def serve(address: str) -> dict[str, Any] | None:
    """Fork a child for each connection's request. Returns the request in a child, None when standard input ends.

    A connection brings one line of JSON and gets two: the child's process id, and its exit code when it has ended.
    A connection that is closed before ends its child, and the end of standard input ends all of them.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)  # before the imports: callers connect meanwhile and wait
    listener.listen(64)
    with _ends_with_input():
        preload()
    if threading.active_count() > 1:
        print("a thread was started by an import; runs start cold", file=sys.stderr)
        sys.exit(REFUSED)
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    woken, waking = socket.socketpair()
    for end in (woken, waking):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    for end in (listener, woken, sys.stdin):
        selector.register(end, selectors.EVENT_READ)
    children: dict[int, socket.socket] = {}
    while True:
        for key, _ in selector.select():
            end = key.fileobj
            if end is sys.stdin:
                if not os.read(sys.stdin.fileno(), 1):
                    for pid in children:
                        end_tree(pid)
                    return None
            elif end is woken:
                with contextlib.suppress(BlockingIOError):
                    woken.recv(4096)
                _report_ended(children, selector)
            elif end is listener:
                request = _fork_for(listener.accept()[0], children, selector)
                if request is not None:
                    for each in (listener, woken, waking, *children.values()):
                        each.close()
                    selector.close()
                    return request
            else:  # the caller gave the run up
                for pid in [pid for pid, other in children.items() if other is end]:
                    end_tree(pid)
                selector.unregister(end)


def _fork_for(
    caller: socket.socket, children: dict[int, socket.socket], selector: selectors.BaseSelector
) -> dict[str, Any] | None:
    """The request in the child that it is for, None in this process."""
    with caller.makefile() as lines:
        line = lines.readline()
    if not line:
        caller.close()
        return None
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        end_with_parent(parent)
        caller.close()
        return json.loads(line)
    children[pid] = caller
    selector.register(caller, selectors.EVENT_READ)
    _send(caller, {"pid": pid})
    return None


def _report_ended(children: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            caller = children.pop(pid)
            with contextlib.suppress(KeyError):
                selector.unregister(caller)
            _send(caller, {"code": os.waitstatus_to_exitcode(status)})
            caller.close()


def _send(caller: socket.socket, message: dict[str, int]) -> None:
    with contextlib.suppress(OSError):  # the caller is gone; its run is ended when that is noticed
        caller.sendall(json.dumps(message).encode() + b"\n")


def run_one(request: dict[str, Any]) -> int:
    """In a child: execute the notebook that was asked for with a kernel forked now. The exit code of the process."""
    from .notebook_run import execute
    from .warm_kernel import ForkedKernel, fork_kernel

    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(request["environment"])
    kernel = fork_kernel()
    if not isinstance(kernel, ForkedKernel):
        kernel()
        return 0
    code = 0 if execute(Path(request["notebook"]), Path(request["folder"]), kernel) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to be done, and taking all these libraries apart takes half a second


def main(arguments: list[str]) -> int:
    # `python -m` put the folder it was called in first; a kernel would not look there.
    sys.path[:] = [entry for entry in sys.path if entry != os.getcwd()]
    request = serve(arguments[0])
    return 0 if request is None else run_one(request)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
