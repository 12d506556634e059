"""A command called wrongly: one line that names what is wrong and the fix, instead of typer's box of several lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from ..errors import FiltersubError, meant
from .conversion import PlainText
from .help_pages import EXAMPLES

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # of click, or of the copy that newer typer has of its own


class Group(PlainText, TyperGroup):
    """All commands under one name, which raise FiltersubError where the words after it are none that can be run."""

    def make_context(self, info_name: str | None, args: list[str], *others: Any, **settings: Any) -> Any:
        """As click's; the words as they were given are kept for errors of the commands below."""
        given = list(args)
        with self._one_line(given):
            context = super().make_context(info_name, args, *others, **settings)
        context.meta[__name__] = given
        return context

    def invoke(self, ctx: Any) -> Any:
        """As click's."""
        with self._one_line(ctx.meta[__name__]):
            return super().invoke(ctx)

    @contextlib.contextmanager
    def _one_line(self, words: Sequence[str]) -> Iterator[None]:
        try:
            yield
        except _UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: typer shows its page
                raise
            raise FiltersubError(_said(error, words, _command(self, words))) from None


def _command(group: Any, words: Sequence[str]) -> str:
    """The command that the words begin with, as ``filtersub data list``."""
    names = ["filtersub"]
    for word in words:
        if word not in getattr(group, "commands", {}):
            break
        names.append(word)
        group = group.commands[word]
    return " ".join(names)


def _said(error: Any, words: Sequence[str], command: str) -> str:
    """What is wrong, and the fix or the page that has it."""
    kind, parameter = type(error).__name__, getattr(error, "param", None)
    if kind == "NoSuchOption":
        text = f"unknown option {error.option_name!r}{meant(error.option_name, _options(error.ctx))}"
    elif kind == "MissingParameter" and parameter is not None:
        option = parameter.opts[0]
        text = f"the {'option' if option.startswith('-') else 'argument'} {option} is missing{_example(command)}"
    elif kind == "BadParameter" and parameter is not None:
        value = _value(parameter.opts, words)
        text = f"{parameter.opts[0]} {_taken(error.message)}{'' if value is None else f'; got {value!r}'}"
    else:
        text = " ".join(error.format_message().split()).rstrip(".")
        text = f"{text[:1].lower()}{text[1:]}"
    return text if text.endswith("?") else f"{text}; see `{command} --help`"


def _options(context: Any) -> list[str]:
    return [name for each in context.command.get_params(context) for name in (*each.opts, *each.secondary_opts)]


def _example(command: str) -> str:
    examples = EXAMPLES.get(command.rpartition(" ")[2])
    return f", as in `{examples[0]}`" if examples else ""


def _value(options: Sequence[str], words: Sequence[str]) -> str | None:
    """The last word that was given to one of these options."""
    found = None
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, mark, value = word.partition("=")
        if name in options:
            found = value if mark else following
    return found


def _taken(message: str) -> str:
    if "integer" in message:
        return "takes a whole number"
    return "takes a number" if "number" in message or "float" in message else f"is not right: {message}"
