"""Reports beside earlier ones, of several machines, of several methods and tasks."""

import errno
import json
import re
import shutil
from dataclasses import replace

import pytest
from test_report import ENVIRONMENT, NBSP, page_of, record_of, words_of
from typer.testing import CliRunner

from filtersub import FiltersubError
from filtersub.cli import app
from filtersub.collect import collect, settings_table, tuning_table, varying_parameters
from filtersub.report.against import compare
from filtersub.report.grids import setting_grids
from filtersub.report.merge import merge
from filtersub.report.page import TEMPLATES
from filtersub.report.sentences import answer

ATOMS = "atoms m=9"


def runs_of(root, means, seeds=(0, 1, 2), spread=0.002, **parameters):
    """Runs of each label with a given mean and spread over seeds."""
    for label, mean in means.items():
        for seed in seeds:
            record = record_of(label, seed, mean + spread * (seed - (len(seeds) - 1) / 2))
            record.parameters.update(parameters)
            record.write(root / "runs" / f"{label.replace(' ', '')}-{seed}")
    return root


def test_what_changed_beyond_noise_is_told_from_what_did_not(tmp_path):
    before = runs_of(tmp_path / "before", {ATOMS: 0.85, "full tuning": 0.95, "linear probing": 0.70})
    now = runs_of(tmp_path / "now", {ATOMS: 0.90, "full tuning": 0.9505, "atoms m=9, 4 blocks": 0.92})
    found = compare(collect(now), before)
    accuracy = found.changes[found.changes["measure"] == "test accuracy"].set_index("label")
    assert accuracy["verdict"].to_dict() == {ATOMS: "higher", "full tuning": "no change beyond noise"}
    assert accuracy.loc[ATOMS, "difference"] == pytest.approx(0.05)
    assert accuracy.loc[ATOMS, "low"] < 0.05 < accuracy.loc[ATOMS, "high"]
    assert (found.only_new, found.only_old) == (("atoms m=9, 4 blocks",), ("linear probing",))
    assert "Welch's t test over seeds, Holm-corrected" in found.sentence
    assert "test accuracy of atoms m=9 is higher" in found.sentence
    page = words_of(page_of(now, against=before))
    assert "Against the report before" in page
    assert "+5.0" in page
    assert "Only in before: linear probing" in page


def test_settings_of_one_label_are_told_apart_by_what_they_differ_in(tmp_path):
    """Two data sets: which of them changed? And the same label at another rate is another setting."""
    folders = {}
    for name, gain, rate in (("before", 0.0, 0.01), ("now", 0.05, 0.02)):
        folders[name] = tmp_path / name
        runs_of(folders[name] / "digits", {ATOMS: 0.85 + gain}, data="digits", learning_rate=0.003)
        runs_of(folders[name] / "birds", {ATOMS: 0.7}, data="birds", learning_rate=0.003)
        runs_of(folders[name] / "full", {"full tuning": 0.9}, data="birds", learning_rate=rate)
    found = compare(collect(folders["now"]), folders["before"])
    accuracy = found.changes[found.changes["measure"] == "test accuracy"].set_index("label")["verdict"].to_dict()
    assert accuracy == {f"{ATOMS}, data digits": "higher", f"{ATOMS}, data birds": "no change beyond noise"}
    assert f"test accuracy of {ATOMS}, data digits is higher" in found.sentence
    assert found.only_new == ("full tuning, learning_rate 0.02",)
    assert found.only_old == ("full tuning, learning_rate 0.01",)


def test_no_text_of_a_table_keeps_to_one_line_where_it_may_be_long():
    """A cell that does is cut at the edge of a page as wide as a laptop's: verdicts, levels, labels."""
    template = (TEMPLATES / "report.html.j2").read_text(encoding="utf-8")
    assert re.findall(r'<td class="text">', template) == []


def test_noise_alone_changes_nothing_and_one_seed_is_not_judged(tmp_path):
    before, now = (runs_of(tmp_path / name, {ATOMS: 0.85}, spread=0.01) for name in ("before", "now"))
    assert set(compare(collect(now), before).changes["verdict"]) == {"no change beyond noise"}
    single = runs_of(tmp_path / "single", {ATOMS: 0.99}, seeds=(0,))
    verdicts = compare(collect(single), before).changes.set_index("measure")["verdict"]
    assert verdicts["test accuracy"] == "not known: one seed"


def test_a_setting_that_only_the_newer_package_records_does_not_part_them(tmp_path):
    before = runs_of(tmp_path / "before", {ATOMS: 0.85})
    now = runs_of(tmp_path / "now", {ATOMS: 0.85}, added_since="x")
    assert compare(collect(now), before).only_new == ()
    other = runs_of(tmp_path / "other", {ATOMS: 0.85}, epochs=80)
    assert compare(collect(other), before).only_new == (f"{ATOMS}, epochs 80",)


