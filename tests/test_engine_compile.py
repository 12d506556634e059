"""Compiled kernels on disk belong to the sources they were made of; all that is compiled is in the engine."""

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from filtersub.engine import compile as engine
from filtersub.engine.lasso import few_atoms, many_atoms

ENGINE = engine.ENGINE
PACKAGE = ENGINE.parent
FILES = sorted(path.relative_to(ENGINE).as_posix() for path in ENGINE.rglob("*.py"))
COMPILERS = ("numba", "llvmlite")


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "engine"
    shutil.copytree(ENGINE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_a_copy_has_the_stamp_of_the_original(copied):
    assert engine.stamp(copied) == engine.stamp()


@pytest.mark.parametrize("name", FILES)
def test_a_change_in_any_file_is_a_stamp_of_its_own(copied, name):
    before, source = engine.stamp(copied), (copied / name).read_text()
    (copied / name).write_text(source + "# changed\n")
    assert engine.stamp(copied) != before
    (copied / name).write_text(source)
    assert engine.stamp(copied) == before


def test_a_file_more_a_file_less_and_another_name_are_stamps_of_their_own(copied):
    before, path = engine.stamp(copied), copied / "pursuit.py"
    path.rename(copied / "other.py")
    renamed = engine.stamp(copied)
    (copied / "other.py").rename(path)
    (copied / "more.py").write_text("")
    more = engine.stamp(copied)
    (copied / "more.py").unlink()
    assert len({before, renamed, more}) == 3
    assert engine.stamp(copied) == before


def test_a_kernel_that_another_file_was_inlined_into_is_compiled_anew(tmp_path):
    """What numba alone would miss: the caller's own file stays as it was."""
    package = tmp_path / "filtersub"
    (package / "engine").mkdir(parents=True)
    shutil.copy(ENGINE / "compile.py", package / "engine")
    for folder in (package, package / "engine"):
        (folder / "__init__.py").write_text("")
    (package / "engine" / "caller.py").write_text(
        "from .callee import callee\nfrom .compile import compiled\n\n\n"
        "@compiled\ndef caller(x):\n    return callee(x)\n\n\nprint(caller(1.0), caller.stats.cache_hits)\n"
    )
    results = []
    for addend in (1, 1, 2):
        (package / "engine" / "callee.py").write_text(
            f"from .compile import compiled\n\n\n@compiled\ndef callee(x):\n    return x + {addend}.0\n"
        )
        command = [sys.executable, "-c", "import filtersub.engine.caller"]
        # Python itself takes a file of the same second and length for the one it has compiled
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        value, hits = done.stdout.split(" ", 1)
        results.append((float(value), "float64" in hits))
    assert results == [(2.0, False), (2.0, True), (3.0, False)]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


def test_all_that_is_compiled_is_in_the_engine():
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] in COMPILERS for name in imported_modules(path))
    }
    assert users == {"engine"}


def test_no_private_part_of_the_compilers_is_used():
    """Modules of numba.core that its documentation of extensions and of events imports, and no attribute with _."""
    allowed = {"numba", "numba.core", "numba.extending", "llvmlite"}
    for path in ENGINE.rglob("*.py"):
        names = {name for name in imported_modules(path) if name.split(".")[0] in COMPILERS}
        assert names <= allowed, path.name
        private = re.findall(
            r"\b(?:kernel|function|numba|llvmlite|ir|cgutils|types|context|builder)\._(?!_)\w+", path.read_text()
        )
        assert not private, path.name


def test_kernels_are_kept_in_the_folder_of_the_stamp():
    folder = engine.cache_folder()
    assert folder.name.endswith(engine.stamp())
    for kernel in (few_atoms.solve_rows, many_atoms.solve_rows):
        assert Path(kernel.stats.cache_path).parent == folder


def test_numbas_own_setting_is_left_as_it_was():
    import numba

    before = numba.config.CACHE_DIR
    engine.compiled(lambda x: x)
    assert before == numba.config.CACHE_DIR


def test_the_folder_that_the_user_names_is_taken(tmp_path):
    code = "from filtersub.engine.compile import cache_folder; print(cache_folder())"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == tmp_path


def test_without_a_place_for_the_cache_kernels_are_compiled_in_memory(monkeypatch):
    monkeypatch.setattr(engine, "cache_folder", lambda: None)
    kernel = engine.compiled(lambda x: x + 1)
    assert kernel(1) == 2
    assert kernel.stats.cache_path is None


def test_old_versions_are_forgotten(tmp_path):
    here, old, new = (tmp_path / f"filtersub-kernels-{name}" for name in "abc")
    other = tmp_path / "x"
    for folder in (here, old, new, other):
        folder.mkdir()
        (folder / "kernel.nbc").write_text("")
    long_ago = time.time() - 30 * 86400
    for path in (old / "kernel.nbc", old, other / "kernel.nbc", other):
        os.utime(path, (long_ago, long_ago))
    engine._forget_old_versions(here)
    assert sorted(path.name for path in tmp_path.iterdir()) == [here.name, new.name, "x"]


@pytest.mark.parametrize("n_atoms", [9, 20])
def test_what_was_compiled_ahead_is_what_is_called(n_atoms):
    import torch

    from filtersub.sparse_coding import lasso, warm_up

    warm_up()
    kernels = (few_atoms.solve_rows, many_atoms.solve_rows)
    before = [len(kernel.signatures) for kernel in kernels]
    for dtype in (torch.float32, torch.float64):
        rows, atoms = torch.randn(100, 9, dtype=dtype), torch.randn(n_atoms, 9)
        lasso(rows, atoms, 0.1)
        lasso(rows, atoms, 1, codes_init=torch.zeros(100, n_atoms), nonnegative=True)
        lasso(rows.T.contiguous().T[:, :1], atoms[:, :1], 0.1)
    assert [len(kernel.signatures) for kernel in kernels] == before
