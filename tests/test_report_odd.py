"""Odd records cost a report nothing but themselves: each is named in it, and the rest is drawn."""

import html
import json
import re
import shutil
from dataclasses import replace
from urllib.parse import unquote

import pandas as pd
import pytest
from test_report import history_of, page_of, record_of, words_of

from filtersub.collect import collect, curve_table, history_table
from filtersub.errors import DamagedPlanWarning
from filtersub.files import write_json
from filtersub.records import Record
from filtersub.report.merge import merge
from filtersub.report.provenance import last_date
from filtersub.report.studies import study_sections


def changed(folder, **changes):
    path = folder / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def root(tmp_path):
    for seed in (0, 1):
        for label in ("linear probing", "atoms m=9"):
            record = record_of(label, seed)
            record.write(tmp_path / f"{label[:5]}-{seed}", history=history_of(record.metrics["test_accuracy"]))
    return tmp_path


SET_ASIDE = {
    "a type": ({"seed": "zero"}, "seed should be a whole number, got 'zero'"),
    "a missing count": ({"counts": {"head": 5, "total": 9}}, "counts.trainable is missing"),
    "percent": ({"metrics": {"test_accuracy": 50.0}}, "metrics.test_accuracy is 50"),
    "a list for a mapping": ({"environment": []}, "environment"),
    "no metrics": ({"metrics": {"test_accuracy": None}}, "metrics.test_accuracy should be a valid number, got None"),
    "a huge count": ({"counts": {"trainable": 10**30, "head": 5, "total": 9}}, "counts.trainable should be less"),
    "counts as texts": ({"counts": {"trainable": "5", "head": 5, "total": 9}}, "counts.trainable should be a whole"),
    "a negative count": ({"counts": {"trainable": -5, "head": 5, "total": 9}}, "counts.trainable should be greater"),
    "no model": ({"counts": {"trainable": 5, "head": 5, "total": 0}}, "counts.total is 0"),
    "accuracy 250": ({"metrics": {"test_accuracy": 250}}, "metrics.test_accuracy is 250, and accuracies are fractions"),
    "a negative time": ({"cost": {"wall_seconds": -1.5}}, "cost.wall_seconds is -1.5, and nothing takes less than 0"),
    "a newer schema": (
        {"schema": 99, "colour": "red"},
        "schema 99 is of a newer filtersub, this one reads up to 3; update filtersub",
    ),
    "a schema of none": ({"schema": 0}, "schema should be greater than or equal to 1, got 0"),
    "no date": ({"environment": {"date": "yesterday"}}, "environment.date is 'yesterday', which is no date"),
    "versions": ({"environment": {"versions": ["torch"]}}, "environment.versions"),
}


@pytest.mark.parametrize("name", SET_ASIDE)
def test_an_odd_record_is_set_aside_and_named(name, root):
    changes, message = SET_ASIDE[name]
    record_of("full tuning").write(root / "odd")
    changed(root / "odd", **changes)
    found = collect(root)
    assert len(found.of_kind("tuning")) == 4
    (line,) = found.damaged
    assert line.startswith(f"{root / 'odd' / 'record.json'} is not a readable record: {message}")


