"""Where the numbers of a report come from: commits, versions, machines, the command, notebooks, what is missing."""

import html
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from ..ablation.notebook_html import commit_text, hardware_text
from ..collect import Collection
from .table import page_of


def notebooks(found: Collection) -> list[dict[str, str]]:
    """Pages of the runs that are no tuning runs: decompositions and summaries."""
    others = {folder: record for folder, record in found.records.items() if record.kind != "tuning"}
    pages = [(f"{record.kind}: {record.label}", page_of(folder, found.root)) for folder, record in others.items()]
    for run_id, page in found.readers.items():
        notebook = next(run.get("notebook", run_id) for run in found.plan["runs"] if run["run_id"] == run_id)
        label = _title(page) or notebook.lstrip("0123456789_").replace("_", " ")
        pages.append((label, page_of(page.parent, found.root)))
    return [{"label": label, "page": page} for label, page in pages if page]


def _title(page: Path) -> str:
    """What the notebook asks, from its page."""
    written = page.read_text(encoding="utf-8") if page.is_file() else ""
    title = re.search(r"<title>(.*?)</title>", written, re.DOTALL)
    return html.unescape(title[1]).strip() if title else ""


def environments(found: Collection) -> list[dict[str, Any]]:
    """Each combination of commit, versions and hardware, with how many runs it made."""
    counted = Counter()
    for record in found.records.values():
        environment = record.environment
        versions = ", ".join(f"{name} {number}" for name, number in environment.get("versions", {}).items() if number)
        counted[commit_text(environment), versions, hardware_text(environment.get("hardware", {}))] += 1
    return [{"commit": key[0], "versions": key[1], "hardware": key[2], "runs": count} for key, count in counted.items()]


def command(found: Collection) -> str:
    """What makes this report again; no path of this machine beyond the working directory gets into it."""
    root = found.root.resolve()
    shown = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else Path(root.name)
    source = found.plan.get("source")
    if not source:
        return f"filtersub report {shlex.quote(shown.as_posix())}"
    return f"filtersub ablate {shlex.quote(source)} --out {shlex.quote(shown.as_posix())}"


def failures(found: Collection) -> list[dict[str, str | None]]:
    return [
        {"run": failure.run_id, "error": failure.error, "page": failure.folder and page_of(failure.folder, found.root)}
        for failure in found.failures
    ]


def last_date(found: Collection) -> str:
    dates = [made for record in found.records.values() if (made := record.made_at)]
    return f"{max(dates):%-d %B %Y}" if dates else ""
