"""Errors and atoms by layer in the report: exact numbers, pictures of two runs beside each other, a bounded page."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import vl_convert
from browser import report_pages
from test_report import history_of, page_of, record_of, words_of

from filtersub.collect import collect, tuning_table
from filtersub.report import write_report
from filtersub.report.layer_changes import change_rows, layer_atoms, layer_changes, moved_most, pictures

SIZES = {"conv_stem": (2, 3, 3), "blocks.1": (3, 2, 4)}  # atoms, height, width


def entries(seed, layer):
    """(before, after) of a layer, (n_atoms, height, width)."""
    generator = np.random.default_rng([seed, len(layer)])
    before = generator.standard_normal(SIZES[layer]).round(3)
    return before, (before + (1 + len(layer)) * 0.01 * generator.standard_normal(SIZES[layer])).round(3)


def tables(seed):
    layers, atoms = [], []
    for n, (layer, (count, height, width)) in enumerate(SIZES.items()):
        before, after = entries(seed, layer)
        norms = np.linalg.norm(after - before, axis=(1, 2))
        told = {"mean_change": norms.mean(), "largest_change": norms.max(), "weight_change": 0.125 + n}
        shape = {"kind": "conv2d", "shape": "8x3x3x3", "block": "1x1", "atoms": count, "density": 1.0}
        layers.append({"layer": layer, **shape, **told, "relative_error": 0.25 * (n + 1)})
        for atom in range(count):
            sides = {"before": before[atom], "after": after[atom]}
            text = {name: " ".join(map(str, values.ravel())) for name, values in sides.items()}
            atoms.append({"layer": layer, "atom": 2 * atom + 1, "height": height, "width": width, **text})
    return {"layers": pd.DataFrame(layers), "atoms": pd.DataFrame(atoms)}


def write_run(root, name, label="atoms m=9", seed=0, accuracy=None, **more):
    record = replace(record_of("atoms m=9", seed, accuracy), label=label)
    record.write(root / "runs" / name, history=history_of(0.9), **{**tables(seed), **more})
    return root / "runs" / name


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("atoms")
    write_run(root, "first")
    write_run(root, "second", "atoms m=6", seed=1, accuracy=0.95)
    linear = record_of("linear probing")
    linear.write(root / "runs" / "linear", history=history_of(0.7))
    write_report(root)
    return root


def rows_of(root):
    runs, odd = tuning_table(collect(root).records), []
    ids = [{"id": f"run{n}"} for n in range(len(runs))]
    return layer_atoms(runs, ids, odd), odd


def test_pictures_are_the_atoms_of_the_table(root):
    atoms, odd = rows_of(root)
    assert odd == []
    assert [(row["run"], row["layer"], row["_atoms"]) for row in atoms] == [
        (run, layer, [2 * n + 1 for n in range(SIZES[layer][0])])
        for run in ("atoms m=9, seed 0", "atoms m=6, seed 1")
        for layer in SIZES
    ]
    for row in atoms:
        before, after = entries(int(row["run"][-1]), row["layer"])
        largest, moved = max(np.abs(before).max(), np.abs(after).max()), np.abs(after - before).max()
        found = pictures(row)
        np.testing.assert_allclose(found["before"], before, atol=largest / 150)
        np.testing.assert_allclose(found["after"], after, atol=largest / 150)
        np.testing.assert_allclose(found["change"], after - before, atol=moved / 150)


def test_the_layers_that_moved_most_are_drawn(root):
    atoms, _ = rows_of(root)
    assert [row["layer"] for row in moved_most(atoms, "atoms m=9", 1)] == ["conv_stem"]
    assert [row["layer"] for row in moved_most(atoms, "atoms m=9", 2)] == list(SIZES)
    page = page_of(root)
    assert 'aria-label="Filter atoms of atoms m=6, seed 1, before and after tuning, in' in page


def test_the_table_of_layers_says_errors_and_changes(root):
    changes = layer_changes(tuning_table(collect(root).records), [])
    for one in changes:
        written = tables(one.seed)["layers"]
        for name in ("mean_change", "largest_change", "relative_error", "weight_change"):
            np.testing.assert_allclose(one.table[name], written[name])
    assert {row["error"] for row in change_rows(changes)} == {"blocks.1 (50\N{NO-BREAK SPACE}%)"}
    said = words_of(page_of(root))
    assert "Rebuilt worst" in said
    assert "ΔD alone" not in said
    data = json.loads(re.search(r'id="explore-data">(.*?)</script>', page_of(root))[1])
    (chart,) = [one for one in data["charts"] if one["title"].startswith("How far tuning moved")]
    (choice,) = [param for param in chart["spec"]["params"] if param["name"] == "of_layer"]
    assert choice["bind"]["options"] == ["mean_change", "largest_change", "relative_error", "weight_change"]


@pytest.mark.parametrize("measure", ["mean_change", "relative_error"])
def test_layers_of_settings_that_are_equal_stand_side_by_side(root, measure):
    """Both settings of the page have the same errors before tuning, so that one would lie over the other."""
    data = json.loads(re.search(r'id="explore-data">(.*?)</script>', page_of(root))[1])
    (spec,) = [one["spec"] for one in data["charts"] if one["title"].startswith("How far tuning moved")]
    (choice,) = [param for param in spec["params"] if param["name"] == "of_layer"]
    choice["value"] = measure
    drawn = vl_convert.vegalite_to_svg({**spec, "width": 400})
    places = re.findall(r'transform="translate\(([^)]*)\)"[^>]*aria-roledescription="point"', drawn)
    places += re.findall(r'aria-roledescription="point"[^>]*transform="translate\(([^)]*)\)"', drawn)
    assert len(places) == len(set(places)) == 4
    assert ("%</text>" in drawn) == (measure == "relative_error")


@pytest.mark.parametrize(
    ("name", "table", "told"),
    [
        ("atoms", pd.DataFrame({"layer": ["a"]}), "no table of atoms"),
        ("atoms", tables(0)["atoms"].assign(width=5), "no table of atoms"),
        ("atoms", tables(0)["atoms"].assign(after="1 x"), "no table of atoms"),
        ("layers", pd.DataFrame({"layer": ["a"]}), "no table of layers"),
        ("layers", tables(0)["layers"].assign(mean_change="far"), "no table of layers"),
    ],
)
def test_a_damaged_table_is_told_and_the_page_written(tmp_path, name, table, told):
    write_run(tmp_path, "run", **{name: table})
    assert told in words_of(page_of(tmp_path))


def test_a_page_holds_so_many_atoms_and_lower_seeds_first(tmp_path, monkeypatch):
    for seed in (1, 0):
        write_run(tmp_path, f"run{seed}", seed=seed)
    one = len(json.dumps(rows_of(tmp_path)[0][:2], separators=(",", ":")))
    monkeypatch.setattr("filtersub.report.layer_changes._MOST_CHARACTERS", one)
    assert {row["run"] for row in rows_of(tmp_path)[0]} == {"atoms m=9, seed 0"}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_reader_chooses_run_and_layer_and_sees_two_runs(browser, root, width, scheme):
    picture = "canvas => canvas.toDataURL()"
    with report_pages(browser, root) as open_page:
        page = open_page(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        chart = page.locator("#explore .chart").nth(3)
        chart.scroll_into_view_if_needed()
        chart.locator("canvas").wait_for()
        seen = {chart.locator("canvas").evaluate(picture)}
        for label, value in (("Layer", "blocks.1"), ("Run", "atoms m=6, seed 1"), ("Layer", "conv_stem")):
            chart.get_by_label(label).select_option(value)
            shown = "document.querySelectorAll('#explore .chart')[3].querySelector('canvas').toDataURL()"
            page.wait_for_function(f"seen => !seen.includes({shown})", arg=sorted(seen))
            seen.add(chart.locator("canvas").evaluate(picture))
        boxes = {box.get_attribute("aria-label"): box for box in page.locator("input.pair").all()}
        (linear,) = [box for name, box in boxes.items() if "linear" in name]
        first, second = [box for name, box in boxes.items() if "linear" not in name]
        both = page.locator("#pair-atoms")
        first.check()
        second.check()
        both.locator("canvas").wait_for()
        tall = both.locator("canvas").bounding_box()["height"]
        second.uncheck()
        linear.check()
        page.wait_for_function("tall => document.querySelector('#pair-atoms canvas').clientHeight < tall", arg=tall)
        assert page.locator("#pair .note[hidden]").count() == 1
