"""What the exploration notebook does while a slider moves: one layer decomposed, from where the last look ended.

A look is quick because it is a sketch: the atoms are learned on a sample of the layer's kernels, in few rounds, from
the atoms of the look before. Errors and densities are those of the sample; ``every_kernel`` decomposes the layer in
full.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import plots
from .decomposition import DecompositionConfig
from .decomposition.layer import coding_settings, decomposable_rows, learn
from .dictionary import learn_dictionary
from .errors import FiltersubError
from .kernels import KernelLayout, named_layers, select_layers
from .markup import boards
from .sparse_coding import SOLVERS, check_solver

#: Solver -> kernels that one look at a layer codes; those that take many iterations get fewer.
SAMPLE_ROWS = {"lasso": 65_536, "omp": 32_768, "pca": 65_536, "ridge": 65_536, "fista": 512}
_ROUNDS, _TOL = 12, 1e-3  # of a look; a full decomposition takes up to 1,000 at 1e-5
_SHOWN_KERNELS = 48


@dataclass(frozen=True)
class Look:
    """A layer over a few atoms, as far as one look tells.

    Attributes
    ----------
    atoms : Tensor (n_atoms, d); pictures : the same as (n_atoms, height, width), a picture each
    codes : Tensor (n_looked_at, n_atoms) of the kernels looked at
    relative_error, density : over these kernels
    looked_at, rows : how many kernels these are, and how many the layer has
    warm : whether the atoms of an earlier look were the start
    """

    layer: str
    layout: KernelLayout
    solver: str
    l1_penalty: float
    atoms: Tensor
    codes: Tensor
    relative_error: float
    density: float
    looked_at: int
    rows: int
    seconds: float
    warm: bool

    @property
    def pictures(self) -> Tensor:
        return boards(self.atoms, self.layout.patch_shape)

    def row(self) -> dict[str, Any]:
        """The look without its tensors, as a row of a table."""
        names = ("layer", "solver", "l1_penalty", "relative_error", "density", "looked_at", "rows", "seconds", "warm")
        return {"atoms": self.atoms.shape[0], **{name: getattr(self, name) for name in names}}

    @property
    def sentence(self) -> str:
        """The numbers in words, and of how much of the layer they are."""
        whole = self.looked_at == self.rows
        seen = f"all {self.rows:,} kernels" if whole else f"a random {self.looked_at:,} of {self.rows:,} kernels"
        start = "from the last atoms" if self.warm else "from new atoms"
        return (
            f"{self.layer}: {self.atoms.shape[0]} atoms rebuild {seen} with a relative error of "
            f"{self.relative_error:.1%}; {self.density:.1%} of the coefficients are not zero. "
            f"Solver {self.solver}, l = {self.l1_penalty:g}, {start}, {self.seconds:.2f} s."
        )


class Explorer:
    """Looks at the layers of a model, each from where the last look at it ended.

    Parameters
    ----------
    model : module, or state dict of weights
    block : int, optional; 1x1 kernels and linear layers take part in blocks of block x block channels
    layers : regular expression of layer names, optional
    seed : of the sample of kernels and of the first atoms

    Raises FiltersubError when no layer matches.
    """

    def __init__(
        self,
        model: nn.Module | dict[str, Tensor],
        *,
        block: int | None = None,
        layers: str | None = None,
        seed: int = 0,
    ) -> None:
        self.layouts = select_layers(model, layers=layers, block=block)
        self._modules, self._seed = dict(named_layers(model)), seed
        self._rows: dict[str, Tensor] = {}
        self._last: dict[tuple[str, bool], Tensor] = {}

    @property
    def names(self) -> list[str]:
        return list(self.layouts)

    def most_atoms(self, layer: str, solver: str = "lasso") -> int:
        """The largest n_atoms that the layer allows: its rows, and for linear solvers the entries of a patch."""
        layout = self._layout(layer)
        linear = SOLVERS[check_solver(solver)] == "linear"
        return min(layout.n_rows, layout.patch_size) if linear else layout.n_rows

    def look(
        self, layer: str, atoms: int = 9, solver: str = "lasso", l1_penalty: float = 1e-3, *, every_kernel: bool = False
    ) -> Look:
        """Decompose one layer quickly, or in full with ``every_kernel``.

        ``l1_penalty`` is l in ``1/2 ||F - C D||^2 + l ||C||_1``; solvers that bound the support take a third of the
        atoms instead. More atoms than the layer allows become as many as it does. Raises FiltersubError for a layer or
        a solver that is not known, for fewer atoms than 1 and a negative l.
        """
        started = time.perf_counter()
        layout = self._layout(layer)
        recipe = DecompositionConfig(atoms=atoms, solver=solver, l1_penalty=l1_penalty, seed=self._seed)
        n_atoms = min(atoms, self.most_atoms(layer, solver))
        rows = self._kernels(layer)
        seen = rows if every_kernel else self._sample(rows, SAMPLE_ROWS.get(solver, min(SAMPLE_ROWS.values())))
        n_atoms = min(n_atoms, seen.shape[0])
        linear = SOLVERS[solver] == "linear"
        start = None if linear else self._start(layer, n_atoms, seen, recipe)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few rounds are what is wanted here; a penalty that leaves nothing shows
            if every_kernel:
                found = learn(rows, n_atoms, recipe, layout)
            else:
                found = learn_dictionary(
                    seen,
                    n_atoms,
                    atoms_init=start,
                    max_rounds=_ROUNDS,
                    tol=_TOL,
                    sample_rows=0,
                    n_starts=1,
                    seed=self._seed,
                    **coding_settings(recipe, n_atoms),
                )
        self._last[layer, recipe.nonnegative] = found.atoms
        norm = float(seen.norm())
        return Look(
            layer,
            layout,
            solver,
            l1_penalty,
            found.atoms,
            found.codes,
            float((seen - found.codes @ found.atoms).norm()) / norm if norm > 0 else 0.0,
            float((found.codes != 0).double().mean()),
            seen.shape[0],
            rows.shape[0],
            time.perf_counter() - started,
            start is not None and not every_kernel,
        )

    def _layout(self, layer: str) -> KernelLayout:
        if layer not in self.layouts:
            raise FiltersubError(f"no layer {layer!r} to explore; known: {', '.join(self.layouts)}")
        return self.layouts[layer]

    def _kernels(self, layer: str) -> Tensor:
        if layer not in self._rows:
            self._rows = {layer: decomposable_rows(self.layouts[layer], self._modules[layer]).detach()}  # one at a time
        return self._rows[layer]

    def _sample(self, rows: Tensor, most: int) -> Tensor:
        if rows.shape[0] <= most:
            return rows
        generator = torch.Generator().manual_seed(self._seed)
        return rows[torch.randint(rows.shape[0], (most,), generator=generator)]

    def _start(self, layer: str, n_atoms: int, rows: Tensor, recipe: DecompositionConfig) -> Tensor | None:
        """The last atoms of the layer, the weakest left out or kernels of the sample joined; None at the first look."""
        last = self._last.get((layer, recipe.nonnegative))
        if last is None:
            return None
        missing = n_atoms - last.shape[0]
        if missing <= 0:
            return last[:n_atoms]
        strongest = rows[rows.norm(dim=1).topk(min(rows.shape[0], 4 * missing)).indices]
        left = strongest - (strongest @ last.T) @ torch.linalg.pinv(last @ last.T) @ last
        new = strongest[left.norm(dim=1).topk(missing).indices]
        return torch.cat([last, new / new.norm(dim=1, keepdim=True).clamp_min(torch.finfo(new.dtype).tiny)])


def look_figure(look: Look, width: float = 7.4) -> Any:
    """The look as a figure: atoms, how many of them a kernel uses, and the codes of a few kernels."""
    return plots.exploration(look.pictures.numpy(force=True), _some_codes(look), look.codes, width=width)


def look_html(look: Look) -> str:
    return plots.figure_html(look_figure(look), look.sentence, look.sentence)


def _some_codes(look: Look) -> Any:
    """Codes of the kernels of largest norm among the first thousand: (n, n_atoms)."""
    codes = look.codes[:1000]
    return codes[codes.norm(dim=1).topk(min(_SHOWN_KERNELS, codes.shape[0])).indices].numpy(force=True)
