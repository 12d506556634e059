"""The caller's side of a warm process: start it, have it run notebooks, end it with all it started."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..folder_lock import socket_prefix
from ..processes import end_tree

#: Forking a process with these libraries loaded is sound on Linux alone.
AVAILABLE = sys.platform == "linux"


class WarmStart:
    """A warm process with this environment, in which the threads of its libraries are capped; see warm_process.

    Attributes
    ----------
    runs : that use it at this moment, as its owner counts them
    """

    SERVER = ("-m", "filtersub.ablation.warm_process")  # what Python runs, with the address of its socket added

    def __init__(self, environment: dict[str, str]) -> None:
        self.runs = 0
        self._folder = Path(tempfile.mkdtemp(prefix=socket_prefix()))
        self._address = self._folder / "runs"
        # inline figures as in every kernel; CUDA asked about without being started, which no fork would survive
        settled = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        self._log = open(self._folder / "log.txt", "wb")  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            [sys.executable, *self.SERVER, str(self._address)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env=environment | settled,
            start_new_session=True,
        )

    def ask(self, request: dict[str, Any]) -> int | None:
        """Have a process forked for this request (notebook, folder, log: paths; environment: what the process gets
        beside the warm process's own); its return code as Popen gives it, once it has ended. None where it could not be
        started."""
        with socket.socket(socket.AF_UNIX) as connection:
            if not self._connected(connection):
                return None
            try:
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile() as answers:
                    if not answers.readline():
                        return None
                    ended = answers.readline()
            except OSError:  # the warm process is gone, and each of its runs with it
                return -signal.SIGKILL
        return json.loads(ended)["code"] if ended else -signal.SIGKILL

    def close(self) -> None:
        """End the warm process and every run it has."""
        end_tree(self.process.pid)
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connected(self, connection: socket.socket) -> bool:
        while self.process.poll() is None:
            try:
                connection.connect(os.fspath(self._address))
                return True
            except (FileNotFoundError, ConnectionRefusedError):  # not there yet: it begins to listen within a second
                time.sleep(0.02)
        return False
