"""A command called wrongly: one line that names what is wrong and the fix, instead of typer's box of several lines."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from ..errors import FiltersubError, meant
from .help_pages import EXAMPLES, PlainText, option_values

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
            names, group = ["filtersub"], self  # of the command that the words begin with
            for word in words:
                if word not in getattr(group, "commands", {}):
                    break
                names.append(word)
                group = group.commands[word]
            raise FiltersubError(_said(error, words, " ".join(names))) from None


def _said(error: Any, words: Sequence[str], command: str) -> str:
    """What is wrong, and the fix or the page that has it."""
    kind, parameter = type(error).__name__, getattr(error, "param", None)
    if kind == "NoSuchOption":
        known = [
            name for each in error.ctx.command.get_params(error.ctx) for name in (*each.opts, *each.secondary_opts)
        ]
        text = f"unknown option {error.option_name!r}{meant(error.option_name, known)}"
    elif kind == "MissingParameter" and parameter is not None:
        option, examples = parameter.opts[0], EXAMPLES.get(command.rpartition(" ")[2])
        example = f", as in `{examples[0]}`" if examples else ""
        text = f"the {'option' if option.startswith('-') else 'argument'} {option} is missing{example}"
    elif kind == "BadParameter" and parameter is not None:
        taken = f"is not right: {error.message}"
        if "integer" in error.message:
            taken = "takes a whole number"
        elif "number" in error.message or "float" in error.message:
            taken = "takes a number"
        given = [value for option, value in option_values(words) if option in parameter.opts]
        text = f"{parameter.opts[0]} {taken}{f'; got {given[-1]!r}' if given else ''}"
    else:
        text = " ".join(error.format_message().split()).rstrip(".")
        text = f"{text[:1].lower()}{text[1:]}"
    return text if text.endswith("?") else f"{text}; see `{command} --help`"
