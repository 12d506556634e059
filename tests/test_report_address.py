"""A view of the report as its address keeps it: filters, order, columns and picked settings, for who gets the link."""

import shutil
from dataclasses import replace

import pandas as pd
import pytest
from browser import report_pages
from test_report import history_of, record_of
from test_report_browser import SAMPLE

from filtersub.report import write_report


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("address") / "sample"
    shutil.copytree(SAMPLE, root)
    write_report(root)
    return root


@pytest.fixture
def opened(browser, root):
    with report_pages(browser, root) as open_page:
        yield open_page


def shown(page):
    """The table of runs as a reader sees it, cell by cell."""
    return page.evaluate(
        """() => [...document.getElementById("runs").rows].filter((row) => row.checkVisibility()).map((row) =>
          [...row.cells].filter((cell) => cell.checkVisibility()).map((cell) => cell.innerText.trim()))"""
    )


def test_a_link_shows_the_same_view(opened):
    page = opened()
    page.fill("form.filters input[name=words]", "atoms")
    page.locator("form.filters select[data-name=seed]").select_option("1")
    page.locator("#runs thead button", has_text="test accuracy").click()
    page.locator("#runs thead button", has_text="test accuracy").click()
    page.locator("form.filters summary").click()
    for name in ("seed", "per step"):
        page.locator("form.filters fieldset").get_by_label(name, exact=True).uncheck()
    page.locator(".picks button", has_text="full tuning").click()
    view = shown(page)
    assert len(view) == 5  # the heading and the second seed of four settings
    accuracies = [float(row[view[0].index("test accuracy")].split()[0]) for row in view[1:]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert not {"seed", "per step"} & set(view[0])
    other = opened("#" + page.url.partition("#")[2])
    assert shown(other) == view
    assert other.input_value("form.filters input[name=words]") == "atoms"
    assert other.locator(".picks [aria-pressed=true]").all_inner_texts() == ["full tuning"]
    other.get_by_text("Show all", exact=True).click()
    other.locator("form.filters").get_by_text("12 runs", exact=True).wait_for()
    assert {"seed", "per step"} <= set(shown(other)[0])
    assert other.url.endswith("#settings=full%20tuning&runs.sort=-test_accuracy")  # neither is a filter


def test_another_address_on_the_open_page_is_followed(opened):
    page = opened("#runs.words=linear")
    assert {row[0] for row in shown(page)[1:]} == {"linear probing"}
    page.evaluate("location.hash = '#runs.words=full&settings=linear%20probing'")
    page.locator("tr.picked").first.wait_for(state="attached")
    assert {row[0] for row in shown(page)[1:]} == {"full tuning"}


def test_hidden_columns_are_not_copied(opened):
    page = opened("#runs.hide=test_accuracy&runs.words=linear")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.locator('button[data-table="runs"]', has_text="Markdown").click()
    lines = page.evaluate("copied").split("\n")
    assert "test accuracy" not in lines[0]
    assert "77.2" not in lines[2]
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    "address",
    [
        "%E0%A4%A",  # no UTF-8
        "settings=%3Cimg%20src=x%20onerror=wrong()%3E&runs.words=%3Cimg%20src=x%20onerror=wrong()%3E",
        "runs.sort=%3Cb%3E&runs.hide=%3Cb%3E&runs.is.seed=%3Cb%3E",
        "runs.sort=-&runs.is.nothing=1&__proto__=1&constructor=2",
    ],
)
def test_nothing_in_an_address_is_read_as_html(opened, address):
    page = opened("#" + address)
    assert page.locator("img[src=x], main b").count() == 0
    assert page.locator(".picks [aria-pressed=true]").count() == 0
    assert page.locator("#runs th[aria-sort]").count() == 0
    assert len(shown(page)) == (1 if "words" in address else 13)


def test_labels_that_look_like_html_are_kept_and_found_again(opened, tmp_path):
    label = '</script><img src=x onerror="wrong()">|a&b=c#d+e%20'
    for seed in (0, 1):
        replace(record_of("full tuning", seed), label=label).write(tmp_path / f"run{seed}", history=history_of(0.9))
    record_of("linear probing", 0).write(tmp_path / "other", history=pd.DataFrame(history_of(0.5)))
    write_report(tmp_path)
    page = opened(folder=tmp_path)
    page.locator(".picks button").filter(has_text="onerror").click()
    page.fill("form.filters input[name=words]", label)
    other = opened("#" + page.url.partition("#")[2], folder=tmp_path)
    assert other.locator("#runs tr.picked:visible").count() == 2
    assert other.locator(".picks [aria-pressed=true]").all_inner_texts() == [label]
    assert other.locator("img[src=x]").count() == 0
