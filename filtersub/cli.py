"""The command line: every command, each in a file of its own, which parses, calls one function and prints."""

from __future__ import annotations

import sys

import typer

from .cli_ablate import ablate
from .cli_counting import count, suggest
from .cli_data import data_app
from .cli_decompose import decompose
from .cli_generate import distance, generate, generate_tune
from .cli_notebook import check_notebook
from .cli_report import report
from .cli_tune import tune
from .errors import FiltersubError

app = typer.Typer(
    help="Decompose convolution kernels into filter atoms, tune only the atoms, publish the ablation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (decompose, count, suggest, tune, ablate, report, check_notebook, generate_tune, generate, distance):
    app.command()(command)
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point: bad input is one line on standard error and exit code 2."""
    try:
        app()
    except FiltersubError as error:
        sys.stderr.write(f"filtersub: {error}\n")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        sys.stderr.write("filtersub: interrupted; what was finished is kept, run the same command to go on\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
