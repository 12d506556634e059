"""The application: every command, by its name."""

import copy
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from .. import __version__
from ..errors import FiltersubError
from .ablate import ablate, check_notebook, new, report
from .counting import count, suggest
from .data import data_app
from .decompose import compile_kernels, decompose
from .endings import GONE, has_no_working_folder
from .generate import distance, generate, generate_tune
from .help_pages import Command
from .paper import paper
from .tune import tune
from .usage import Group

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
COMMANDS = (
    *(decompose, count, suggest, tune, ablate, report, new, check_notebook),
    *(paper, generate_tune, generate, distance, compile_kernels),
)
for command in COMMANDS:
    app.command(cls=Command)(command)
app.add_typer(data_app, name="data")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"filtersub {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Decompose convolution kernels into filter atoms, tune only the atoms, publish the ablation."""
    if has_no_working_folder():
        raise FiltersubError(GONE)


def called(words: Sequence[str]) -> typer.Typer:
    """``app`` with what is called alone: typer would build all commands, a sixth of what a quick one takes."""
    found = copy.copy(app)
    found.registered_commands = [each for each in app.registered_commands if _name(each.callback) in words[:1]]
    found.registered_groups = [each for each in app.registered_groups if each.name in words[:1]]
    return found if found.registered_commands or found.registered_groups else app


def _name(command: Callable[..., object]) -> str:
    return command.__name__.replace("_", "-")
