"""Two runs chosen in the report and seen beside each other: every number against the records, in a browser."""

import json
import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from browser import report_pages
from test_report import history_of, record_of
from test_report_browser import SAMPLE

from filtersub.report import write_report

FIRST, SECOND = (
    next(SAMPLE.glob(f"runs/tuning-{words}*")).relative_to(SAMPLE).as_posix()
    for words in ("filter-subspace-atoms6-*seed0", "full-*seed1")
)
HTML = '</script><img src=x onerror="wrong()">'


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair") / "sample"
    shutil.copytree(SAMPLE, root)
    write_report(root)
    return root


@pytest.fixture
def opened(browser, root):
    with report_pages(browser, root) as open_page:
        yield open_page


def table(page):
    """The cells of the table of two runs by the name of the row."""
    rows = page.evaluate(
        "[...document.querySelectorAll('#pair tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
    )
    return {name: cells for name, *cells in rows}


def number(text):
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-").removeprefix("≠ "))


def test_two_ticked_runs_stand_beside_each_other(opened, root):
    page = opened()
    assert not page.locator("#pair").is_visible()
    for run in (FIRST, SECOND):
        page.locator(f'input.pair[value="{run}"]').check()
    records = [json.loads((root / run / "record.json").read_text()) for run in (FIRST, SECOND)]
    seen = table(page)
    assert page.locator("#pair thead th").all_inner_texts()[1:3] == [
        f"{side}: {one['label']}, seed {one['seed']}" for side, one in zip("AB", records, strict=True)
    ]
    assert seen["method"] == ["filter-subspace", "full", "≠"]
    assert seen["atoms"] == ["6", "–", "≠"]  # full tuning has no atoms, whatever its record says
    assert seen["learning rate"][:2] == [str(one["parameters"]["learning_rate"]) for one in records]
    assert seen["seed"] == ["0", "1", "≠ +1"]
    for group, name, row, unit in [
        ("metrics", "test_accuracy", "test accuracy, %", 0.01),
        ("metrics", "test_loss", "test loss", 1),
        ("counts", "trainable", "trainable", 1),
        ("counts", "head", "head", 1),
        ("counts", "saved", "saved", 1),
        ("cost", "peak_memory_bytes", "peak memory, MiB", 2**20),
    ]:
        values = [one[group][name] / unit for one in records]
        exact = {"abs": 0, "rel": 0} if group == "counts" else {"rel": 1e-5}
        assert [number(text) for text in seen[row][:2]] == pytest.approx(values, **exact)
        gap = values[1] - values[0]
        assert (number(seen[row][2]) if gap else seen[row][2]) == (pytest.approx(gap, rel=1e-3) if gap else "")
    same = page.locator("#pair tr.same th").all_inner_texts()
    assert "head" in same
    assert {name for name, cells in seen.items() if cells[0] and not cells[2]} == set(same)
    assert page.evaluate("document.activeElement.innerText") == "Two runs beside each other"


def test_the_chart_holds_the_curves_of_these_two(opened, root):
    page = opened(f"#pair={FIRST}&pair={SECOND}")
    page.locator("#pair canvas").scroll_into_view_if_needed()
    box, found = page.locator("#pair canvas").bounding_box(), {}
    for across in (0.3, 0.7):
        for down in (0.2, 0.5, 0.8):
            page.mouse.move(box["x"] + across * box["width"] - 5, box["y"] + down * box["height"])
            page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
            page.locator("#vg-tooltip-element.visible").wait_for()
            cells = page.locator("#vg-tooltip-element td").all_inner_texts()
            told = dict(zip(cells[::2], cells[1::2], strict=True))
            found[told["run"], told["epoch"]] = told
    assert {run for run, _ in found} == {"A", "B"}
    for (run, epoch), told in found.items():
        history = pd.read_csv(root / {"A": FIRST, "B": SECOND}[run] / "history.csv").set_index("epoch")
        assert float(told["test accuracy"]) == pytest.approx(history["test_accuracy"][int(epoch)], abs=6e-6)


def test_a_link_keeps_the_pair_and_a_third_run_replaces_the_first(opened):
    page = opened(f"#pair={FIRST}&pair={SECOND}&pair=constructor&pair=%3Cimg%20src=x%3E&runs.words=tuning")
    assert page.locator("input.pair:checked").evaluate_all("all => all.map(x => x.value)") == [FIRST, SECOND]
    third = page.locator("input.pair:visible:not(:checked)").first
    value = third.get_attribute("value")
    third.check()
    checked = page.locator("input.pair:checked").evaluate_all("all => all.map(x => x.value)")
    assert set(checked) == {SECOND, value}
    assert "runs.words=tuning" in page.url
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#pair").is_visible()
    assert page.url.endswith("#runs.words=tuning")
    assert page.locator("img[src=x]").count() == 0


def test_nothing_to_tick_without_scripts(opened, browser, root):
    page = browser.new_page(java_script_enabled=False)
    page.goto((root / "index.html").as_uri())
    assert page.locator("input.pair:visible, .ask:visible, #pair:visible").count() == 0
    page.close()


def test_labels_folders_and_values_are_no_html(opened, tmp_path):
    names = [f"a{HTML.replace('/', '')}", "b"]
    for name, atoms in zip(names, (6, HTML), strict=True):
        record = replace(record_of("atoms m=9"), label=f"{name} {HTML}", metrics={"test_accuracy": 0.5, HTML: 0.25})
        record.parameters["atoms"] = atoms
        record.write(tmp_path / name, history=history_of(0.9))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="pair-data">(.*?)</script>', page)[1])
    assert set(data["runs"]) == set(names)
    shown = opened(folder=tmp_path)
    for n in (0, 1):
        shown.locator("input.pair").nth(n).check()
    seen = table(shown)
    assert set(seen["atoms"]) == {"6", HTML, "≠"}
    assert seen[HTML.replace("_", " ")] == ["0.25", "0.25", ""]
    assert shown.locator("img[src=x]").count() == 0
    assert opened("#" + shown.url.partition("#")[2], folder=tmp_path).locator("input.pair:checked").count() == 2
