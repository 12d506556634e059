"""Compilation and loading happen before the clock runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from ..kernels import KernelLayout
from .layer import learn
from .recipe import DecompositionConfig, is_file_of_atoms


def warm_up(layouts: Iterable[KernelLayout], config: DecompositionConfig, atoms: Iterable[int] = ()) -> None:
    """Learn from a few made-up rows of each kind of layer at each m, so that a time taken after is of the work alone.

    Needed where more than a decomposition is timed; its own ``seconds`` leave out what happens once a process.
    """
    layouts = list(layouts)
    for recipe in [config, *(replace(config, atoms=m) for m in atoms)]:
        if recipe.code_kind == "random":
            continue
        short = replace(recipe, init="rows" if is_file_of_atoms(recipe.init) else recipe.init, max_rounds=1)
        kinds = {(recipe.distinct_atoms(layout), layout.patch_size): layout for layout in layouts}
        for (n_atoms, size), layout in kinds.items():
            rows = torch.randn(max(64, n_atoms), size, generator=torch.Generator().manual_seed(0))
            learn(rows, n_atoms, short, layout)
        parts = [recipe.coefficient_part(layout) for layout in kinds.values() if recipe.block_coefficients]
        for of_alpha, its_recipe in {
            (of_alpha.patch_size, own.atoms): (of_alpha, own) for of_alpha, own in parts
        }.values():
            warm_up([of_alpha], its_recipe)
