"""Texts of others (labels, names, titles, errors) as they may be printed: what steers a terminal is written out."""

import re

# control characters, the separators of lines and paragraphs, and marks that turn the direction of reading
_UNPRINTABLE = "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_A_LINE = re.compile(f"[{_UNPRINTABLE}]")
_WHITE = re.compile(r"[^\S\N{NO-BREAK SPACE}]+")
_IN_A_PAGE = re.compile(f"(?![\t\n\r])[{_UNPRINTABLE}]")


def printable(text: str) -> str:
    """The text on one line, with its control characters and bidi marks as Python writes them.

    >>> print(printable("a\\tb\\x1b[31m"))
    a\\tb\\x1b[31m
    """
    return _IN_A_LINE.sub(_written, text)


def counted(number: int, noun: str) -> str:
    """A number with its noun, which has a plural in "s".

    >>> counted(1, "atom"), counted(3000, "atom")
    ('1 atom', '3,000 atoms')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def heading(name: str) -> str:
    """The name of a table's column as words.

    >>> heading("relative_error")
    'relative error'
    """
    return name.replace("_", " ")


def printable_in_page(text: str) -> str:
    """As printable, for HTML, which takes line ends and tabs for spaces."""
    return _IN_A_PAGE.sub(_written, text)


def one_line(text: str) -> str:
    """The text with each run of white space, line ends too, as one space; spaces that do not break stay.

    >>> one_line("a\\n  b 5\N{NO-BREAK SPACE}% ").split(" ")
    ['a', 'b', '5\\xa0%']
    """
    return _WHITE.sub(" ", text).strip()


def _written(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