WRITTEN = {
    "a trailing comma": (lambda text: text.replace(b'"tuning",', b'"tuning",,', 1), "line 2"),
    "truncated": (lambda text: text[:200], "line"),
    "empty": (lambda text: b"", "line 1 column 1"),
    "an array": (lambda text: b"[" + text + b"]", r"should be a mapping, got \[\{"),
    "of a word": (lambda text: b'"done"', "should be a mapping"),
    "UTF-16": (lambda text: text.decode().encode("utf-16"), r"it is no UTF-8 text \(byte 0\); save it as UTF-8"),
    "a name twice": (lambda text: text.replace(b'"label"', b'"kind": "x", "label"', 1), "it names 'kind' twice"),
    "NaN": (lambda text: text.replace(b'"seed": 0', b'"seed": NaN'), "it holds NaN, which is no JSON"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_that_an_editor_damaged_is_named(name, root):
    change, message = WRITTEN[name]
    record_of("full tuning").write(root / "odd")
    path = root / "odd" / "record.json"
    path.write_bytes(change(path.read_bytes()))
    (line,) = collect(root).damaged
    assert re.match(f"{re.escape(str(path))} is not a readable record: .*{message}", line)
    assert "\n" not in line


def test_what_editors_of_windows_add_changes_nothing(root):
    before = collect(root)
    for folder in root.iterdir():
        for path in folder.iterdir():
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    after, odd = collect(root), []
    assert (after.records, after.damaged) == (before.records, ())
    assert history_table(after.records, odd).equals(history_table(before.records))
    assert odd == []


def test_the_newest_run_is_told_by_its_moment_not_by_its_letters(root):
    """01:30 at +02:00 is before 00:30 at +00:00; a run dated tomorrow next year is not believed; null is no date."""
    dates = {"a-00000001": "2026-01-31T01:30:00+02:00", "a-00000002": "2026-01-31T00:30:00+00:00", "a-00000003": None}
    dates["a-00000004"] = "2999-01-01T00:00:00+00:00"
    for name, date in dates.items():
        record_of("full tuning").write(root / name)
        changed(root / name, environment={"date": date})
    found = collect(root)
    assert [folder.name for folder in found.superseded] == ["a-00000001", "a-00000003"]
    assert found.damaged == (
        f"{root / 'a-00000004' / 'record.json'} is not believed: environment.date is 2999-01-01T00:00:00+00:00, in the "
        "future; correct it",
    )
    assert last_date(found) == "31 January 2026"


def test_a_copied_run_counts_once_and_runs_of_no_plan_are_named(root):
    shutil.copytree(root / "atoms-0", root / "copy of atoms-0")
    planned = [
        {"run_id": f"{label}-{seed}", "folder": f"{label}-{seed}", "reads_records": False}
        for label in ("linea", "atoms")
        for seed in (0, 1)
    ]
    write_json(root / "ablation.json", {"runs": planned})
    record_of("full tuning").write(root / "elsewhere")
    found = collect(root)
    assert len(found.of_kind("tuning")) == 5
    assert found.superseded == ()
    assert found.doubtful == (
        f"{root / 'copy of atoms-0'} holds the record of {root / 'atoms-0'}, to the last digit; it counts once",
        "1 run is not of this folder's plan, and counts: elsewhere",
    )
    words = html.unescape(words_of(page_of(root)))
    assert (
        "Worth knowing copy of atoms-0 holds the record of atoms-0, to the last digit; it counts once; 1 run is"
        in words
    )


def own(folder, kind, **tables):
    Record(kind, "own", {}, 0, {"relative_error": 0.5}, {}, {}, {}).write(folder, **tables)


ODD_PARTS = {
    "a history of words": lambda folder: record_of("full tuning").write(
        folder, history=pd.DataFrame({"epoch": ["one"], "test_accuracy": [0.5]})
    ),
    "a history without epochs": lambda folder: record_of("full tuning").write(folder, history=pd.DataFrame({"a": [1]})),
    "a history that is gone": lambda folder: (
        record_of("full tuning").write(folder, history=history_of(0.5)),
        (folder / "history.csv").rename(folder / "old.csv"),
    ),
    "a curve without its columns": lambda folder: own(folder, "decomposition", curve=pd.DataFrame({"n": [1]})),
    "a model without its tables": lambda folder: own(folder, "decomposition", network=pd.DataFrame({"m": [1]})),
    "a study of another version": lambda folder: own(folder, "penalty", total=pd.DataFrame({"x": [1]})),
    "solvers without a table": lambda folder: own(folder, "solvers"),
    "maps": lambda folder: own(folder, "attribution", summary=pd.DataFrame({"x": [1]})),
}


@pytest.mark.parametrize("name", ODD_PARTS)
def test_an_odd_part_is_left_out_and_named(name, root):
    ODD_PARTS[name](root / "odd")
    found, odd = collect(root), []
    assert len(history_table(found.records, odd)) == 8
    assert curve_table(found.records, odd).empty
    assert study_sections(found, odd) == []
    assert any(str(root / "odd") in line for line in odd)
    assert not any("\n" in line for line in odd)


def test_a_column_that_a_study_lacks_is_named(root):
    runs = pd.DataFrame({"budget": 100, "setting": ["a", "b"], "score": 0.1, "trainable": 90, "test_accuracy": 0.5})
    own(root / "odd", "allotment", runs=runs.assign(seed=0), layers=pd.DataFrame({"budget": [100]}))
    odd = []
    assert study_sections(collect(root), odd) == []
    assert f"{root / 'odd'} is left out: it has no 'kind'" in odd


def test_the_page_names_what_is_missing_and_shows_the_rest(root):
    for name in ("a", "b"):
        record_of("full tuning").write(root / name)
        changed(root / name, seed="<zero>")
    ODD_PARTS["a study of another version"](root / "odd")
    words = html.unescape(words_of(page_of(root)))
    assert "2 runs are missing from what follows" in words
    assert "a/record.json is not a readable record: seed should be a whole number, got '<zero>'" in words
    assert "odd is left out: it has no 'accuracy'" in words
    assert "85.0 %" in words
    assert "94.5 %" not in words


def test_labels_are_no_formulas_and_parameters_no_results(root):
    record = replace(record_of("full tuning"), label=r"costs $5_ and $\alpha_ {")
    record.parameters.update({"test_accuracy": 0.123, "layers": {"a": [1]}, "seed": "x", "large": 2**90})
    record.write(root / "dollars", history=history_of(0.5))
    page = page_of(root)
    assert "costs $5_ and $\\alpha_ {" in page
    assert "94.5 %" in words_of(page)
    assert "12.3 %" not in words_of(page)


NAMES = ["javascript:alert(1)", "100% & more", "a#b?c=d", "a b", "ä", 'quote"<b>']


def test_links_lead_to_the_folder_whatever_its_name(tmp_path):
    for seed, name in enumerate(NAMES):
        record_of("atoms m=9", seed).write(tmp_path / name)
        (tmp_path / name / "notebook.html").write_text("x")
    links = re.findall(r'href="([^"]+/notebook\.html)"', page_of(tmp_path))
    assert sorted(map(unquote, links)) == sorted(f"{name}/notebook.html" for name in NAMES)
    for link in links:  # RFC 3986: no scheme, query or fragment, nothing to escape
        assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", link)


def test_every_caption_counts_the_runs_alike(root):
    record_of("linear probing", metrics={"validation_accuracy": 0.5}).write(root / "validated")
    own(root / "decomposed", "decomposition")
    reader = {"run_id": "summary", "folder": "summary", "reads_records": True, "notebook": "03_summary"}
    write_json(root / "ablation.json", {"name": "n", "title": "T", "question": "Q?", "runs": [reader]})
    write_json(root / "summary" / "run.json", {"status": "done"})
    (root / "summary" / "notebook.html").write_text("x")
    words = words_of(page_of(root))
    assert (
        "7 runs (4 of tuning, compared below, 1 judged on validation images, 1 of other kinds, 1 that read the others)"
        in words
    )
    assert "All 4 runs that are compared" in words
    assert "Not compared 1 run judged on validation images" in words


def test_a_planned_run_with_a_damaged_record_is_missing_once(root):
    planned = [{"run_id": "bad", "folder": "bad", "reads_records": False, "notebook": "n"}]
    write_json(root / "ablation.json", {"name": "n", "title": "T", "question": "Q?", "runs": planned})
    (root / "bad").mkdir()
    (root / "bad" / "record.json").write_text("{")
    words = words_of(page_of(root))
    assert "1 run is missing from what follows" in words
    assert words.count("bad") == 1


PLANNED = {"run_id": "atoms-0", "folder": "atoms-0", "reads_records": False, "notebook": "n", "parameters": {}}
PLAN = {"schema": 1, "name": "n", "title": "T", "question": "Q?", "source": "s.yaml", "runs": [PLANNED]}


def plan_with(**changes):
    return json.dumps({**PLAN, **changes}).encode()


def plan_of_run(**changes):
    return plan_with(runs=[{**PLANNED, **changes}])


DAMAGED_PLANS = {
    "truncated": (json.dumps(PLAN).encode()[:60], "line 1 column"),
    "empty": (b"", "line 1 column 1"),
    "a page": (b"<!doctype html>", "line 1 column 1"),
    "UTF-16": (json.dumps(PLAN).encode("utf-16"), "it is no UTF-8 text (byte 0); save it as UTF-8"),
    "a list": (b"[]", "should be a mapping, got []"),
    "null": (b"null", "should be a mapping, got None"),
    "NaN": (b'{"runs": [], "title": NaN}', "it holds NaN, which is no JSON"),
    "deep": (b"[" * 100_000, "its brackets are nested too deeply"),
    "no runs": (b'{"name": "n"}', "runs is missing"),
    "runs by name": (plan_with(runs={"atoms-0": {}}), "runs should be a list"),
    "a run of a word": (plan_with(runs=["atoms-0"]), "runs[0] should be a mapping, got 'atoms-0'"),
    "a run without a folder": (plan_with(runs=[{"run_id": "a", "reads_records": False}]), "runs[0].folder is missing"),
    "a number as a name": (plan_with(name=3), "name should be text, got 3"),
    "a word for a switch": (plan_of_run(reads_records="no"), "runs[0].reads_records should be true or false"),
    "parameters in a list": (plan_of_run(parameters=[1]), "runs[0].parameters should be a mapping, got [1]"),
    "a folder elsewhere": (plan_of_run(folder="../x"), "runs[0].folder is '../x', which is no place inside"),
    "a run twice": (plan_with(runs=[PLANNED, PLANNED]), "runs has the value 'atoms-0' twice"),
    "of a newer version": (
        plan_with(schema=99, plan={}),
        "schema 99 is of a newer filtersub, this one reads up to 1; update filtersub",
    ),
}


@pytest.mark.parametrize("name", DAMAGED_PLANS)
def test_a_damaged_plan_costs_the_runs_nothing_and_is_named(name, root):
    content, message = DAMAGED_PLANS[name]
    path = root / "ablation.json"
    path.write_bytes(content)
    found = collect(root)
    assert (len(found.of_kind("tuning")), found.damaged, found.plan) == (4, (), {})
    assert found.plan_fault.startswith(f"{path} is not a readable plan: ")
    assert message in found.plan_fault
    assert found.plan_fault.endswith("; `filtersub ablate` writes it anew")
    assert "\n" not in found.plan_fault


def test_the_report_beside_a_damaged_plan_is_made_and_says_so(root, tmp_path_factory):
    (root / "ablation.json").write_text('{"runs": [{}]}')
    with pytest.warns(DamagedPlanWarning, match=r"runs\[0\].run_id is missing"):
        words = words_of(page_of(root))
    assert "The plan of these runs cannot be read ablation.json is not a readable plan: runs[0].run_id is miss" in words
    assert "All 4 runs that are compared" in words
    merged = merge([root], tmp_path_factory.mktemp("elsewhere") / "all")
    assert merged.copied == 4
    (line,) = merged.plan_faults
    assert "runs[0].run_id is missing" in line


def test_parameters_of_any_name_are_shown_and_none_ends_the_report(root):
    names = ("", "a.b", "x[0]", "it's", 'q"', "back\\", "<i>", "{{ 7 * 7 }}", "\u202eevil")
    for place, folder in enumerate(sorted(path for path in root.iterdir() if path.is_dir())):
        record = json.loads((folder / "record.json").read_text())
        changed(folder, parameters={**record["parameters"], **dict.fromkeys(names, place // 2)})
    page = page_of(root)
    assert "All 4 runs that are compared" in words_of(page)
    for name in (*names[:-1], "\\u202eevil"):  # a mark that turns the direction of reading is written out
        assert html.escape(name, quote=False) in html.unescape(page).replace("<", "&lt;").replace(">", "&gt;")
    assert "<i>" not in page
