"""What tuning changed in each layer: the report's numbers against norms written out by hand, from adapters on disk."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from browser import chromium
from safetensors.numpy import save_file
from test_report import history_of, page_of, record_of, words_of

from filtersub.collect import collect, tuning_table
from filtersub.report import write_report
from filtersub.report.layer_changes import change_rows, layer_changes

CHANGES = {
    "conv_stem": np.array([[3.0, 4.0], [0.0, 0.0]]),  # norms 5 and 0
    "blocks.10": np.array([[0.6, 0.8]]),  # norm 1
    "blocks.2": np.array([[0.0, -2.0]]),  # norm 2
    "</script><b>x</b>": np.array([[0.25, 0.0]]),
}
MEANS = {"conv_stem": 2.5, "blocks.2": 2.0, "blocks.10": 1.0, "</script><b>x</b>": 0.25}


MARKS = """(canvas, colour) => {  // the middle of each mark of a colour
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const groups = [];
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] < 200 || colour.some((value, n) => Math.abs(data[at + n] - value) > 3)) continue;
    const [x, y] = [(at / 4) % canvas.width, Math.floor(at / 4 / canvas.width)];
    const group = groups.find((one) => Math.hypot(one[0][0] - x, one[0][1] - y) < 12);
    if (group) group.push([x, y]);
    else groups.push([[x, y]]);
  }
  return groups.map((one) => [0, 1].map((n) => one.reduce((sum, place) => sum + place[n], 0) / one.length));
}"""


def write_run(root, name, *, seed=0, label="atoms m=9", changes=CHANGES):
    record = replace(record_of("atoms m=9", seed), label=label)
    record.write(root / name, history=history_of(0.9))
    adapter = root / name / "adapter"
    adapter.mkdir()
    tensors = {f"base_model.model.{layer}.filtersub_atoms": dD.astype(np.float32) for layer, dD in changes.items()}
    save_file(
        {**tensors, "base_model.model.head.weight": np.ones((2, 2), np.float32)}, adapter / "adapter_model.safetensors"
    )
    order = ("conv_stem", "blocks.2", "blocks.10", "</script><b>x</b>")
    config = {"target_modules": "|".join(re.escape(layer) for layer in order)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return adapter


def found_in(root):
    odd = []
    return layer_changes(tuning_table(collect(root).records), odd), odd


def test_layers_come_in_the_networks_order_with_the_norms_of_their_changes(tmp_path):
    write_run(tmp_path, "late", seed=1, changes={"conv_stem": np.ones((1, 1))})
    write_run(tmp_path, "first", seed=0)
    [one], odd = found_in(tmp_path)
    assert odd == []
    assert one.seed == 0
    table = one.table.set_index("layer")
    assert table["mean_change"].to_dict() == pytest.approx(MEANS)
    assert list(table.index) == list(MEANS)
    assert table.loc["conv_stem", ["atoms", "largest_change"]].tolist() == [2, 5.0]
    assert not one.has_errors
    [row] = change_rows([one])
    assert row["mean"] == "1.65"  # of 5, 0, 2, 1 and 1/4
    assert row["most"] == "conv_stem (2.5), blocks.2 (2), blocks.10 (1)"


def test_a_chart_of_several_settings_keeps_the_networks_order(tmp_path):
    write_run(tmp_path, "few", label="a", changes={"blocks.10": CHANGES["blocks.10"]})
    write_run(tmp_path, "all", label="b")
    data = json.loads(re.search(r'id="explore-data">(.*?)</script>', page_of(tmp_path))[1])
    assert data["charts"][2]["spec"]["encoding"]["x"]["sort"] == list(MEANS)


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"conv_stem": np.zeros((2, 3, 9))}, "do not tell"), ({}, "do not tell"), (CHANGES, "ΔD alone")],
)
def test_what_no_file_holds_is_said(tmp_path, changes, told):
    write_run(tmp_path, "run", changes=changes)
    assert told in words_of(page_of(tmp_path))


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"{}"])
def test_a_damaged_adapter_is_told_and_the_page_written(tmp_path, content):
    adapter = write_run(tmp_path, "run")
    (adapter / "adapter_model.safetensors").write_bytes(content)
    found, [line] = found_in(tmp_path)
    assert found == []
    assert "adapter_model.safetensors cannot be read" in line
    assert "adapter_model.safetensors cannot be read" in words_of(page_of(tmp_path))


def test_a_browser_shows_each_layer_exactly(tmp_path):
    write_run(tmp_path, "run")
    write_report(tmp_path)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto((tmp_path / "index.html").as_uri())
        seen, chart = {}, page.locator("#explore .chart").nth(2)
        chart.scroll_into_view_if_needed()
        chart.locator("canvas").wait_for()
        assert page.locator("#changes b").count() == 0
        chart.locator("canvas").scroll_into_view_if_needed()  # it is taller than the place that was kept for it
        box = chart.locator("canvas").bounding_box()
        tone = json.loads(page.locator("#explore-data").text_content())["legend"][0]["tone"]
        marks = chart.locator("canvas").evaluate(MARKS, [int(tone[n : n + 2], 16) for n in (1, 3, 5)])
        assert len(marks) == len(MEANS)
        for x, y in marks:
            page.mouse.move(box["x"] + x + 3, box["y"] + y)
            page.mouse.move(box["x"] + x, box["y"] + y)
            page.locator("#vg-tooltip-element.visible").wait_for()
            cells = page.locator("#vg-tooltip-element td").all_inner_texts()
            told = dict(zip(cells[::2], cells[1::2], strict=True))
            seen[told["layer"]] = float(told["mean norm of the change"])
    assert seen == pytest.approx(MEANS)
