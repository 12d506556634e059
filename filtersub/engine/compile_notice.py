"""What a user is told while numba compiles a kernel: once a process, and only where it compiles.

Loading a kernel from numba's cache on disk is no compiling, however long it takes on a busy machine.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator

TEXT = "compiling kernels, once on this machine (about a minute) ..."
_SECONDS = 1.0  # of compiling before it is told
_said = threading.Event()
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def compile_notice() -> Iterator[None]:
    """Tell of compiling that begins inside the block and takes more than a second, unless this process has told before.

    In a notebook it is told as plain output, elsewhere on the error stream.
    """
    from numba.core import event

    class Compiling(event.Listener):
        def on_start(self, _: event.Event) -> None:
            if not timer.is_alive() and not timer.finished.is_set():
                timer.start()

        def on_end(self, _: event.Event) -> None:
            """Nothing: compiling one kernel compiles those that it calls, and the block ends with the last."""

    timer = threading.Timer(_SECONDS, _tell)
    timer.daemon = True
    with event.install_listener("numba:compile", Compiling()):
        try:
            yield
        finally:
            timer.cancel()


def _tell() -> None:
    if _said.is_set():
        return
    _said.set()
    if _in_notebook():
        print(TEXT, flush=True)  # the error stream is a red block there
    else:
        _log.warning(TEXT)


def _in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