def test_an_empty_earlier_report_is_refused(tmp_path):
    now = runs_of(tmp_path / "now", {ATOMS: 0.9})
    (tmp_path / "empty").mkdir()
    for folder, said in (("empty", "holds no records"), ("absent", "is not a folder")):
        done = CliRunner().invoke(app, ["report", str(now), "--against", str(tmp_path / folder)])
        assert done.exit_code != 0
        with pytest.raises(FiltersubError, match=said):
            compare(collect(now), tmp_path / folder)
    assert not (now / "index.html").exists()


def machine(root, runs, planned=(), name="n", date="2026-01-01"):
    plan = [
        {"run_id": run, "folder": f"runs/{run}", "reads_records": False, "notebook": "n"} for run in [*runs, *planned]
    ]
    for number, run in enumerate(runs):
        record_of(ATOMS, number, environment={**ENVIRONMENT, "date": f"{date}T00:00:00+00:00"}).write(
            root / "runs" / run
        )
    root.mkdir(exist_ok=True)
    (root / "ablation.json").write_text(json.dumps({"name": name, "title": "T", "question": "Q", "runs": plan}))
    return root


def test_reports_of_two_machines_merge(tmp_path):
    a = machine(tmp_path / "a", ["one-aaaaaaaa", "two-bbbbbbbb"], planned=["three-cccccccc"])
    b = machine(tmp_path / "b", ["three-cccccccc", "two-bbbbbbbb"], date="2026-02-01")
    (a / "runs" / "three-cccccccc").mkdir()
    (a / "runs" / "three-cccccccc" / "run.json").write_text('{"status": "failed"}')
    (a / "runs" / "three-cccccccc" / "error.txt").write_text("ValueError: here it failed")
    both = tmp_path / "both"
    for _ in range(2):  # a second call changes nothing
        merged = merge([a, b], both)
        found = collect(both)
        assert {folder.name for folder in found.records} == {"one-aaaaaaaa", "two-bbbbbbbb", "three-cccccccc"}
        assert found.failures == ()
        assert found.records[both / "runs" / "two-bbbbbbbb"].environment["date"].startswith("2026-02-01")
    assert merged.copied == 0
    assert [run["run_id"] for run in found.plan["runs"]] == ["one-aaaaaaaa", "two-bbbbbbbb", "three-cccccccc"]
    assert not list(both.rglob("*.part"))


def test_what_cannot_be_merged_is_one_clear_line(tmp_path):
    a, b = machine(tmp_path / "a", ["one-aaaaaaaa"]), machine(tmp_path / "b", ["one-aaaaaaaa"], name="other")
    for sources, out, said in (
        ([a, b], tmp_path / "c", "different ablations"),
        ([a], a / "c", "lie in each other"),
        ([a, tmp_path / "absent"], tmp_path / "c", "is not a folder"),
    ):
        with pytest.raises(FiltersubError, match=said):
            merge(sources, out)
        assert not out.exists()
    done = CliRunner().invoke(app, ["report", str(a), str(b)])
    assert done.exit_code != 0
    assert "--out" in done.output + str(done.exception)


def test_the_command_merges_and_reports(tmp_path):
    a, b = machine(tmp_path / "a", ["one-aaaaaaaa"]), machine(tmp_path / "b", ["two-bbbbbbbb"])
    done = CliRunner().invoke(app, ["report", str(a), str(b), "--out", str(tmp_path / "c"), "--interval", "bootstrap"])
    assert done.exit_code == 0, done.output
    assert "2 runs copied" in done.output
    assert "bootstrap interval" in (tmp_path / "c" / "index.html").read_text()


def test_one_run_in_two_places_counts_once(tmp_path):
    for place in ("x", "y"):
        record_of(ATOMS).write(tmp_path / place / "run-aaaaaaaa")
    found = collect(tmp_path)
    assert len(found.records) == len(found.superseded) == 1


def test_a_seed_that_ran_twice_is_one_value(tmp_path):
    for name, seed, accuracy in (("a", 0, 0.8), ("b", 0, 0.9), ("c", 1, 0.95)):
        record_of(ATOMS, seed, accuracy).write(tmp_path / name)
    (setting,) = settings_table(tuning_table(collect(tmp_path).records)).to_dict("records")
    assert setting["by_seed"] == pytest.approx([0.85, 0.95])
    assert setting["test_accuracy"] == pytest.approx(0.9)


@pytest.mark.parametrize("method", ["lora", "dora", "bitfit", "ssf", "a-method-of-tomorrow"])
def test_any_method_has_its_place(tmp_path, method):
    runs_of(tmp_path, {ATOMS: 0.85, "linear probing": 0.7})
    rival = {"method": method, "rank": 4, "epochs": 8}
    for seed in range(3):
        record = replace(record_of(ATOMS, seed, 0.8 + seed / 500), label=f"{method} r=4", parameters=rival)
        record.write(tmp_path / "runs" / f"rival-{seed}")
    page = page_of(tmp_path)
    assert f"most accurate of the other methods, {method} r=4" in words_of(page)
    assert "Best other method" in words_of(page)
    assert "against it the atoms are +4.8 points" in words_of(page)


