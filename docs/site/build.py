"""Builds the documentation site: ``python docs/site/build.py FOLDER`` writes ``FOLDER/html/index.html``.

The site opens from disk and fetches nothing. The Markdown files stay as GitHub shows them: this script copies them,
adds a page for each room of the package and for each notebook, and builds with every warning an error.

The tools are Sphinx, MyST and Furo, because all three are still developed (November 2026). MkDocs has had no release
since August 2024, and Material for MkDocs ends in May 2027.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

import notebook_pages
import settings_page
from rooms import ROOMS, entry, public_names
from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parents[2]
GUIDES = {
    "Use": ("own", "tuning", "training", "ablations", "notebooks", "runners", "reports", "data", "weights"),
    "The paper": ("paper", "parameters", "results", "generation"),
    "The package": ("zoo", "design"),
}
OTHERS = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "filtersub/engine/README.md")
OTHERS += ("findings/README.md", "data/README.md", "reports/README.md")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"(^```.*?^```|^    .*?$|`[^`\n]*`)", re.S | re.M)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the site goes; FOLDER/source holds what it is made of")
    folder = parser.parse_args().folder.resolve()
    source, site = folder / "source", folder / "html"
    shutil.rmtree(source, ignore_errors=True)
    write_source(source)
    config = str(Path(__file__).parent)
    failed = build_main(["-q", "-W", "--keep-going", "-c", config, "-d", str(folder / "cache"), str(source), str(site)])
    copy_reports(site)
    if not failed:
        print(f"Open {os.path.relpath(site / 'index.html')}")
    return failed


def copy_reports(site: Path) -> None:
    """Reports and executed notebooks at their places in the repository, with links from notebooks/ to docs/ mended."""
    for page in notebook_pages.committed_pages(ROOT):
        docs = os.path.relpath("docs", page.parent)
        text = (ROOT / page).read_text(encoding="utf-8")
        write(site / page, re.sub(r'href="\.\./docs/(\w+)\.md', rf'href="{docs}/\1.html', text))


def write_source(source: Path) -> None:
    """What Sphinx reads: a copy of each Markdown file at its place, and the pages that are made."""
    for name in (*OTHERS, *(f"docs/{name}.md" for names in GUIDES.values() for name in names)):
        write(source / name, site_links(name, (ROOT / name).read_text(encoding="utf-8"), source))
    write(source / "index.md", site_links("README.md", (ROOT / "README.md").read_text(encoding="utf-8"), source))
    shutil.copytree(ROOT / "notebooks", source / "notebooks", ignore=shutil.ignore_patterns("reports", ".*"))
    for name, svg in notebook_pages.pictures(ROOT).items():
        write(source / name, svg)
    for name, text in notebook_pages.pages(ROOT).items():
        write(source / name, site_links(name, text, source))
    for room in ROOMS:
        title = f"# `{room}`\n\n{room_text(room)}\n"
        entries = "\n".join(entry(room, name) for name in public_names(room))
        write(source / f"api/{room}.md", f"{title}\n```{{eval-rst}}\n{entries}\n```\n")
    write(source / "api/index.md", "# API reference\n\n" + "".join(room_line(room) for room in ROOMS) + tree(ROOMS))
    write(source / "gallery.md", site_links("gallery.md", notebook_pages.gallery(ROOT), source))
    parts = [tree((f"docs/{name}" for name in names), caption) for caption, names in GUIDES.items()]
    write(source / "settings.md", settings_page.page())
    parts.insert(1, tree(["gallery", "settings", "api/index"], "Look up"))
    parts.append(tree((name.removesuffix(".md") for name in OTHERS), "The project"))
    with (source / "index.md").open("a", encoding="utf-8") as page:
        page.write("".join(parts))


def room_text(room: str) -> str:
    return (import_module(room).__doc__ or "").strip()


def room_line(room: str) -> str:
    return f"- [`{room}`]({room}.md): {room_text(room).splitlines()[0]}\n"


def tree(names, caption: str = "") -> str:
    options = ["", "```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), ""]
    return "\n".join([*options, *names, "```", ""])


def site_links(name: str, text: str, source: Path) -> str:
    """The text of page ``name`` with links that lead to the site's own pages; files it links to are copied along.

    A notebook becomes its page, a folder and a report the page of HTML that stands at the same place in the site. Any
    other file is copied to the source, where Sphinx makes it a download. Sphinx reports a link to nothing.
    """
    folder = (ROOT / name).parent

    def replaced(found: re.Match[str]) -> str:
        picture, label, target, anchor = found[1], found[2], found[3], found[4] or ""
        path = Path(os.path.normpath(folder / target))
        if "://" in target or not path.exists() or path.suffix == ".md":
            return found[0]
        if path.is_dir():
            path, target = path / "index.html", f"{target}/index.html"
        if path.suffix == ".ipynb":
            return f"{picture}[{label}]({target.removesuffix('.ipynb')}.md{anchor})"
        if path.suffix == ".html":
            return f'<a href="{target}{anchor}">{label}</a>'
        write(source / path.relative_to(ROOT), path.read_bytes())
        return found[0]

    parts = _CODE.split(text)
    parts[::2] = [_LINK.sub(replaced, part) for part in parts[::2]]
    return "".join(parts)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


if __name__ == "__main__":
    sys.exit(main())
