"""Makes benchopt's page one file that opens without a network.

    npm pack plotly.js-cartesian-dist-min@2.12.1 gridjs@6.2.0 animejs@2.0.2
    python benchmarks/benchopt/offline.py benchmarks/benchopt/outputs/NAME.html . reports/embedded/benchopt/index.html

The page loads three scripts and two style sheets from the web; the argument after it is the folder of npm's packages
(``*.tgz``) that have them. A font that only looks nicer is left out, and so are links to files beside the page.
"""

import re
import sys
import tarfile
from pathlib import Path

#: part of an address in the page -> package and file in it
FILES = {
    "plotly-2.12.1.min.js": ("plotly.js-cartesian-dist-min-2.12.1", "plotly-cartesian.min.js"),
    "gridjs.umd.js": ("gridjs-6.2.0", "dist/gridjs.umd.js"),
    "mermaid.min.css": ("gridjs-6.2.0", "dist/theme/mermaid.min.css"),
    "anime.min.js": ("animejs-2.0.2", "anime.min.js"),
}
_LOADED = re.compile(r'<script src="(https:[^"]+)"></script>|<link (?=[^>]*https:)[^>]*href="([^"]+)"[^>]*>')
_BESIDE = re.compile(r'<a href="(?!https?:|#)[^"]*"(.*?)</a>', re.S)


def offline(page: str, packages: Path) -> str:
    """The page with what it loads written into it; ValueError where it loads what is not in ``FILES``."""
    return _BESIDE.sub("", _LOADED.sub(lambda found: _written_in(found[1], found[2], packages), page))


def _written_in(script: str | None, sheet: str | None, packages: Path) -> str:
    address = script or sheet or ""
    if "fonts." in address:
        return ""
    package, file = FILES.get(address.rpartition("/")[2], ("", ""))
    if not package:
        raise ValueError(f"the page loads {address}, which no package here has")
    with tarfile.open(packages / f"{package}.tgz") as archive:
        content = archive.extractfile(f"package/{file}")
        text = content.read().decode() if content else ""
    if sheet:
        return f"<style>{text}</style>"
    text = text.replace("</script", r"<\/script")
    return f"<script>{text}</script>"


if __name__ == "__main__":
    source, packages, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(offline(source.read_text(encoding="utf-8"), packages), encoding="utf-8")
