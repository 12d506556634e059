"""Small pieces of HTML by which results show themselves in a notebook: a table of facts, atoms as one inline picture.

No script, no reference to elsewhere, and every value escaped.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

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


def markdown_text(value: object) -> str:
    r"""The value as one line of Markdown that shows its very characters, in a table's cell too.

    >>> print(markdown_text("a|b *c* m_1 <i>"))
    a\|b \*c\* m_1 \<i>
    """
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*\[\]|~$<&]|\b_|_\b|^[#>+-])", r"\\\1", line)  # an underscore inside a word is no markup


def table_html(headings: Sequence[str], rows: Sequence[Sequence[object]], most: int = _MOST_ROWS) -> str:
    """A table, its middle left out where it is long, which its caption tells."""
    shown = [*rows[: most // 2], *rows[-(most // 2) :]] if len(rows) > most else list(rows)
    left = len(rows) - len(shown)
    caption = f"<caption>the first and last {most // 2} of {len(rows):,}</caption>" if left else ""
    head = "".join(f'<th scope="col" {_CELL}>{html.escape(name)}</th>' for name in headings)
    body = "".join(
        "<tr>" + "".join(f"<td {_CELL}>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in shown
    )
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def atoms_html(pictures: Tensor, most: int = _MOST_ATOMS) -> str:
    """The first atoms, (n_atoms, height, width), as one small picture.

    Red is above zero, blue below, each atom on its own scale. Empty for atoms of a single number, or of more pixels
    than a reader would see (64 a side).
    """
    count, height, width = pictures.shape
    if count == 0 or height * width < 2 or max(height, width) > 64:
        return ""
    shown = min(count, most)
    source = base64.b64encode(_png(pictures[:shown].detach().cpu().double())).decode()
    scale = max(2, 42 // max(height, width))
    wide = shown * (width + 1) - 1
    words = f"{shown} of {count} filter atoms as small pictures, red above zero, blue below"
    style = f"width:{wide * scale}px;max-width:100%;image-rendering:pixelated"
    return f'<img alt="{words}" style="{style}" src="data:image/png;base64,{source}">'


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


def _png(pictures: Tensor) -> bytes:
    """All pictures in a row, a blank pixel between."""
    import numpy as np
    from matplotlib import colormaps
    from PIL import Image

    count, height, width = pictures.shape
    scaled = pictures / pictures.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
    board = np.ones((height, count * (width + 1) - 1, 4))
    board[..., 3] = 0
    for n, atom in enumerate(scaled.numpy()):
        board[:, n * (width + 1) : n * (width + 1) + width] = colormaps["RdBu_r"](atom / 2 + 0.5)
    buffer = io.BytesIO()
    Image.fromarray((board * 255).round().astype("uint8")).save(buffer, "png")
    return buffer.getvalue()
