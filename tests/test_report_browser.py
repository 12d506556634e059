"""The report as a browser shows it: offline, without an error, sortable, filterable, on a phone, for every eye."""

import shutil
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from filtersub.ablation.notebook_html import write_html
from filtersub.report import write_report

SAMPLE = Path(__file__).parent.parent / "reports" / "sample"
CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parts = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const background = (node) => {
    for (let at = node; at instanceof Element; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    const shown = walk.currentNode.textContent.trim() && node.getClientRects().length;
    if (!shown || node.closest("script, style")) continue;
    const style = getComputedStyle(node);
    const colour = parts(node.closest("svg") ? style.fill : style.color);
    const [a, b] = [luminance(colour), luminance(background(node))].sort((x, y) => y - x);
    seen += 1;
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${walk.currentNode.textContent.trim()} ${style.fill} ${style.color}`);
  }
  return { seen, low };
}"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The sample's real records, with a notebook page that holds a formula and a picture."""
    root = tmp_path_factory.mktemp("report") / "sample"
    shutil.copytree(SAMPLE, root)
    figure = new_output(
        "display_data", data={"text/html": "<p>a table</p>", "application/vnd.jupyter.widget-view+json": {}}
    )
    cells = [
        new_markdown_cell("# Why?\n\nSince $F = \\alpha \\times D$ and\n\n$$\\sum_i x_i^2$$"),
        new_code_cell("1", outputs=[figure]),
    ]
    folder = next((root / "runs").glob("tuning-full-*seed0*"))
    write_html(new_notebook(cells=cells), folder / "notebook.html", name="02_tuning")
    write_report(root)
    return root


@pytest.fixture
def opened(browser, root):
    """A function that opens a page of the report with the network off; ends by asking that nothing went wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page, wrong, asked = context.new_page(), [], []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on("request", lambda request: asked.append(request.url))

    def open_page(name="index.html", **size):
        if size:
            page.set_viewport_size(size)
        page.goto((root / name).as_uri())
        return page

    yield open_page
    assert wrong == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    context.close()


def column(page, number):
    return page.locator(f"#runs tbody tr:not([hidden]) > :nth-child({number})").all_inner_texts()


def test_every_picture_is_there_and_described(opened):
    page = opened()
    figures = page.locator("figure.plot svg:visible")
    assert figures.count() >= 3
    for n in range(figures.count()):
        assert figures.nth(n).bounding_box()["height"] > 100
        assert len(figures.nth(n).get_attribute("aria-label")) > 40
    assert page.locator("img:not([alt])").count() == 0


def test_headings_go_down_one_level_at_a_time(opened):
    levels = [int(tag[1]) for tag in opened().eval_on_selector_all("h1, h2, h3, h4", "all => all.map(x => x.tagName)")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_a_click_on_a_heading_sorts(opened):
    page = opened()
    headings = page.locator("#runs thead button").all_inner_texts()
    number = headings.index("test accuracy") + 1
    for order in (False, True):
        page.locator("#runs thead button").nth(number - 1).click()
        values = [float(text.split()[0]) for text in column(page, number)]
        assert values == sorted(values, reverse=order)
        assert len(set(values)) > 3
    assert page.locator("#runs thead th").nth(number - 1).get_attribute("aria-sort") == "descending"


def test_words_and_choices_filter(opened):
    page = opened()
    everything = len(column(page, 1))
    page.fill("form.filters input", "blocks seed")
    assert column(page, 1) == []
    page.fill("form.filters input", "2×2")
    assert set(column(page, 1)) == {"atoms m=9, 2×2 blocks, pca codes"}
    assert page.locator("form.filters output").inner_text() == f"2 of {everything} runs"
    page.click("text=Show all")
    page.locator("form.filters").get_by_text(f"{everything} runs", exact=True).wait_for()  # evaluates nothing
    page.get_by_label("Method").select_option("head only")
    assert set(column(page, 1)) == {"linear probing"}
    page.locator("form.filters select[data-name=seed]").select_option("1")
    assert len(column(page, 1)) == 1


def test_the_settings_sort_by_what_their_cells_say(opened):
    page = opened()
    page.get_by_role("button", name="Share of all weights").click()
    shares = page.locator("#settings tbody td:last-child").all_inner_texts()
    assert [float(text.split()[0]) for text in shares] == sorted(float(text.split()[0]) for text in shares)
    assert page.url.endswith("#settings.sort=share")


def test_tables_can_be_taken_away_offline(opened, root, tmp_path):
    page, read = opened(), {"runs.csv": pd.read_csv, "runs.parquet": pd.read_parquet}
    for name, reader in read.items():
        with page.expect_download() as waiting:
            page.click(f"text={name}")
        waiting.value.save_as(tmp_path / name)
        pd.testing.assert_frame_equal(reader(tmp_path / name), reader(root / name))


def test_a_phone_shows_it_without_sideways_scrolling(opened):
    page = opened(width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("figure.plot svg:visible").count() >= 3
    assert float(page.evaluate("getComputedStyle(document.body).fontSize").removesuffix("px")) >= 16


@pytest.mark.parametrize(("width", "columns"), [(360, 3), (1280, 8)])
def test_names_leave_room_for_the_numbers_beside_them(opened, width, columns):
    """A long name folds before the accuracy of its setting leaves the screen."""
    cells = (
        opened(width=width, height=740)
        .get_by_role("region", name="Table of settings")
        .locator("tbody tr >> nth=3 >> th, td")
    )
    box = cells.nth(columns - 1).bounding_box()
    assert box["x"] + box["width"] <= width


def test_words_stand_out_from_their_background(opened):
    found = opened().evaluate(CONTRAST)
    assert found["seen"] > 150
    assert found["low"] == []


def test_print_holds_everything_but_the_controls(opened):
    page = opened(width=700, height=1000)
    page.emulate_media(media="print")
    assert page.locator("form.filters :is(input, select, button, summary):visible").count() == 0
    assert page.locator("form.filters output").inner_text() == "12 runs"  # a filtered table says on paper that it is
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every(x => x.scrollWidth <= document.body.clientWidth + 1)"
    )


def test_formulas_and_notebooks_need_no_network(opened):
    page = opened()
    page.click("#runs a >> nth=0")
    page.wait_for_url("**/notebook.html")
    formulas = page.locator("img.formula")
    assert formulas.evaluate_all("all => all.map(x => x.alt)") == [r"F = \alpha \times D", r"\sum_i x_i^2"]
    assert formulas.evaluate_all("all => all.every(x => x.complete && x.naturalWidth > 0 && x.clientHeight > 8)")
    assert page.locator("text=a table").is_visible()  # the still form of a widget
    assert page.locator("text=interactive widget").count() == 0


def test_what_scrolls_sideways_in_a_notebook_can_be_reached_by_the_keyboard(browser, tmp_path):
    table = "<table><tr>" + "<td>a wide cell of a wide table</td>" * 30 + "</tr></table>"
    outputs = [
        new_output("display_data", {"text/html": table}),
        new_output("stream", name="stdout", text="a long line " * 100),
    ]
    page = tmp_path / "notebook.html"
    write_html(new_notebook(cells=[new_code_cell("1", outputs=outputs)]), page, name="wide")
    opened = browser.new_page(viewport={"width": 360, "height": 700})
    opened.goto(page.as_uri())
    found = opened.evaluate(
        """() => [...document.querySelectorAll("main *")].filter((e) =>
          e.checkVisibility() && e.scrollWidth > e.clientWidth && /auto|scroll/.test(getComputedStyle(e).overflowX)
        ).map((e) => e.tabIndex)"""
    )
    opened.close()
    assert len(found) >= 2
    assert set(found) == {0}
