"""Small pieces of HTML by which results show themselves in a notebook: a table of facts, atoms as one inline picture.

No script, no reference to elsewhere, and every value escaped.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from .printable import one_line

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
_MOST_ATOMS, _MOST_ROWS = 24, 12
_CELL = 'style="text-align:left;padding:.2em .8em .2em 0;vertical-align:top"'


def facts_html(title: str, facts: Iterable[tuple[str, object]], picture: str = "") -> str:
    """A title, a line a fact, and an optional picture below."""
    rows = "".join(
        f'<tr><th scope="row" {_CELL}>{html.escape(name)}</th><td {_CELL}>{html.escape(str(value))}</td></tr>'
        for name, value in facts
        if value not in (None, "")
    )
    return f"<div><p><strong>{html.escape(title)}</strong></p><table><tbody>{rows}</tbody></table>{picture}</div>"


def codes_html(codes: Tensor, name: Callable[[int], str], most: int = 8) -> str:
    """Rows of largest norm among the codes (n_rows, n_atoms), to be unfolded: what each is, and its largest codes.

    ``name`` says in words what the row of a number is; atoms are numbered from 0, as in the figures.
    """
    norms = codes.double().norm(dim=1)
    rows = []
    for number in norms.topk(min(most, len(norms))).indices.tolist():
        row = codes[number]
        largest = row.abs().topk(min(3, len(row))).indices.tolist()
        words = ", ".join(f"{float(row[atom]):.3g} of atom {atom}" for atom in largest if row[atom] != 0)
        rows.append((name(number), int((row != 0).sum()), words))
    return unfold_html("codes of largest norm", table_html(("", "atoms used", "largest codes"), rows))


def unfold_html(title: str, inside: str) -> str:
    """HTML that a click on the title unfolds, without script."""
    return f"<details><summary>{html.escape(title)}</summary>{inside}</details>"


def explore_hint() -> str:
    """How to go on from a result that shows itself in a cell."""
    return "<p><code>filtersub.show_explorer(result)</code> explores it: kernel by kernel, with other settings.</p>"


def text_html(title: str, text: str = "") -> str:
    """A title, and a text below it that stays as it is, line by line."""
    body = f'<pre style="white-space:pre-wrap">{html.escape(text)}</pre>' if text else ""
    return f"<p><strong>{html.escape(title)}</strong></p>{body}"


def markdown_text(value: object) -> str:
    r"""The value as one line of Markdown that shows its very characters, in a table's cell too.

    >>> print(markdown_text("a|b *c* m_1 <i>"))
    a\|b \*c\* m_1 \<i>
    """
    line = one_line(str(value))
    return re.sub(r"([\\`*\[\]|~$<&]|\b_|_\b|^[#>+-])", r"\\\1", line)  # an underscore inside a word is no markup


def table_html(headings: Sequence[str], rows: Sequence[Sequence[object]], most: int = _MOST_ROWS) -> str:
    """A table, its middle left out where it is long, which its caption tells."""
    shown = first_and_last(rows, most)
    left = len(rows) - len(shown)
    caption = f"<caption>the first and last {most // 2} of {len(rows):,}</caption>" if left else ""
    head = "".join(f'<th scope="col" {_CELL}>{html.escape(name)}</th>' for name in headings)
    body = "".join(
        "<tr>" + "".join(f"<td {_CELL}>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in shown
    )
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def first_and_last(rows: Sequence[T], most: int = _MOST_ROWS) -> list[T]:
    """All rows, or where they are more than ``most`` the first and last half of that."""
    return [*rows[: most // 2], *rows[-(most // 2) :]] if len(rows) > most else list(rows)


def atoms_html(pictures: Tensor, most: int = _MOST_ATOMS) -> str:
    """The first atoms, (n_atoms, height, width), as one small picture.

    Red is above zero, blue below, each atom on its own scale. Empty for atoms of a single number, or of more pixels
    than a reader would see (64 a side).
    """
    count, height, width = pictures.shape
    if count == 0 or height * width < 2 or max(height, width) > 64:
        return ""
    shown = min(count, most)
    source = picture_source(pictures[:shown])
    scale = max(2, 42 // max(height, width))
    wide = shown * (width + 1) - 1
    words = f"{shown} of {count} filter atoms as small pictures, red above zero, blue below"
    style = f"width:{wide * scale}px;max-width:100%;image-rendering:pixelated"
    return f'<img alt="{words}" style="{style}" src="{source}">'


def picture_source(pictures: Tensor) -> str:
    """Pictures (n, height, width) in a row with a blank pixel between, each on its own scale, as a data URL."""
    import numpy as np
    from matplotlib import colormaps
    from PIL import Image

    pictures = pictures.detach().cpu().double()
    count, height, width = pictures.shape
    scaled = pictures / pictures.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
    board = np.ones((height, count * (width + 1) - 1, 4))
    board[..., 3] = 0
    for n, atom in enumerate(scaled.numpy()):
        board[:, n * (width + 1) : n * (width + 1) + width] = colormaps["RdBu_r"](atom / 2 + 0.5)
    buffer = io.BytesIO()
    Image.fromarray((board * 255).round().astype("uint8")).save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def tiles_css(selector: str, pictures: Tensor, side: int = 40) -> str:
    """A style sheet that shows pictures (n, height, width) on the elements, the first on the first child and so on.

    Their longer side is ``side`` pixels. No script, no reference to elsewhere.
    """
    count, height, width = pictures.shape
    scale = side / max(height, width)
    wide, tall, whole = width * scale, height * scale, (count * (width + 1) - 1) * scale
    rules = [
        f"{selector}{{box-sizing:border-box;width:{wide:g}px;height:{tall:g}px;min-width:0;padding:0;margin:2px;"
        "font-size:0;border:0;image-rendering:pixelated;background-repeat:no-repeat;"
        f"background-size:{whole:g}px {tall:g}px;background-image:url({picture_source(pictures)})}}",
        f"{selector}.mod-active,{selector}:focus{{outline:3px solid #d55e00;outline-offset:0}}",
    ]
    rules += [
        f"{selector}:nth-child({n + 1}){{background-position:{-n * (width + 1) * scale:g}px 0}}" for n in range(count)
    ]
    return f"<style>{''.join(rules)}</style>"


def boards(atoms: Tensor, patch_shape: tuple[int, ...]) -> Tensor:
    """Atoms (n_atoms, d) as pictures (n_atoms, height, width): a channel block is laid out as a board of kernels.

    ``patch_shape`` is (p, *kernel_size, q), see KernelLayout; slices of a kernel in three dimensions stand below each
    other.
    """
    p, *size, q = patch_shape
    depth, height, width = ([1, 1, 1, *size])[-3:]
    folded = atoms.reshape(-1, p, depth, height, width, q).permute(0, 1, 2, 3, 5, 4)
    return folded.reshape(-1, p * depth * height, q * width)


def square_boards(atoms: Tensor) -> Tensor:
    """Atoms (n_atoms, d) of a layer that is not known: squares where d is a square number, else strips."""
    side = round(atoms.shape[1] ** 0.5)
    return atoms.reshape(len(atoms), side, side) if side * side == atoms.shape[1] else atoms[:, None, :]
