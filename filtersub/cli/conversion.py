"""Text on the command line stays text: typer would import pydantic for it, half the time of a short command."""

from __future__ import annotations

from functools import partial
from typing import Any

from typer.core import TyperGroup


class PlainText:
    """For a command or group of typer: passes None and text on, so that pydantic is imported only for the rest."""

    def get_params(self, ctx: Any) -> list[Any]:
        """As typer's; each parameter passes None and text on."""
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            each.process_value = partial(_process, each)
        return parameters


class Subgroup(PlainText, TyperGroup):
    """Commands below a command, such as those of ``filtersub data``."""


def _process(parameter: Any, ctx: Any, value: Any) -> Any:
    """A parameter's value from what stands on the command line, as typer's ``process_value``."""
    if not _is_converted(parameter, value):
        return type(parameter).process_value(parameter, ctx, value)
    return value if parameter.callback is None else parameter.callback(ctx, parameter, value)


def _is_converted(parameter: Any, value: Any) -> bool:
    """Whether there is a value, and typer's conversion would change nothing of it."""
    if value is None:
        return not parameter.required and parameter.nargs == 1 and not parameter.multiple
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)  # typer before 0.27 has none
    if kind == list[str]:
        return bool(value) and isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
    return kind is str and isinstance(value, str)
