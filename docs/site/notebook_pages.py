"""A page for each notebook, with the executed pages that are committed, and the gallery of them all."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import nbformat

from filtersub.ablation.notebook_html import draw_formulas

_FRAME = '<iframe src="{}" title="{}" style="width:100%;height:85vh;border:1px solid #8886;background:#fff"></iframe>\n'


def committed_pages(root: Path) -> list[Path]:
    """Every report and executed notebook below reports/, as paths from the root."""
    found = [*root.glob("reports/sample/**/*.html"), *root.glob("reports/embedded/**/*.html")]
    return sorted(path.relative_to(root) for path in found)


@cache
def executed(root: Path) -> dict[str, list[Path]]:
    """Committed pages of each notebook by its name; those of the preset ``gallery``, the smallest runs, come last."""
    found: dict[str, list[Path]] = {}
    for path in sorted(committed_pages(root), key=lambda path: ("gallery" in path.parts, path)):
        name = re.search(r"<dt>Notebook</dt>\s*<dd>([^<]+)</dd>", (root / path).read_text(encoding="utf-8"))
        if name:
            found.setdefault(name[1], []).append(path)
    return found


def pages(root: Path) -> dict[str, str]:
    """Markdown of each notebook's page by its path in the site: question, then what runs of it show."""
    shown = executed(root)
    return {
        f"notebooks/{path.stem}.md": page(root, path, shown.get(path.stem, []))
        for path in sorted(root.glob("notebooks/*.ipynb"))
    }


def page(root: Path, notebook: Path, shown: list[Path]) -> str:
    text = draw_formulas(nbformat.read(notebook, as_version=4).cells[0].source)
    parts = [text, f"The notebook: {{download}}`{notebook.name} <{notebook.name}>`."]
    for path in shown:
        name, address = ablation(path), f"../{path.as_posix()}"
        report = "../" + "/".join([*path.parts[: path.parts.index("runs")], "index.html"])
        parts.append(f"## Executed, with the runs of `{name}`")
        parts.append(f"[This page alone]({address}), [the report of the whole ablation]({report}).")
        parts.append(_FRAME.format(address, f"{notebook.stem} in {name}"))
    return "\n\n".join(parts) + "\n"


def gallery(root: Path) -> str:
    """Every committed report, and every notebook with its question and the first figure of its first executed page."""
    lines = [
        "# Gallery",
        "Reports and executed notebooks as they were written: each is one file that needs no network.",
        "",
    ]
    lines += ["## Reports"]
    for path in committed_pages(root):
        if path.name == "index.html":
            title = re.search(r"<title>([^<]+)</title>", (root / path).read_text(encoding="utf-8"))[1]
            name = ablation(path)
            command = "benchopt run benchmarks/benchopt" if name == "benchopt" else f"filtersub ablate {name}"
            lines.append(f"- [{title}]({path.as_posix()}): `{command}`")
    lines += ["", "## Notebooks"]
    drawn, notebooks = pictures(root), sorted(root.glob("notebooks/*.ipynb"))
    for path in notebooks:
        question = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0].removeprefix("# ")
        lines += [f"### [{path.stem}](notebooks/{path.stem}.md)", "", question, ""]
        picture = f"pictures/{path.stem}.svg"
        if picture in drawn:
            lines += [f"![first figure of {path.stem}]({picture}){{width=420px}}", ""]
    return (
        "\n".join(lines)
        + "\n```{toctree}\n:hidden:\n\n"
        + "\n".join(f"notebooks/{p.stem}" for p in notebooks)
        + "\n```\n"
    )


@cache
def pictures(root: Path) -> dict[str, str]:
    """The gallery's figures, SVG by their paths in the site."""
    found = {name: first_figure(root, paths) for name, paths in executed(root).items()}
    return {f"pictures/{name}.svg": svg for name, svg in found.items() if svg}


def first_figure(root: Path, paths: list[Path]) -> str | None:
    found = (
        re.search(r"<figure[^>]*>\s*(<svg\b.*?</svg>)", (root / paths[0]).read_text(encoding="utf-8"), re.S)
        if paths
        else None
    )
    return found and found[1].replace("viewbox=", "viewBox=", 1)  # HTML knows no case, an SVG file does


def ablation(path: Path) -> str:
    """The preset that made a committed page: reports/sample is the quickstart's."""
    return path.parts[2] if path.parts[1] == "embedded" else "quickstart"
