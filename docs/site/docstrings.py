"""Docstrings are written to be read as plain text; this is the little that Sphinx has to be told about them."""

from __future__ import annotations

import re

_DOCTEST = re.compile(r"(^[ ]*>>> .*?(?=^[ ]*$|\Z))", re.S | re.M)
_LITERAL = re.compile(r"(``[^`]+``)")
_MARKUP = re.compile(r"([\\*`|_])")


def as_rst(text: str) -> str:
    """A docstring as reStructuredText: sections are rubrics, their entries a list; ``code`` and doctests stay; nothing
    else is markup.

    >>> print(as_rst("F_c * 2\\n\\nParameters\\n----------\\nrows : Tensor (n, d)\\n    of any norm"))
    F\\_c \\* 2
    <BLANKLINE>
    .. rubric:: Parameters
    <BLANKLINE>
    * **rows** : Tensor (n, d)
      of any norm
    """
    parts = _DOCTEST.split(text)
    parts[::2] = [_escaped(part) for part in parts[::2]]
    lines, section = [], False
    source = "".join(parts).splitlines()
    for number, line in enumerate(source):
        following = source[number + 1] if number + 1 < len(source) else ""
        if line and set(line) == {"-"}:
            continue
        if following and set(following) == {"-"}:
            lines += ["", f".. rubric:: {line}", ""]
            section = True
        elif not section or not line.strip():
            lines.append(line)
        elif line.startswith(" "):
            lines.append("  " + line.removeprefix("    "))
        elif lines[-1] == "" and not lines[-2].startswith(".. rubric"):  # text after the section
            section = False
            lines.append(line)
        else:
            name, colon, rest = line.partition(" : ")
            lines.append(f"* **{name}**{colon}{rest}" if "`" not in name else f"* {line}")
    return "\n".join(lines).strip("\n")


def _escaped(text: str) -> str:
    parts = _LITERAL.split(text)
    parts[::2] = [_MARKUP.sub(r"\\\1", part) for part in parts[::2]]
    return "".join(parts)
