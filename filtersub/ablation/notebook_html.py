"""An executed notebook as one HTML file that opens offline: no script at all, no style, font or picture from the web.

nbconvert's own templates fetch require.js, MathJax and mermaid; the small template in templates/notebook/ does not, and
formulas are drawn by matplotlib beforehand. A content security policy in the page holds every browser to that.
"""

import base64
import html
import io
import os
import re
from pathlib import Path
from typing import Any

from ..files import as_path, write_text
from .notebook_file import import_nbformat

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
#: Nothing may be fetched; what the page needs is in it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_EMPTY_HEADING = re.compile(r"<th(\s[^>]*)?>(?:\s|&nbsp;|\xa0)*</th>")
_WIDGET = "application/vnd.jupyter.widget-view+json"
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
_DISPLAYED = re.compile(r"\$\$([^$]+)\$\$")
_INLINE = re.compile(r"(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\d$])")


def write_html(notebook: Any, path: str | os.PathLike[str], **described: Any) -> Path:
    """Write the page that to_html makes of a notebook, with what it takes beside it."""
    folder = as_path(path).resolve().parent
    report = "../../index.html" if folder.parent.name == "runs" else None  # where a batch writes its report
    return write_text(path, to_html(notebook, report=report, **described))


def to_html(
    notebook: Any,
    *,
    name: str,
    environment: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    error: str | None = None,
    pictures: str | os.PathLike[str] | None = None,
    report: str | None = None,
) -> str:
    """An executed notebook as a self-contained page.

    Parameters
    ----------
    notebook : nbformat's NotebookNode, executed
    name : of the notebook, for the footer
    environment : as records.describe_environment gives it, for the footer
    run : the run's ``run.json``, for its parameters and time; optional
    error : why the run failed, where no cell shows it (a kernel that was killed)
    pictures : the folder that the notebook lies in; pictures that its text shows from there become part of the page
    report : address of the report that the page links back to
    """
    nbformat = import_nbformat()  # before nbconvert, which imports it too
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    cells = []
    for cell in notebook.cells:
        if "papermill-error-cell-tag" in cell.metadata.get("tags", []):
            continue  # papermill's own notes about a failure; the page has its own
        source = draw_formulas(cell.source) if cell.cell_type == "markdown" else cell.source
        outputs = {"outputs": [_standing_still(dict(each)) for each in cell.outputs]} if "outputs" in cell else {}
        cells.append(nbformat.from_dict({**cell, "source": source, **outputs}))
    drawn = nbformat.from_dict({**notebook, "cells": cells})
    page = {
        "title": _title(notebook, name),
        "css": page_css("notebook.css"),
        "policy": POLICY,
        "facts": facts(name, environment or {}, run or {}),
        "error": _error(notebook) or error,
        "report": report,
    }
    exporter = HTMLExporter(template_name="notebook", extra_template_basedirs=[str(TEMPLATES)])
    exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)  # kernels send a stream in pieces
    resources: dict[str, Any] = {"page": page}
    if pictures is not None:
        exporter.embed_images = True
        resources["metadata"] = {"path": os.fspath(pictures)}
    made = exporter.from_notebook_node(drawn, resources=resources)[0]
    made = _EMPTY_HEADING.sub(r"<td\1></td>", made)  # of pandas' corners: a heading without a name would be read aloud
    return made.replace("<pre>", '<pre tabindex="0">')  # long lines scroll on a phone, by the keyboard too


def page_css(*names: str) -> str:
    """The pages' common style and these additions to it."""
    return "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", *names))


def facts(name: str, environment: dict[str, Any], run: dict[str, Any]) -> list[tuple[str, str]]:
    """What a reader needs to trust or repeat a run, as (name, value) lines."""
    hardware, versions = environment.get("hardware", {}), environment.get("versions", {})
    rows = [("Notebook", name)]
    if run.get("parameters") is not None:
        rows.append(
            ("Parameters", ", ".join(f"{key} = {value!r}" for key, value in run["parameters"].items()) or "none")
        )
    if run.get("started") is not None and run.get("seconds") is not None:
        rows.append(("Time", f"{run['seconds']:.0f} s"))
    if environment:
        rows.append(("Commit", commit_text(environment)))
        rows.append(("Versions", ", ".join(f"{key} {value}" for key, value in versions.items() if value)))
        rows.append(("Hardware", hardware_text(hardware)))
        rows.append(("Date", str(environment.get("date", "unknown"))))
    return rows


def commit_text(environment: dict[str, Any]) -> str:
    """``1a2b3c4d5e6f``, with what was not committed said."""
    commit = environment.get("commit")
    if not commit:
        return "not known (the package does not run from a git checkout)"
    return f"{commit}, with uncommitted changes" if environment.get("dirty") else str(commit)


def hardware_text(hardware: dict[str, Any]) -> str:
    device = hardware.get("device", "unknown device")
    parts = [device, hardware.get("processor")] if device == "cpu" else [device]
    threads = hardware.get("threads")
    parts.append(None if threads is None else f"{threads} thread{'s' * (threads != 1)}")
    return ", ".join(str(part) for part in parts if part)


def draw_formulas(markdown: str) -> str:
    """Markdown with each ``$formula$`` replaced by a picture of it, its source as the alternative text; code stays.

    A formula beyond matplotlib's mathtext is left to be read as its source.
    """
    parts = _CODE.split(markdown)
    for n in range(0, len(parts), 2):
        parts[n] = _DISPLAYED.sub(lambda found: _formula(found[1], displayed=True), parts[n])
        parts[n] = _INLINE.sub(lambda found: _formula(found[1]), parts[n])
    return "".join(parts)


def _formula(source: str, displayed: bool = False) -> str:
    """A formula as a picture as large as the text around it; all lengths are in units of its font size."""
    from matplotlib import rc_context
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    source, picture, points = " ".join(source.split()), io.BytesIO(), 10.0
    try:
        with rc_context({"mathtext.fontset": "stix", "savefig.transparent": True}):
            prop = FontProperties(size=points)
            depth = math_to_image(f"${source}$", picture, prop=prop, dpi=72, format="svg")
    except ValueError:
        return f"`{source}`"
    width = float(re.search(rb'width="([\d.]+)pt"', picture.getvalue())[1])
    encoded = base64.b64encode(picture.getvalue()).decode()
    scale = 1.08 / points  # STIX looks smaller than the page's sans serif
    style = f"width:{width * scale:.2f}em;vertical-align:{-depth * scale:.2f}em"
    kind = "formula displayed" if displayed else "formula"
    return f'<img class="{kind}" alt="{html.escape(source)}" style="{style}" src="data:image/svg+xml;base64,{encoded}">'


def _standing_still(output: dict[str, Any]) -> dict[str, Any]:
    """The output without its widget, which no page can move, where it brought a still form along."""
    data = output.get("data", {})
    if "text/html" not in data:
        return output
    return {**output, "data": {kind: content for kind, content in data.items() if kind != _WIDGET}}


def _title(notebook: Any, name: str) -> str:
    headings = (re.search(r"^#\s+(.+)$", cell.source, re.M) for cell in notebook.cells if cell.cell_type == "markdown")
    return next((found[1] for found in headings if found), name)


def _error(notebook: Any) -> str | None:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            left = output.get("ename") == "SystemExit" and output.get("evalue") in ("", "0")  # as papermill has it
            if output.output_type == "error" and not left:
                return f"{output.ename}: {output.evalue}"
    return None
