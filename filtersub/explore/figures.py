"""Looks, one kernel's codes, two looks and their recipes as pieces of HTML that need nothing else."""

from typing import Any

from .. import plots
from ..markup import table_html, text_html
from ..percentages import percentage
from ..printable import counted
from ..recipe_file import layer_pattern, recipe_text
from ..settings import check_whole
from .explorer import Explorer
from .look import Look, comparison, have_the_same_codes, pictures_of, relative_error

_MOST_CHANGES = 16  # atoms before and after tuning: of hundreds, those that moved most


def look_figure(look: Look, width: float = 7.4) -> Any:
    """The look as a figure: atoms, how many of them a kernel uses, and the codes of a few kernels."""
    pictures = None if look.pictures is None else look.pictures.numpy(force=True)
    return plots.exploration(pictures, look.codes[look.shown].numpy(force=True), look.codes, width=width)


def look_html(look: Look, width: float = 7.4) -> str:
    return plots.figure_html(look_figure(look, width), look.sentence, look.sentence)


def kernel_html(look: Look, number: int, width: float = 7.4) -> str:
    """The codes of one kernel looked at: the kernel, what rebuilds it, and its coefficient of each atom.

    Raises FiltersubError unless ``number`` is that of a kernel looked at, from 0.
    """
    check_whole("number", number, 0, look.looked_at - 1)
    codes = look.codes[number]
    rebuilt = None if look.atoms is None else pictures_of((codes @ look.atoms)[None], look.layout)[0]
    kernel = None if look.kernels is None else pictures_of(look.kernels[number][None], look.layout)[0]
    used = int((codes != 0).sum())
    words = f"Kernel of {look.kernel_words(number)}: {used} of {len(codes)} atoms"
    if look.kernels is not None and look.atoms is not None:
        error = relative_error(look.kernels[number], codes, look.atoms)
        words += f" rebuild it with a relative error of {percentage(error)}"
    pictures = [None if each is None else each.numpy(force=True) for each in (kernel, rebuilt, look.pictures)]
    return plots.figure_html(plots.kernel_codes(codes.numpy(force=True), *pictures, width=width), words, f"{words}.")


def comparison_html(left: Look, right: Look) -> str:
    """The comparison as a table; atoms before and after tuning as pictures where both sides have the same codes."""
    table = table_html(("", "left", "right"), comparison(left, right))
    if not have_the_same_codes(left, right):
        return table
    moved = (right.atoms - left.atoms).norm(dim=1)
    most = moved.topk(min(_MOST_CHANGES, len(moved))).indices.sort().values
    before, after = (look.pictures[most].numpy(force=True) for look in (left, right))
    figure = plots.atom_changes({left.layer: {"before": before, "after": after, "change": after - before}})
    words = (
        f"The {counted(len(most), 'atom')} of {left.layer} that tuning moved most; the change has a scale of its own."
    )
    return table + plots.figure_html(figure, words, words)


def export_html(explorer: Explorer, look: Look) -> str:
    """The recipe of a look, as YAML and as a command, to be copied; both decompose every kernel of the layer."""
    command = explorer.command(look)
    if command is None:
        return text_html("The recipe of this result is not known.")
    text = recipe_text(look.recipe, layers=layer_pattern(look.layer))
    return text_html("As a command", command) + text_html("As YAML, for filtersub decompose --config FILE", text)
