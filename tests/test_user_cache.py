"""What the user's cache keeps: the same as what is made, made again when it is damaged, and never a reason to fail."""

import os
import sys
import time
from types import SimpleNamespace

import pytest

from filtersub.report.interactive import vega_script
from filtersub.user_cache import cache_folder, write_cached


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """vl-convert of a short script, and how often it was asked; the cache is a folder of this test."""
    calls = []
    made = SimpleNamespace(javascript_bundle=lambda: calls.append(1) or "vega('µ', '</script>')")
    monkeypatch.setitem(sys.modules, "vl_convert", made)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    vega_script.cache_clear()
    yield calls
    vega_script.cache_clear()


def in_a_new_process():
    vega_script.cache_clear()
    return vega_script()


def test_vegas_script_is_bundled_once(bundled):
    assert [vega_script(), in_a_new_process()] == ["vega('µ', '<\\/script>')"] * 2
    assert len(bundled) == 1


@pytest.mark.parametrize("damage", [b"", b"vega()", b"\xff\xfe", b"0" * 64 + b"\nvega()"])
def test_a_damaged_script_is_bundled_again(bundled, damage):
    vega_script()
    (kept,) = cache_folder().iterdir()
    kept.write_bytes(damage)
    assert in_a_new_process() == "vega('µ', '<\\/script>')"
    assert len(bundled) == 2
    in_a_new_process()
    assert len(bundled) == 2


def test_another_version_has_a_script_of_its_own(bundled, monkeypatch):
    vega_script()
    monkeypatch.setattr("filtersub.report.interactive.version", lambda name: "999")
    in_a_new_process()
    assert len(bundled) == 2
    assert len(list(cache_folder().iterdir())) == 2


def test_without_a_cache_the_script_is_bundled_each_time(bundled, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("no folder")
    assert [in_a_new_process(), in_a_new_process()] == ["vega('µ', '<\\/script>')"] * 2
    assert len(bundled) == 2
    monkeypatch.setattr("filtersub.report.interactive.cache_folder", lambda: None)
    in_a_new_process()
    assert len(bundled) == 3


def test_files_of_old_versions_are_removed(tmp_path):
    month = time.time() - 31 * 86400
    for name in ("vega-1.js", ".vega-1.js.5.part", "dry-run-1.json"):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (month, month))
    (tmp_path / "vega-2.js").write_text("")
    write_cached(tmp_path / "vega-3.js", "x", "vega-")
    assert {path.name for path in tmp_path.iterdir()} == {"vega-2.js", "vega-3.js", "dry-run-1.json"}


def test_no_home_is_no_cache(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_folder() is None
