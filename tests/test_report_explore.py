"""The part of the report that can be explored, as a browser runs it: offline, without eval, with every number exact."""

import json
import re
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import vl_convert
from browser import report_pages
from nbformat.v4 import new_notebook
from test_report import history_of, record_of
from test_report_browser import CONTRAST, SAMPLE

from filtersub.ablation.notebook_html import write_html
from filtersub.report import write_report
from filtersub.report.interactive import _places, explained_share

CAPTURE = """window.copied = []; navigator.clipboard.writeText = async (text) => { window.copied.push(text); };
window.written = [];
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  window.written.push(text);
  return fillText.call(this, text, ...place);
};"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("explore") / "sample"
    shutil.copytree(SAMPLE, root)
    write_html(new_notebook(), next((root / "runs").glob("tuning-full-*seed0*")) / "notebook.html", name="02_tuning")
    write_report(root)
    return root


@pytest.fixture
def opened(browser, root):
    """A function that opens the report with the network off; ends by asking that nothing went wrong."""
    contexts, wrong = [], []

    def open_page(address="", script=True, **options):
        size = {"width": options.pop("width", 1280), "height": 900}
        context = browser.new_context(viewport=size, offline=True, java_script_enabled=script, **options)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(CAPTURE)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto((root / "index.html").as_uri() + address)
        if script:
            page.locator("#explore[data-ready]").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def drawn(page, chart):
    """Scrolls to a chart, which is drawn by then."""
    page.locator("#explore .chart").nth(chart).scroll_into_view_if_needed()
    page.locator("#explore .chart").nth(chart).locator("canvas").wait_for()


def tooltip_of(page, chart, across=0.5, down=0.5):
    """What the tooltip says where the pointer is, by name."""
    drawn(page, chart)
    canvas = page.locator("#explore .chart").nth(chart).locator("canvas")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + across * box["width"] - 5, box["y"] + down * box["height"])
    page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
    page.locator("#vg-tooltip-element.visible").wait_for()
    names, values = (page.locator(f"#vg-tooltip-element td.{kind}").all_inner_texts() for kind in ("key", "value"))
    return dict(zip(names, values, strict=True))


def histories(root):
    tables = []
    for path in root.glob("runs/tuning-*/history.csv"):
        record = json.loads((path.parent / "record.json").read_text())
        tables.append(pd.read_csv(path).assign(label=record["label"], seed=record["seed"]))
    return pd.concat(tables)


def test_picked_settings_stand_out_everywhere_and_stay_in_the_address(opened):
    page = opened()
    button = page.locator(".picks button", has_text="full tuning")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("tr.picked").count() == 3  # one of the table of settings, two seeds of that of runs
    assert page.url.endswith("#settings=full%20tuning")
    page.reload()
    page.locator("#explore[data-ready]").wait_for()
    assert page.locator("tr.picked").count() == 3
    page.locator(".picks button.all").click()
    assert page.locator("tr.picked").count() == 0
    assert "#" not in page.url


def test_an_address_with_an_unknown_setting_picks_nothing(opened):
    page = opened("#settings=no%20such%20setting%7Cfull%20tuning")
    assert page.locator(".picks [aria-pressed=true]").all_inner_texts() == ["full tuning"]


@pytest.mark.parametrize("measure", ["test_accuracy", "train_loss"])
def test_tooltips_of_learning_curves_are_exact_in_each_measure(opened, root, measure):
    page, known = opened(), histories(root)
    drawn(page, 1)
    page.locator("#explore select[name=measure]").select_option(measure)
    seen = tooltip_of(page, 1)
    rows = known[(known["label"] == seen["setting"]) & (known["seed"] == int(seen["seed"]))]
    [value] = rows.loc[rows["epoch"] == int(seen["epoch"]), measure]
    assert float(seen[measure.replace("_", " ")]) == pytest.approx(value, abs=6e-6)


def test_tooltips_of_parallel_axes_say_the_cells_of_the_table(opened):
    page = opened()
    seen = tooltip_of(page, page.locator("#explore .chart").count() - 1)
    cells = page.locator(
        f'#runs tr[data-setting="{seen["setting"]}"] td[data-label="{seen["axis"]}"]'
    ).all_inner_texts()
    assert seen["value"].replace("\xa0", " ") in [cell.replace("\xa0", " ") for cell in cells]


def test_a_click_on_a_line_picks_its_setting(opened):
    page = opened()
    name = tooltip_of(page, 1)["setting"]
    page.mouse.down()
    page.mouse.up()
    page.locator("tr.picked").first.wait_for()
    assert page.locator(".picks [aria-pressed=true]").all_inner_texts() == [name]


def test_tables_are_copied_as_markdown_and_latex(opened, root):
    page = opened()
    record = json.loads(next(root.glob("runs/tuning-linear-*seed0*/record.json")).read_text())
    accuracy = f"{100 * record['metrics']['test_accuracy']:.1f}"
    page.get_by_label("Method").select_option("head only")
    for words in ("Markdown", "LaTeX"):
        page.locator('button[data-table="runs"]', has_text=words).click()
    markdown, latex = page.evaluate("copied")
    lines = markdown.split("\n")
    assert len(lines) == 4  # heading, rule, the two runs that the filter shows
    assert lines[2].startswith("| linear probing |")
    assert f"| {accuracy} % |" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
    assert latex.startswith("\\begin{tabular}{lr")
    assert f"{accuracy} \\%" in latex
    assert latex.count("linear probing") == 2


def test_the_command_that_repeats_a_run_holds_its_parameters(opened, root):
    page = opened()
    page.locator("#runs td.repeat button").first.click()
    words = shlex.split(page.evaluate("copied")[0])
    plan = json.loads((root / "ablation.json").read_text())["runs"]
    assert words[:2] == ["papermill", "notebooks/02_tuning.ipynb"]
    [run] = [run for run in plan if f"{run['run_id']}.ipynb" == words[2]]
    assert words[3] == "-y"
    given = json.loads(words[4])
    assert given.pop("out_dir") == f"repeated/{run['run_id']}"
    assert given == run["parameters"]


@pytest.mark.parametrize("width", [390, 1280])
def test_a_dark_page_can_be_read(opened, width):
    page = opened(color_scheme="dark", width=width)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    found = page.evaluate(CONTRAST)
    assert found["seen"] > 150
    assert found["low"] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_marks_of_families_stand_out_from_a_dark_page(opened):
    """The ink of full tuning is the colour of the page."""
    page = opened(color_scheme="dark")
    luminance = """(marks) => marks.map((mark) => {
      const style = getComputedStyle(mark);
      const colour = mark.matches(".swatch") ? style.backgroundColor : style.borderTopColor;
      const [r, g, b] = colour.match(/[\\d.]+/g).map((v) => ((Number(v) / 255 + 0.055) / 1.055) ** 2.4);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    })"""
    found = page.locator("#settings .swatch, .picks .swatch, .compare > div").evaluate_all(luminance)
    assert len(found) > 8
    assert min(found) > 3 * 0.06 - 0.05  # contrast of 3 to 1, as WCAG asks of graphics, on a page of luminance 0.01


def test_runs_judged_once_have_a_point_in_the_learning_curves(browser, tmp_path):
    """A line of one point has no length, so nothing was drawn."""
    root = tmp_path / "once"
    shutil.copytree(SAMPLE, root)
    for path in root.glob("runs/tuning-*/history.csv"):
        pd.read_csv(path).tail(1).to_csv(path, index=False)
    write_report(root)
    with report_pages(browser, root) as open_page:
        page = open_page()
        drawn(page, 1)
        coloured = (
            page.locator("#explore .chart")
            .nth(1)
            .locator("canvas")
            .evaluate(
                """(canvas) => {
              const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
              let found = 0;
              for (let n = 0; n < pixels.length; n += 4) {
                const colour = pixels.slice(n, n + 3);
                found += pixels[n + 3] > 200 && Math.max(...colour) - Math.min(...colour) > 90;
              }
              return found;
            }"""
            )
        )
        assert coloured > 50


def test_charts_far_below_are_drawn_when_they_are_reached(opened):
    page = opened()
    assert page.locator("#explore canvas").count() < 3
    page.locator(".picks button", has_text="full tuning").click()  # before the last chart is there
    drawn(page, 2)
    page.emulate_media(color_scheme="dark")
    page.locator(".picks button.all").click()
    assert page.locator("#explore .chart").nth(2).locator("canvas").count() == 1


def test_without_scripts_the_page_is_whole(opened):
    page = opened(script=False)
    assert not page.locator("#explore").is_visible()
    assert page.locator("button.copy:visible").count() == 0
    assert page.locator("figure.plot svg:visible").count() >= 4
    assert page.locator("#runs tbody tr").count() == 12


def test_print_leaves_out_what_only_a_screen_can_do(opened):
    page = opened()
    page.emulate_media(media="print", color_scheme="dark")
    for part in ("#explore", ".copies >> nth=0", "td.repeat >> nth=0"):
        assert not page.locator(part).is_visible()
    assert page.locator("input.pair:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)",
        "rgba(0, 0, 0, 0)",
    )


def test_the_page_of_a_run_leads_back_to_the_report(opened):
    page = opened()
    page.locator("#runs a").first.click()
    page.get_by_role("link", name="The report").click()
    page.locator("#explore[data-ready]").wait_for()
    assert page.url.endswith("/index.html")


def test_five_hundred_runs_stay_below_ten_megabytes(tmp_path):
    for n in range(25):
        for seed in range(20):
            record = replace(record_of("atoms m=9", seed, 0.5 + n / 100 + seed / 1000), label=f"atoms, rate {n}")
            record.parameters["learning_rate"] = n / 1000
            record.write(tmp_path / "runs" / f"{n}-{seed}", history=pd.concat([history_of(0.9)] * 10))
    page = write_report(tmp_path)
    assert page.stat().st_size < 10e6
    data = json.loads(re.search(r'id="explore-data">(.*?)</script>', page.read_text(encoding="utf-8"))[1])
    assert [len(chart["spec"]["data"]["values"]) for chart in data["charts"][:2]] == [25, 500]


def test_ticks_of_accuracies_within_a_percent_are_told_apart(tmp_path):
    for label, accuracy in (("linear probing", 0.3401), ("atoms m=9", 0.3413)):
        record_of(label, 0, accuracy).write(tmp_path / label, history=history_of(accuracy))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    charts = json.loads(re.search(r'id="explore-data">(.*?)</script>', page)[1])["charts"]
    (spec,) = [chart["spec"] for chart in charts if chart["title"] == "Accuracy against trained parameters"]
    ticks = re.findall(r">([0-9.]+%)<", vl_convert.vegalite_to_svg({**spec, "width": 600}))
    assert len(ticks) > 3
    assert len(set(ticks)) == len(ticks)


@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
def test_learning_curves_have_no_half_epochs_on_their_axis(tmp_path, epochs):
    history = pd.concat([history_of(0.9)] * 8).head(epochs).assign(epoch=range(1, epochs + 1))
    record_of("full tuning").write(tmp_path / "run", history=history)
    data = json.loads(re.search(r'id="explore-data">(.*?)</script>', write_report(tmp_path).read_text())[1])
    (spec,) = [chart["spec"] for chart in data["charts"] if chart["title"] == "Learning curves"]
    encoding = {**spec["encoding"], "y": {**spec["encoding"]["y"], "axis": None}}
    drawn = vl_convert.vegalite_to_svg({**spec, "encoding": encoding, "width": 600})
    assert re.findall(r">([\d.]+)</text>", drawn) == [str(epoch) for epoch in range(1, epochs + 1)]


def test_charts_write_percentages_as_the_rest_of_the_page_does(opened):
    page = opened()
    drawn(page, 0)
    drawn(page, 1)
    ticks = [text for text in page.evaluate("window.written") if "%" in text]
    assert len(ticks) > 5
    assert [tick for tick in ticks if not re.fullmatch(r"[0-9.]+\N{NO-BREAK SPACE}%", tick)] == []


def test_a_label_cannot_leave_the_script_that_holds_it(tmp_path):
    label = '</script><img src="https://x.org/a.png">'
    replace(record_of("full tuning"), label=label).write(tmp_path / "run", history=history_of(0.9))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert label not in page
    assert json.loads(re.search(r'id="explore-data">(.*?)</script>', page)[1])["legend"][0]["label"] == label


@pytest.mark.parametrize(
    ("values", "places", "told"),
    [
        (["6", "9", "12"], [0.0, 0.5, 1.0], ["6", "9", "12"]),  # few values lie evenly, by size and not by letters
        (["", "4"], [0.0, 1.0], ["", "4"]),
        (["b", "a", "b"], [1.0, 0.0, 1.0], ["a", "b"]),
        (["5"], [0.5], ["5"]),
        (["0", "1", "2", "3", "4", "5", "10"], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0], ["0", "10"]),  # many, in proportion
    ],
)
def test_values_lie_on_their_axis_in_order(values, places, told):
    found, ticks = _places(values, values)
    assert found == pytest.approx(places)
    assert [text for text, _ in ticks] == told


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Runs in which fifteen settings vary, one seed each; of two of them the accuracy depends on one alone."""
    root = tmp_path_factory.mktemp("many")
    names = ("weight_decay", "label_smoothing", "mixup", "cutmix", "head_dropout", "warmup_epochs", "l1_penalty", "tol")
    for n in range(24):
        varied = {name: round(0.1 * (n * (place + 3) % 5), 1) for place, name in enumerate(names)}
        varied |= {"atoms": 6 + 3 * (n % 2), "epochs": 4 + n % 3, "batch_size": 25 * (1 + n % 4), "rank": 2 + n % 7}
        varied["learning_rate"] = (0.001, 0.01)[n // 12]
        base = record_of("atoms m=9", accuracy=0.6 + 0.2 * (n // 12))
        run = replace(base, label=f"setting {n}", parameters={**base.parameters, **varied})
        run.write(root / "runs" / f"run{n}", history=history_of(0.6))
    write_report(root)
    return root


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_of_many_settings_a_few_have_an_axis_and_a_reader_chooses(browser, many, width, scheme):
    with report_pages(browser, many) as open_page:
        page = open_page(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        chart = page.locator("#explore .chart").last
        chart.scroll_into_view_if_needed()
        boxes = chart.locator("input[type=checkbox]")
        boxes.first.wait_for()
        names = chart.locator("label").all_inner_texts()
        ticked = [name.strip() for name, box in zip(names, boxes.all(), strict=True) if box.is_checked()]
        assert len(ticked) == 9 < len(names)
        assert {"learning rate", "test accuracy", "trained without head"} <= set(ticked)
        picture = "() => [...document.querySelectorAll('#explore canvas')].at(-1).toDataURL()"
        first = page.evaluate(picture)
        chart.get_by_label("learning rate").uncheck()
        page.wait_for_function(f"before => ({picture})() !== before", arg=first)
        chart.get_by_label("learning rate").check()
        page.wait_for_function(f"before => ({picture})() === before", arg=first)
        box = chart.locator("canvas").bounding_box()
        assert box["height"] > 250


def test_a_few_settings_all_have_their_axis(browser, tmp_path):
    for atoms in (6, 9, 12):
        base = record_of("atoms m=9", accuracy=0.6 + atoms / 100)
        run = replace(base, label=f"atoms m={atoms}", parameters={**base.parameters, "atoms": atoms})
        run.write(tmp_path / "runs" / f"run{atoms}", history=history_of(0.6))
    write_report(tmp_path)
    with report_pages(browser, tmp_path) as open_page:
        page = open_page()
        drawn(page, page.locator("#explore .chart").count() - 1)
        assert page.locator("#explore .chart").last.locator("input").count() == 0


def test_the_share_that_a_setting_explains_is_epsilon_squared():
    values = np.array([1.0, 2.0, 4.0, 5.0, 9.0, 9.0])
    groups = ["a", "a", "b", "b", "c", "c"]
    within = (0.25 + 0.25) * 2  # by hand: two groups of a spread of 1 around their means, one of none
    total = ((values - 5.0) ** 2).sum()
    assert explained_share(groups, values) == pytest.approx(1 - (within / 3) / (total / 5))
    assert explained_share(["a"] * 6, values) == -np.inf
    assert explained_share(list("abcdef"), values) == -np.inf
    assert explained_share(groups, np.ones(6)) == -np.inf
