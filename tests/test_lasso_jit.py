"""Compiled kernels on disk belong to the sources they were made of; what takes long says so."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from filtersub.sparse_coding import _lasso_jit, _lasso_wide

FOLDER = Path(_lasso_jit.__file__).parent
PACKAGE = FOLDER.parent


def test_a_kernel_depends_on_all_files_that_it_calls_into(tmp_path):
    for path in FOLDER.glob("*.py"):
        shutil.copy(path, tmp_path)
    wide = tmp_path / "_lasso_wide.py"
    names = {path.name for path in _lasso_jit.sources(wide)}
    assert {"_lasso_wide.py", "_lasso_path.py", "_lasso_active.py", "_lasso_path_simd.py", "_lasso_simd.py"} <= names
    assert "_lasso_table.py" not in names
    before = _lasso_jit.sources_stamp(wide)
    assert before == _lasso_jit.sources_stamp(FOLDER / "_lasso_wide.py")
    with (tmp_path / "_lasso_simd.py").open("a") as file:
        file.write("# changed\n")
    assert _lasso_jit.sources_stamp(wide) != before


KERNELS = sorted(
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.glob("*/*.py")
    if "import compiled" in path.read_text() and path.name != "_lasso_simd.py"
)


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "filtersub"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__", "assets", "*.html", "*.css"))
    return folder


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_change_in_another_folder_reaches_the_kernels_that_import_it(copied, kernel):
    """Every file of vector functions that a file of kernels imports, directly or not, changes its stamp; no other."""
    before = _lasso_jit.sources_stamp(copied / kernel)
    assert before == _lasso_jit.sources_stamp(PACKAGE / kernel)
    vectors = [path.relative_to(copied).as_posix() for path in copied.glob("*/*_simd.py")]
    reached = set()
    for changed in [*vectors, "dictionary/_vectors.py"]:
        source = (copied / changed).read_text()
        (copied / changed).write_text(source + "# changed\n")
        _lasso_jit.sources.cache_clear()
        if _lasso_jit.sources_stamp(copied / kernel) != before:
            reached.add(changed)
        (copied / changed).write_text(source)
    assert reached == _imported_vectors(kernel) - {kernel}


def _imported_vectors(kernel):
    """By reading the import lines, without the syntax tree that the stamp uses."""
    seen, waiting = set(), [kernel]
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        folder = here.split("/")[0]
        lines = r"^from \.{1,2}(?:([a-z][a-z_]*)\.)?(_[a-z_]+) import"
        for other, name in re.findall(lines, (PACKAGE / here).read_text(), re.M):
            waiting.append(f"{other or folder}/{name}.py")
    return {name for name in seen if name.endswith("_simd.py") or name == "dictionary/_vectors.py"}


def test_the_cache_goes_by_that_stamp():
    kernel = _lasso_wide.solve_rows
    assert kernel._cache._cache_file._source_stamp == _lasso_jit.sources_stamp(FOLDER / "_lasso_wide.py")


def test_without_a_place_for_the_cache_kernels_are_compiled_in_memory(tmp_path):
    code = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl.__init__ = lambda *_: (_ for _ in ()).throw(RuntimeError('no locator available'))\n"
        "from filtersub.sparse_coding._lasso_jit import compiled\n"
        "assert compiled(lambda x: x + 1)(1) == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.parametrize("n_atoms", [9, 20])
def test_what_was_compiled_ahead_is_what_is_called(n_atoms):
    from filtersub.sparse_coding import _lasso_pivot
    from filtersub.sparse_coding.lasso import lasso, warm_up

    torch = pytest.importorskip("torch")
    warm_up()
    kernels = (_lasso_pivot.solve_rows, _lasso_wide.solve_rows)
    before = [len(kernel.signatures) for kernel in kernels]
    for dtype in (torch.float32, torch.float64):
        rows, atoms = torch.randn(100, 9, dtype=dtype), torch.randn(n_atoms, 9)
        lasso(rows, atoms, 0.1)
        lasso(rows, atoms, 1, codes_init=torch.zeros(100, n_atoms), nonnegative=True)
        lasso(rows.T.contiguous().T[:, :1], atoms[:, :1], 0.1)
    assert [len(kernel.signatures) for kernel in kernels] == before