def test_a_grid_of_settings_becomes_a_heat_map(tmp_path):
    for m in (6, 9, 12):
        for m_1 in (3, 4):
            for seed in (0, 1):
                record = replace(record_of(ATOMS, seed, m / 20 + m_1 / 100), label=f"atoms m={m}, {m_1} each")
                record.parameters.update(atoms=m, expansion=m_1)
                record.write(tmp_path / f"{m}-{m_1}-{seed}")
    found = collect(tmp_path)
    runs = tuning_table(found.records)
    (grid,) = setting_grids(runs, varying_parameters(found.records.values()))
    assert grid.cells["row"].tolist() == [6, 6, 9, 9, 12, 12]
    assert grid.cells["test_accuracy"].tolist() == pytest.approx([0.33, 0.34, 0.48, 0.49, 0.63, 0.64])
    page = page_of(tmp_path)
    assert "Filter atoms m and atoms of each atom m₁" in page
    written = re.findall(r">(\d\d\.0)<", page[page.index("Grids of settings") :])
    assert {"33.0", "34.0", "48.0", "49.0", "63.0", "64.0"} <= set(written)
    assert "33.0 to 33.0" in page  # two equal seeds
    assert set(runs["family"]) == {"overcomplete atoms"}


def test_a_grid_leaves_out_what_has_no_counterpart(tmp_path):
    """Settings 1 to 4 of Figure 4, m_1 against k_c, among runs of other m_1 and k_c that make no grid with them."""
    wanted = [(None, None), (None, 4), (4, None), (4, 4)]
    for number, (m_1, k_c) in enumerate([*wanted, (3, None), (5, None), (None, 2)]):
        record = replace(record_of(ATOMS, 0, 0.5 + number / 100), label=f"{m_1} {k_c}")
        record.parameters.update(atoms=9, expansion=m_1, block=k_c)
        record.write(tmp_path / str(number))
    found = collect(tmp_path)
    (grid,) = setting_grids(tuning_table(found.records), varying_parameters(found.records.values()))
    assert list(zip(grid.cells["row"], grid.cells["column"], strict=True)) == [
        ("none", "none"),
        ("none", 4),
        (4, "none"),
        (4, 4),
    ]
    assert grid.cells["test_accuracy"].tolist() == pytest.approx([0.5, 0.51, 0.52, 0.53])


def test_values_that_were_not_varied_against_each_other_are_no_grid(tmp_path):
    for m, k in ((6, 2), (9, 4), (12, None)):
        record = replace(record_of(ATOMS), label=f"{m} {k}")
        record.parameters.update(atoms=m, block=k)
        record.write(tmp_path / str(m))
    found = collect(tmp_path)
    assert setting_grids(tuning_table(found.records), varying_parameters(found.records.values())) == []


def test_tasks_are_kept_apart_and_averaged(tmp_path):
    means = {"linear probing": (0.5, 0.6, 0.7), ATOMS: (0.8, 0.7, 0.75)}
    for label, accuracies in means.items():
        for data, accuracy in zip(("dtd", "pets", "svhn"), accuracies, strict=True):
            record = record_of(label, 0, accuracy)
            record.parameters["data"] = data
            record.write(tmp_path / f"{label}-{data}")
    settings = settings_table(tuning_table(collect(tmp_path).records))
    assert set(settings["task"]) == {"dtd", "pets", "svhn"}
    assert set(settings["method_label"]) == set(means)
    said = answer(settings).replace(NBSP, " ")
    assert "Means over 3 tasks that 2 settings were run on. The one atom setting tried, atoms m=9" in said
    assert "reaches 75.0 % test accuracy (mean of 3 tasks" in said
    assert "against 60.0 % when the head alone is trained" in said
    words = words_of(page_of(tmp_path))
    assert "Setting dtd pets svhn Mean" in words
    assert "linear probing 50.0 60.0 70.0 60.0" in words
    assert "atoms m=9 80.0 70.0 75.0 75.0" in words


def test_a_run_that_cannot_be_copied_is_one_line(tmp_path, monkeypatch):
    source = runs_of(tmp_path / "a", {ATOMS: 0.9}, seeds=(0,))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil.copytree, "__defaults__", (False, None, full, False, False))
    with pytest.raises(FiltersubError, match=r"cannot copy .*: \[Errno 28\] No space left on device; mend that"):
        merge([source], tmp_path / "all")
    assert not list((tmp_path / "all").rglob("*.part*"))
