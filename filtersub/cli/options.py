"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FiltersubError
from ..solver_names import CODES

if TYPE_CHECKING:
    import torch

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="efficientnet_lite0 (embedded weights), a timm name, timm:NAME, torchvision:NAME, diffusers:FOLDER",
    ),
]
Atoms = Annotated[int, typer.Option(help="Filter atoms m of a spatial kernel; a block of p x q channels gets m p q.")]


def _block(text: str) -> int | tuple[int, ...]:
    try:
        sides = tuple(int(side) for side in text.split(","))
    except ValueError:
        raise ValueError(f"takes numbers such as 4, or 2,4 for (k_c', k_c); got {text!r}") from None
    return sides[0] if len(sides) == 1 else sides


Block = Annotated[
    Any,
    typer.Option(
        parser=_block,
        metavar="K_C|K_C',K_C",
        help="Channel block (input side first): 1x1 kernels and linear layers take part too.",
    ),
]
BlockSpatial = Annotated[bool, typer.Option("--block-spatial", help="Block the channels of spatial kernels too.")]
BlockCoefficients = Annotated[
    bool, typer.Option("--block-coefficients", help="Block alpha (section 4.5) instead of the kernels.")
]
LimitAtoms = Annotated[
    bool,
    typer.Option("--limit-atoms/--any-atoms", help="No more atoms than rows, and than patch entries for linear codes."),
]
ExpansionCoefficients = Annotated[str, typer.Option(help="alpha_1: shared, or per-channel (one an input channel).")]
ExpansionLayers = Annotated[str, typer.Option(help="Whose atoms are expanded: spatial kernels', or all layers'.")]
Override = Annotated[
    list[str] | None,
    typer.Option(metavar="REGEX:NAME=VALUE,...", help="Settings of layers that match; may be repeated."),
]
Nonzeros = Annotated[int | None, typer.Option(help="Largest support of a row, for pursuits (a third of m).")]
Nonnegative = Annotated[bool, typer.Option("--nonnegative", help="Coefficients that are never negative.")]
Init = Annotated[
    str,
    typer.Option(help="Initial atoms: rows, pca, kmeans++, dct, fourier-bessel, or a file (atoms.safetensors)."),
]
Learner = Annotated[str, typer.Option(help="How atoms are learned: alternating, ksvd, approximate-ksvd or online.")]
MaxRounds = Annotated[
    int | None, typer.Option(help="Rounds of dictionary learning at most; 0 keeps the initial atoms.")
]
Tolerance = Annotated[
    float | None, typer.Option(help="Stop learning when rounds lower the objective by less than this.")
]
Solver = Annotated[str, typer.Option(help=f"One of {', '.join(CODES)}.")]
L1Penalty = Annotated[float, typer.Option(help="l in 1/2 ||F - alpha D||^2 + l ||alpha||_1 (half the paper's lambda).")]
Layers = Annotated[str | None, typer.Option(metavar="REGEX", help="Only layers whose name this matches.")]
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
Weights = Annotated[Path | None, typer.Option(help="Local file of weights for the architecture (safetensors or pth).")]
WeightLayout = Annotated[
    str,
    typer.Option("--layout", help="Sides of kernels in a file of weights: torch, keras (h, w, in, out), mlx or auto."),
]
Pretrained = Annotated[bool, typer.Option("--pretrained/--no-pretrained", help="Pretrained weights, or random ones.")]


def _alone(context: typer.Context, given: bool) -> bool:
    """Refuses --json beside --csv: options are read in the order in which they stand, so the second sees the first."""
    if given and any(context.params.get(name) for name in ("as_json", "as_csv")):
        raise typer.BadParameter("--json and --csv exclude one another; give one of them", context)
    return given


AsJson = Annotated[bool, typer.Option("--json", callback=_alone, help="Print JSON instead of a table.")]
AsCsv = Annotated[bool, typer.Option("--csv", callback=_alone, help="Print CSV instead of a table.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; default the GPU where there is one.")]


def stated(context: typer.Context) -> dict[str, Any]:
    """The options that stand on the command line, by name; those left to their defaults are not among them."""
    found = {}
    for option, value in context.params.items():
        source = context.get_parameter_source(option)  # compared by name: typer has a copy of click of its own
        if source is not None and source.name == "COMMANDLINE":
            found[option] = value
    return found


def chosen_device(name: str | None) -> torch.device:
    """The device of this name; None takes the GPU where there is one. Raises FiltersubError when it cannot be used."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise FiltersubError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device
