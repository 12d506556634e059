"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..sparse_coding import SOLVERS

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
Solver = Annotated[str, typer.Option(help=f"One of {', '.join(SOLVERS)}.")]
Sparsity = Annotated[float, typer.Option(help="l in 1/2 ||F - alpha D||^2 + l ||alpha||_1 (half the paper's lambda).")]
Layers = Annotated[str | None, typer.Option(metavar="REGEX", help="Only layers whose name this matches.")]
Weights = Annotated[Path | None, typer.Option(help="Local file of weights for the architecture (safetensors or pth).")]
Random = Annotated[bool, typer.Option("--random", help="Random weights instead of pretrained ones.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
