"""A figure as an inline SVG that carries its description, for pages and notebooks."""

import hashlib
import html
import io
import re

import matplotlib
from matplotlib.figure import Figure

from ..printable import printable, printable_in_page
from .style import FONTS, STYLE

_SVG = 'role="img" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def figure_html(figure: Figure, alt: str, caption: str | None = None) -> str:
    """The figure as an HTML ``<figure>`` around an inline SVG that carries its description and needs no other file."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": alt}):  # a salt of its own: no two figures share an id
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = printable_in_page(buffer.getvalue())  # names in it stay texts
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", FONTS, svg)
    prefix = "f" + hashlib.sha256((alt + svg).encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{prefix}-", svg)
    label = html.escape(printable(" ".join(alt.split())))
    size = f'style="width:100%;max-width:{100 * figure.get_figwidth():.0f}px;height:auto"'
    opening = rf'<svg {_SVG} {size} viewBox="\1" aria-label="{label}">'
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', lambda found: opening.replace(r"\1", found[1]), svg, count=1)
    described = (
        "" if caption is None else f"<figcaption>{html.escape(printable(' '.join(caption.split())))}</figcaption>"
    )
    return f'<figure class="plot">{svg}{described}</figure>'


def show(figure: Figure, alt: str, caption: str | None = None) -> None:
    """Display a figure in a notebook, with its description and caption; it looks the same in the exported page."""
    from IPython.display import HTML, display

    display(HTML(figure_html(figure, alt, caption)))
