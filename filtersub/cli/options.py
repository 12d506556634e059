"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from ..errors import FiltersubError, reason
from ..setting_fields import help_of
from ..settings import check_digits

if TYPE_CHECKING:
    import torch

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="efficientnet_lite0 (embedded weights), a timm name, timm:NAME, torchvision:NAME, diffusers:FOLDER",
    ),
]
LogWith = Annotated[
    str | None,
    typer.Option(metavar="NAME[,NAME...]", help="Trackers of each training: tensorboard, wandb, mlflow, aim, ..."),
]
Reading = Annotated[
    str | None,
    typer.Option(help="text (the paper as printed) or authors (their public code): fills in what a run leaves open."),
]
PaperRun = Annotated[
    str | None,
    typer.Option(
        "--paper", metavar="PART[/RUN]", help="A run of the paper, such as figure4/setting-2; see `filtersub paper`."
    ),
]
WeightLayout = Annotated[
    str,
    typer.Option("--layout", help="Sides of kernels in a file of weights: torch, keras (h, w, in, out), mlx or auto."),
]


def _alone(context: typer.Context, given: bool) -> bool:
    """Refuses --json beside --csv: options are read in the order in which they stand, so the second sees the first."""
    if given and any(context.params.get(name) for name in ("as_json", "as_csv")):
        raise FiltersubError("--json and --csv exclude one another; give one of them")
    return given


AsJson = Annotated[bool, typer.Option("--json", callback=_alone, help="Print JSON instead of a table.")]
AsCsv = Annotated[bool, typer.Option("--csv", callback=_alone, help="Print CSV instead of a table.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default the GPU where there is one.")]


def with_settings(kind: type, only: Iterable[str] | None = None) -> Callable[[Callable[..., None]], Any]:
    """Gives a command that takes ``**settings`` an option for each field of a dataclass, or for ``only`` those."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        parameters = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        taken, hints = {each.name for each in parameters}, _hints(kind)
        chosen = [each for each in fields(kind) if each.name not in taken and (only is None or each.name in only)]
        parameters += [_parameter(each, hints[each.name]) for each in chosen]
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return command

    return decorate


_hints = functools.cache(get_type_hints)  # a command more of the same settings takes no time


def _parameter(setting: Field[Any], hint: Any) -> inspect.Parameter:
    further = dict(setting.metadata["on_command_line"])
    switch = (f"--{setting.name.replace('_', '-')}",) if setting.default is False else ()
    option = typer.Option(*further.pop("param_decls", switch), help=f"{help_of(setting)}.", **further)
    kinds = set(get_args(hint) or (hint,)) - {NoneType}
    if setting.name == "overrides":
        hint = list[str] | None
    elif len(kinds) > 1 or not kinds <= {bool, int, float, str}:
        hint = str | None  # read_settings reads it
    default = inspect.Parameter.empty if setting.default is MISSING else setting.default
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, option]
    )


def stated(context: typer.Context) -> set[str]:
    """The names of the options that stand on the command line, not left to their defaults."""
    sources = {option: context.get_parameter_source(option) for option in context.params}
    # compared by name: typer has a copy of click of its own
    return {option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def read_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from options: those of texts that mean numbers or more are read. Raises FiltersubError."""
    return {
        name: _READ[name](value) if name in _READ and value is not None else value for name, value in values.items()
    }


def _numbers(option: str, kind: type, example: str, *, or_one: bool = True) -> Callable[[Any], Any]:
    """Reads numbers with commas between them; one alone is itself, unless ``or_one`` is false."""

    def read(text: str) -> Any:
        check_digits(option, text)
        try:
            found = tuple(map(kind, text.split(",")))
        except ValueError:
            raise FiltersubError(f"{option} takes numbers such as {example}; got {text!r}") from None
        return found[0] if or_one and len(found) == 1 else found

    return read


def _rate(text: str) -> float | str:
    check_digits("--learning-rate", text)
    try:
        return float(text)
    except ValueError:
        return text  # the settings know which words mean something


def _overrides(texts: list[str]) -> dict[str, dict[str, Any]]:
    from ..recipe_file import read_overrides

    return read_overrides(texts)


_READ: dict[str, Callable[[Any], Any]] = {
    "block": _numbers("--block", int, "4, or 2,4 for (k_c', k_c)"),
    "expansion": _numbers("--expansion", int, "4 or 4,3"),
    "rates": _numbers("--rates", float, "0.001,0.01", or_one=False),
    "learning_rate": _rate,
    "overrides": _overrides,
}


def chosen_device(name: str | None) -> torch.device:
    """The device of this name; None takes the GPU where there is one. Raises FiltersubError when it cannot be used."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise FiltersubError(f"the device {name!r} cannot be used: {reason(error)}") from None
    return device
