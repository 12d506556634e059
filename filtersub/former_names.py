"""Names that settings had before. The command line and files of then still take them; each name is in one table."""

import warnings
from collections.abc import Mapping
from typing import Any

from .errors import FiltersubError, FormerNameWarning

#: of settings in overrides, adapters, decompositions and records, by the name of then
SETTINGS = {"sparsity": "l1_penalty"}
#: and of a YAML file of a decomposition
RECIPE_KEYS = {**SETTINGS, "share": "shared_dictionary"}
#: of options on the command line, by the option of then
OPTIONS = {
    "--sparsity": "--l1-penalty",
    "--share": "--shared-dictionary",
    "--share-layers": "--shared-layers",
    "--random": "--no-pretrained",
}


def by_name_of_today(
    settings: Mapping[str, Any], source: str | None = None, names: Mapping[str, str] = SETTINGS
) -> dict[str, Any]:
    """The settings, each under its name of today.

    With a ``source``, a file or option that somebody wrote by hand, FormerNameWarning names what to write there now.
    Raises FiltersubError where a setting is given under both names.
    """
    found = dict(settings)
    for former, name in names.items():
        if former not in found:
            continue
        if name in found:
            raise FiltersubError(f"{source or 'settings'}: {former!r} is the former name of {name!r}; give one of them")
        if source is not None:
            warnings.warn(f"{source}: {former!r} is called {name!r} now", FormerNameWarning, stacklevel=3)
        found = {name if key == former else key: value for key, value in found.items()}  # in their order
    return found


def with_options_of_today(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Arguments of the command line with options of today, and a note for each former one.

    >>> with_options_of_today(["model", "--sparsity=0.1"])
    (['model', '--l1-penalty=0.1'], ['--sparsity is called --l1-penalty now'])
    """
    found, notes = [], []
    for place, argument in enumerate(arguments):
        if argument == "--":  # what follows are no options
            return [*found, *arguments[place:]], notes
        option, equals, value = argument.partition("=")
        today = OPTIONS.get(option, option)
        if today != option:
            notes.append(f"{option} is called {today} now")
        found.append(f"{today}{equals}{value}")
    return found, notes
