"""The notice that kernels compile: once a process, only where numba compiles, as plain output in a notebook."""

import logging
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from filtersub.engine import compile as module
from filtersub.engine.compile import TEXT, compile_notice


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    monkeypatch.setattr(module, "_said", threading.Event())


def new_kernel():
    from numba import njit

    return njit(lambda x: x + 1.0)


def compile_anew():
    with compile_notice():
        new_kernel()(1.0)


def test_it_is_said_once_a_process(at_once, caplog):
    with caplog.at_level(logging.WARNING):
        compile_anew()
        compile_anew()
    assert caplog.messages == [TEXT]


def test_what_is_compiled_already_is_no_news(at_once, caplog):
    kernel = new_kernel()
    kernel(1.0)
    with caplog.at_level(logging.WARNING), compile_notice():
        kernel(2.0)
        threading.Event().wait(0.05)
    assert caplog.messages == []


def test_a_notebook_is_told_on_its_plain_output(at_once, capsys, caplog, monkeypatch):
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    with caplog.at_level(logging.WARNING):
        compile_anew()
    assert caplog.messages == []
    assert capsys.readouterr() == (f"{TEXT}\n", "")


CODE = """
from numba import njit
from filtersub.engine import compile as module
module._SECONDS = 0.0

@njit(cache=True)
def kernel(x):
    return x + 1.0

with module.compile_notice():
    kernel(1.0)
"""


def test_a_later_process_that_loads_the_kernel_says_nothing(tmp_path):
    (tmp_path / "own.py").write_text(CODE)
    said = [
        subprocess.run([sys.executable, "own.py"], cwd=tmp_path, capture_output=True, text=True, check=True).stderr
        for _ in range(2)
    ]
    assert said == [f"{TEXT}\n", ""]
