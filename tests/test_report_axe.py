"""axe-core finds nothing on the report, its controls open, nor on the page of a run: light, dark, wide and narrow."""

import shutil

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_report_atoms import tables
from test_report_browser import SAMPLE

from filtersub.ablation.notebook_html import write_html
from filtersub.records import read_record
from filtersub.report import write_report

axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs axe-core (pip install axe-playwright-python)"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The sample's report, and the page of a run with tables as pandas makes them."""
    root = tmp_path_factory.mktemp("axe") / "sample"
    shutil.copytree(SAMPLE, root)
    table = pd.DataFrame({"m": [6, 6, 9], "seed": [0, 1, 0], "error": [0.2, 0.2, 0.1]})
    crossed = table.pivot(index="m", columns="seed", values="error")
    shown = [table.to_html(), table.set_index(["m", "seed"]).to_html(), crossed.to_html(), table.style.to_html()]
    outputs = [new_output("display_data", {"text/html": made}) for made in shown]
    outputs.append(new_output("stream", name="stdout", text="a long line " * 100))
    cells = [new_markdown_cell("# Why?\n\nSince $F = \\alpha \\times D$."), new_code_cell("1", outputs=outputs)]
    folder = next((root / "runs").glob("tuning-full-*seed0*"))
    write_html(new_notebook(cells=cells), folder / "notebook.html", name="02_tuning")
    shutil.copy(folder / "notebook.html", root / "run.html")
    for run in (root / "runs").glob("tuning-filter-subspace-*"):
        read_record(run).write(run, **tables(0))
    write_report(root)
    return root


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("name", ["index.html", "run.html"])
def test_axe_finds_no_violation(browser, root, name, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto((root / name).as_uri())
    if name == "index.html":
        page.locator("#explore[data-ready]").wait_for()
        page.locator(".picks button").first.click()
        for place in page.locator("#explore .chart").all():
            place.scroll_into_view_if_needed()
            place.locator("canvas").wait_for()
        for n in (0, 5):
            page.locator("input.pair").nth(n).check()
        page.locator("#pair canvas").first.wait_for()
    for closed in page.locator("details").all():
        closed.evaluate("x => (x.open = true)")
    found = axe.Axe().run(page).response
    page.close()
    assert len(found["passes"]) > 15
    assert [(one["id"], one["help"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
