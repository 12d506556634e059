"""One form of a percentage wherever a reader meets one: number, space that does not break, sign."""

import ast
import json
import re
from pathlib import Path

import pytest

from filtersub.percentages import NBSP, in_points, percentage
from filtersub.plots.figure import percent

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("filtersub/templates/**/*.ipynb")]
SOURCES = {path: path.read_text() for path in ROOT.glob("filtersub/**/*.py")} | {
    path: "\n".join(
        "".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"
    )
    for path in NOTEBOOKS
}
STUCK = re.compile(r"\.\d%\}|[\d}]%(?![(\w])")  # {:.1%}, 95% and {value}%
STYLE = re.compile(r"(width|height|left|flex|opacity): ?[\d.]+%")  # of pages
BUDGETS = re.compile(r"(budget|share|trained parameters)\b.*[ (](0\.5|100)%|no share \(0\.5%\)")  # as a user writes one


def written(source):
    """Each text of a program, with {} for what an f-string fills in, and each format, but for its docstrings."""
    tree = ast.parse(source)
    stated = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            yield "{:" + "".join(str(getattr(part, "value", "")) for part in node.format_spec.values) + "}"
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else filled(part) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in stated:
            yield node.value


def filled(part):
    return NBSP if isinstance(part.value, ast.Name) and part.value.id == "NBSP" else "{}"


def test_no_text_of_the_package_or_a_notebook_writes_its_percentages_another_way():
    assert len(SOURCES) > 200
    found = {
        f"{path.relative_to(ROOT)}: {text}"
        for path, source in SOURCES.items()
        for text in written(source)
        if STUCK.search(STYLE.sub("", text)) and not BUDGETS.search(text)
    }
    assert found == set()


def test_no_text_of_a_page_breaks_between_a_number_and_its_percent_sign():
    pages = [*ROOT.glob("filtersub/templates/**/*.j2"), *ROOT.glob("filtersub/report/*.yaml")]
    assert len(pages) > 3
    found = {f"{path.name}: {line}" for path in pages for line in re.findall(r".*\d %(?!\}).*", path.read_text())}
    assert found == set()


@pytest.mark.parametrize("text", ["f'{share:.1%}'", "f'{share:+.0%}'", "'{:.2%}'", "'a 95% interval'", "f'{x}% of it'"])
def test_the_checks_above_see_another_form(text):
    assert any(STUCK.search(said) for said in written(f"said = {text}"))


def test_texts_tables_and_ticks_say_a_percentage_alike():
    assert percentage(0.985) == percent()(0.985) == f"98.5{NBSP}%"
    assert percentage(-0.985) == percent()(-0.985) == f"\N{MINUS SIGN}98.5{NBSP}%"
    assert in_points(-0.01) == "\N{MINUS SIGN}1.0 points"
