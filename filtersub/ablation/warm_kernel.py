"""A Jupyter kernel forked before it is needed, its imports made: it answers in a tenth of a second, not in seconds.

Forked while its parent has one thread and no socket, so that nothing is shared that must not be. papermill talks to it
as to any kernel; a notebook that asks for another kernel, or a kernel that is started again, gets an ordinary process.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from ..processes import end_with_parent

_LAUNCHER = ["-m", "ipykernel_launcher"]


class ForkedKernel:
    """The parent's side of a forked, waiting kernel, with as much of Popen's interface as jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, told: int) -> None:
        self.pid, self._told, self.returncode = pid, told, None

    def start(self, arguments: list[str], cwd: str, environment: dict[str, str]) -> None:
        """Tell it to become a kernel with ipykernel's command line, in this folder, with exactly this environment."""
        with os.fdopen(self._told, "w") as pipe:
            json.dump({"arguments": arguments, "cwd": cwd, "environment": environment}, pipe)
        self._told = -1

    @property
    def is_waiting(self) -> bool:
        return self._told >= 0

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def fork_kernel() -> ForkedKernel | Callable[[], None]:
    """Fork a waiting kernel. In the parent: its handle. In the child: what to call, once, to wait and be the kernel."""
    parent = os.getpid()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reading)
        os.setpgid(pid, pid)  # a group of its own, which an interrupt goes to
        return ForkedKernel(pid, writing)
    end_with_parent(parent)
    os.close(writing)
    return lambda: _be_kernel(reading)


def _be_kernel(reading: int) -> None:
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    if not told:  # the parent took another kernel
        return
    wanted = json.loads(told)
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    # which an interpreter that starts would do
    sys.path[:0] = [
        each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each not in sys.path
    ]
    _draw_anew()
    from ipykernel.kernelapp import IPKernelApp

    # Its default was read from the environment when the module was imported, long before there was this parent.
    app = IPKernelApp.instance(parent_handle=os.getppid())
    app.initialize(wanted["arguments"])
    _show_inline(app.shell)
    app.start()


def _draw_anew() -> None:
    """The global generators are copies of the parent's: every kernel would draw the same and take it for chance."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()  # the CPU's; those of GPUs begin when they are first used


def _show_inline(shell: Any) -> None:
    """matplotlib's inline backend looks for the shell when it is imported, and was imported before there was one."""
    if "matplotlib_inline.backend_inline" in sys.modules:
        from IPython.core.pylabtools import activate_matplotlib
        from matplotlib_inline.backend_inline import configure_inline_support

        backend = "module://matplotlib_inline.backend_inline"
        activate_matplotlib(backend)
        configure_inline_support(shell, backend)


class _ForkedProvisioner(LocalProvisioner):
    """Starts the forked kernel where this very interpreter's own ipykernel is wanted, a process elsewhere."""

    forked: ForkedKernel

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        own = Path(cmd[0]) == Path(sys.executable) and cmd[1:3] == _LAUNCHER and not self.kernel_spec.env
        if not (own and self.forked.is_waiting):
            return await super().launch_kernel(cmd, **kwargs)
        self.forked.start(cmd[3:], str(kwargs.get("cwd") or Path.cwd()), kwargs["env"])
        self.process = self.forked
        self.pid = self.pgid = self.forked.pid
        self.cwd = kwargs.get("cwd", Path.cwd())
        return self.connection_info


def manager_class(forked: ForkedKernel) -> type[AsyncKernelManager]:
    """A kernel manager, to be given to nbclient, whose first kernel is this one."""

    class ForkedKernelManager(AsyncKernelManager):
        async def _async_pre_start_kernel(self, **kwargs: Any) -> Any:
            if self.provisioner is None:
                self.kernel_id = self.kernel_id or kwargs.pop("kernel_id", f"forked-{forked.pid}")
                given = {"kernel_id": self.kernel_id, "kernel_spec": self.kernel_spec, "parent": self}
                self.provisioner = _ForkedProvisioner(**given)
                self.provisioner.forked = forked
            return await super()._async_pre_start_kernel(**kwargs)

    return ForkedKernelManager
