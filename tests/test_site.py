"""The documentation as a site: builds without a warning, opens from disk, has an entry for each public name."""

import ast
import json
import pkgutil
import re
import subprocess
import sys
from functools import cache
from html import unescape
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from conftest import external_references

import filtersub

ROOT = Path(__file__).parent.parent
WHY = "`make docs` installs it (extra docs)"
pytest.importorskip("furo", reason=WHY)
pytest.importorskip("myst_parser", reason=WHY)
sys.path.insert(0, str(ROOT / "docs" / "site"))
from docstrings import as_rst  # noqa: E402
from rooms import ROOMS, public_names  # noqa: E402

sys.path.pop(0)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    command = [sys.executable, str(ROOT / "docs" / "site" / "build.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr  # every warning is an error
    return folder / "html"


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.anchors, self.links = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("id", "name"):
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def test_every_link_leads_to_a_page_and_a_place_on_it(site):
    read = cache(Page)
    checked = 0
    for path in site.rglob("*.html"):
        for link in read(path).links:
            parts = urlsplit(link)
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.relative_to(site)}: {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in read(target).anchors, f"{path.relative_to(site)}: {link}"
            checked += 1
    assert checked > 5000


def test_nothing_is_fetched_from_elsewhere(site):
    """No script, style, font, picture or frame of the net: the site opens from disk."""
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        fetched = external_references(text if path.suffix == ".html" else f"<style>{text}</style>")
        assert [each for each in fetched if urlsplit(each).netloc] == [], path.relative_to(site)


def test_each_public_name_has_an_entry(site):
    for room in ROOMS:
        text = (site / "api" / f"{room}.html").read_text(encoding="utf-8")
        names = public_names(room)
        assert names, room
        for name in names:
            thing = getattr(import_module(room), name)
            home = ".".join(thing.__module__.split(".")[:2]) if room == "filtersub" else room
            link = f'href="{home}.html#{home}.{name}"' if room == "filtersub" else f'id="{room}.{name}"'
            assert link in text, f"{room}.{name}"


def test_each_public_room_has_a_page():
    """Every package that states its public names, every module that a notebook or a page of the docs imports from."""
    stated = {
        f"filtersub.{each.name}"
        for each in pkgutil.iter_modules(filtersub.__path__)
        if each.ispkg and getattr(import_module(f"filtersub.{each.name}"), "__all__", None)
    }
    texts = [path.read_text(encoding="utf-8") for path in [*ROOT.glob("docs/*.md"), ROOT / "README.md"]]
    for path in ROOT.glob("notebooks/*.ipynb"):
        texts += ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    imported = {name for text in texts for name in re.findall(r"from (filtersub(?:\.\w+)?)[.\w]* import", text)}
    assert stated | imported <= set(ROOMS)


def test_each_notebook_has_a_page_and_each_committed_report_is_shown(site):
    listed = (site / "gallery.html").read_text(encoding="utf-8")
    for path in ROOT.glob("notebooks/*.ipynb"):
        question = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"][0].removeprefix("# ").strip()
        assert question in unescape((site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8"))
        assert question in unescape(listed)
    for report in [*ROOT.glob("reports/embedded/*/index.html"), ROOT / "reports/sample/index.html"]:
        assert f'href="{report.relative_to(ROOT).as_posix()}"' in listed
    for page in ROOT.glob("reports/embedded/*/runs/*/notebook.html"):
        name = re.search(r"<dt>Notebook</dt><dd>(\w+)</dd>", page.read_text(encoding="utf-8"))[1]
        shown = (site / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        assert f'<iframe src="../{page.relative_to(ROOT).as_posix()}"' in shown


DOCSTRINGS = {
    "markup in words": ("a*b, F_c, |x|, `y`", r"a\*b, F\_c, \|x\|, \`y\`"),
    "code stays": ("``||C||_1`` and C_1", r"``||C||_1`` and C\_1"),
    "code over two lines": ("``a *\nb`` * c", "``a *\nb`` \\* c"),
    "a doctest stays": ("x_1\n\n>>> f(*a)\n1_000\n\ny_1", "x\\_1\n\n>>> f(*a)\n1_000\n\ny\\_1"),
    "text after a section": (
        "A.\n\nReturns\n-------\nTensor\n    of m\n\nRaises B.",
        "A.\n\n\n.. rubric:: Returns\n\n* **Tensor**\n  of m\n\nRaises B.",
    ),
    "entries": (
        "Parameters\n----------\na : int\nb, c : float\n    d\n        e",
        ".. rubric:: Parameters\n\n* **a** : int\n* **b, c** : float\n  d\n      e",
    ),
}


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_docstrings_are_plain_text(name):
    text, expected = DOCSTRINGS[name]
    assert as_rst(text) == expected


def test_the_code_of_the_guide_to_one_s_own_runs(capsys):
    code, *_ = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "own.md").read_text(encoding="utf-8"), re.M | re.S)
    exec(compile(code, "docs/own.md", "exec"), {})
    assert "trainable params" in capsys.readouterr().out


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_python_in_the_pages_imports_what_there_is(page):
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("filtersub"):
                for alias in node.names:
                    assert hasattr(import_module(node.module), alias.name), f"{node.module}.{alias.name}"
