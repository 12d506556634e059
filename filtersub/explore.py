"""What the exploration notebook does while a slider moves: one layer decomposed, from where the last look ended.

A look is quick because it is a sketch: the atoms are learned on a sample of the layer's kernels, in few rounds, from
the atoms of the look before. Errors and densities are those of the sample; ``every_kernel`` decomposes the layer in
full. Looks of two settings are compared on the kernels that both looked at.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping
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
from .markup import boards, facts_html, square_boards, table_html
from .recipe_file import recipe_command, recipe_text
from .sparse_coding import check_solver

#: Solver -> kernels that one look at a layer codes; those that take many iterations get fewer.
SAMPLE_ROWS = {"lasso": 65_536, "omp": 32_768, "pca": 65_536, "ridge": 65_536, "fista": 512}
_ROUNDS, _TOL = 12, 1e-3  # of a look; a full decomposition takes up to 1,000 at 1e-5
SHOWN_KERNELS = 48
_SHOWN_OF = min(SAMPLE_ROWS.values())  # the kernels shown are among those that every solver looks at


@dataclass(frozen=True)
class Look:
    """A layer over a few atoms, as far as one look tells.

    Attributes
    ----------
    atoms : Tensor (n_atoms, d); pictures : the same as (n_atoms, height, width), a picture each. None where a result
        holds codes alone
    codes : Tensor (n_looked_at, n_atoms) of the kernels looked at
    relative_error, density : over these kernels; relative_error is None where the kernels are not known
    looked_at, rows : how many kernels these are, and how many the layer has
    warm : whether the atoms of an earlier look were the start
    kernels : Tensor (n_looked_at, d), the kernels looked at; None where they are not known
    places : Tensor (n_looked_at,), their rows in the kernel matrix; None where all rows are there in order
    shown : Tensor (n_shown,), numbers among the kernels looked at of those that are shown one by one
    recipe : decomposes the layer alike in full; None where it is not known
    found_by : how the result came about, in words, where no look found it
    """

    layer: str
    layout: KernelLayout | None
    solver: str
    l1_penalty: float | None
    atoms: Tensor | None
    codes: Tensor
    relative_error: float | None
    density: float
    looked_at: int
    rows: int
    seconds: float
    warm: bool
    kernels: Tensor | None
    places: Tensor | None
    shown: Tensor
    recipe: DecompositionConfig | None
    found_by: str = ""

    @property
    def pictures(self) -> Tensor | None:
        return None if self.atoms is None else _pictures(self.atoms, self.layout)

    def row(self) -> dict[str, Any]:
        """The look without its tensors, as a row of a table."""
        names = ("layer", "solver", "l1_penalty", "relative_error", "density", "looked_at", "rows", "seconds", "warm")
        return {"atoms": self.codes.shape[1], **{name: getattr(self, name) for name in names}}

    @property
    def sentence(self) -> str:
        """The numbers in words, and of how much of the layer they are."""
        whole = self.looked_at == self.rows
        seen = f"all {self.rows:,} kernels" if whole else f"a random {self.looked_at:,} of {self.rows:,} kernels"
        error = "" if self.relative_error is None else f" with a relative error of {self.relative_error:.1%}"
        start = self.found_by or ("from the last atoms" if self.warm else "from new atoms")
        penalty = "" if self.l1_penalty is None else f", l = {self.l1_penalty:g}"
        return (
            f"{self.layer}: {self.codes.shape[1]} atoms rebuild {seen}{error}; {self.density:.1%} of the coefficients "
            f"are not zero. Solver {self.solver}{penalty}, {start}, {self.seconds:.2f} s."
        )

    def kernel_words(self, number: int) -> str:
        """Which kernel of the layer the one with this number among those looked at is."""
        place = number if self.places is None else int(self.places[number])
        if self.layout is None:
            return f"row {place}"
        (p, q), (out, into) = self.layout.block, divmod(place, self.layout.input_channels)
        return f"{_channels('output', out * p, p)}, {_channels('input', into * q, q)}"

    def tiles(self) -> Tensor:
        """A picture (height, width) of each kernel shown: itself, else as rebuilt, else its codes as a strip."""
        if self.kernels is not None:
            return _pictures(self.kernels[self.shown], self.layout)
        if self.atoms is not None:
            return _pictures(self.codes[self.shown] @ self.atoms, self.layout)
        return self.codes[self.shown][:, None, :]


class Explorer:
    """Looks at the layers of a model, each from where the last look at it ended.

    Parameters
    ----------
    model : module, or state dict of weights; None where there are only results
    block : int, optional; 1x1 kernels and linear layers take part in blocks of block x block channels
    layers : regular expression of layer names, optional
    seed : of the sample of kernels and of the first atoms
    name : what the command line calls the model, options included, for the exported command
    title : what the weights are, such as "after tuning"
    found : results by layer that are there already, each as a function that returns its Look

    Raises FiltersubError when no layer matches.
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, Tensor] | None,
        *,
        block: int | tuple[int, int] | None = None,
        layers: str | None = None,
        seed: int = 0,
        name: str | None = None,
        title: str = "",
        found: Mapping[str, Callable[[], Look]] | None = None,
    ) -> None:
        self.layouts = {} if model is None else select_layers(model, layers=layers, block=block)
        self.name, self.title = name, title
        self._modules = {} if model is None else dict(named_layers(model))
        self._block, self._seed, self._found = block, seed, dict(found or {})
        self._rows: dict[str, Tensor] = {}
        self._last: dict[tuple[str, bool], Tensor] = {}

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys([*self.layouts, *self._found]))

    def beside(self) -> Explorer:
        """The same layers to look at by another setting: its looks start from its own last ones."""
        other = copy.copy(self)
        other._last = {}
        return other

    def has_found(self, layer: str) -> bool:
        """Whether a result of the layer is there already, for ``found``."""
        return layer in self._found

    def found(self, layer: str) -> Look:
        """The result of a layer that is there already. Raises FiltersubError where there is none."""
        if layer not in self._found:
            raise FiltersubError(f"no result of layer {layer!r} is there; those there are: {', '.join(self._found)}")
        return self._found[layer]()

    def look(
        self, layer: str, atoms: int = 9, solver: str = "lasso", l1_penalty: float = 1e-3, *, every_kernel: bool = False
    ) -> Look:
        """Decompose one layer quickly, or in full with ``every_kernel``.

        ``atoms`` is m: a block of p x q channels has m p q atoms. ``l1_penalty`` is l in ``1/2 ||F - C D||^2 +
        l ||C||_1``; solvers that bound the support take a third of the atoms instead. More atoms than the layer allows
        become as many as it does. Raises FiltersubError for a layer or a solver that is not known, for fewer atoms
        than 1 and a negative l.
        """
        started = time.perf_counter()
        layout = self._layout(layer)
        check_solver(solver)
        recipe = DecompositionConfig(
            atoms=atoms, block=self._block, solver=solver, l1_penalty=l1_penalty, seed=self._seed
        )
        rows = self._kernels(layer)
        places = None if every_kernel else self._sample(rows, SAMPLE_ROWS.get(solver, _SHOWN_OF))
        seen = rows if places is None else rows[places]
        n_atoms = min(recipe.n_atoms(layout), seen.shape[0])
        start = self._start(layer, n_atoms, seen, recipe) if recipe.learns_atoms and not every_kernel else None
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
        look = Look(
            layer,
            layout,
            solver,
            l1_penalty,
            found.atoms,
            found.codes,
            relative_error(seen, found.codes, found.atoms),
            _density(found.codes),
            seen.shape[0],
            rows.shape[0],
            time.perf_counter() - started,
            start is not None,
            seen,
            places,
            shown_kernels(seen, rows.shape[0], self._seed, in_order=places is None),
            recipe,
        )
        self._last[layer, recipe.nonnegative] = found.atoms  # at the very end: an interrupt leaves what was there
        return look

    def command(self, look: Look) -> str | None:
        """The command that decomposes the look's layer in full by its recipe; None where the recipe is not known.

        ``MODEL`` stands in it where the explorer does not know what the command line calls the model.
        """
        return None if look.recipe is None else recipe_command(self.name or "MODEL", look.recipe, layer=look.layer)

    def _layout(self, layer: str) -> KernelLayout:
        if layer not in self.layouts:
            raise FiltersubError(f"no layer {layer!r} to explore; known: {', '.join(self.layouts)}")
        return self.layouts[layer]

    def _kernels(self, layer: str) -> Tensor:
        if layer not in self._rows:
            self._rows = {layer: decomposable_rows(self.layouts[layer], self._modules[layer]).detach()}  # one at a time
        return self._rows[layer]

    def _sample(self, rows: Tensor, most: int) -> Tensor | None:
        """Which rows a look codes: a small sample is the beginning of a large one, so that two can be compared."""
        return None if rows.shape[0] <= most else _mixed(rows.shape[0], self._seed)[:most]

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


def found_look(
    layer: str,
    codes: Tensor,
    atoms: Tensor | None = None,
    kernels: Tensor | None = None,
    *,
    layout: KernelLayout | None = None,
    solver: str,
    found_by: str,
    seconds: float,
    error: float | None = None,
    recipe: DecompositionConfig | None = None,
) -> Look:
    """A result as a look at all its rows: codes (n_rows, n_atoms), atoms (n_atoms, d), kernels (n_rows, d).

    ``error`` is the relative error where the kernels are not known.
    """
    if atoms is not None and kernels is not None:
        error = relative_error(kernels, codes, atoms)
    norms = codes if kernels is None else kernels
    seed, penalty = (0, None) if recipe is None else (recipe.seed, recipe.l1_penalty)
    shown = shown_kernels(norms, len(codes), seed, in_order=True)
    rows, density = len(codes), _density(codes)
    sizes = (density, rows, rows, seconds, False)
    return Look(
        layer, layout, solver, penalty, atoms, codes, error, *sizes, kernels, None, shown, recipe, found_by=found_by
    )


def relative_error(kernels: Tensor, codes: Tensor, atoms: Tensor) -> float:
    """``||F - C D||_F / ||F||_F``; 0 for kernels of zeros."""
    norm = float(kernels.norm())
    return float((kernels - codes @ atoms).norm()) / norm if norm > 0 else 0.0


def shown_kernels(kernels: Tensor, rows: int, seed: int, *, in_order: bool) -> Tensor:
    """Numbers of the kernels of largest norm among the first of the sample; looks at a layer show the same ones."""
    first = _mixed(rows, seed)[:_SHOWN_OF] if in_order and rows > _SHOWN_OF else torch.arange(min(rows, _SHOWN_OF))
    first = first.to(kernels.device)
    return first[kernels[first].norm(dim=1).topk(min(SHOWN_KERNELS, len(first))).indices]


def same_kernels(left: Look, right: Look) -> tuple[Tensor, Tensor] | None:
    """Numbers, in each of two looks, of the kernels that both looked at; None where they are of different kernels."""
    if left.layer != right.layer or left.rows != right.rows or left.layout != right.layout:
        return None
    sides = [torch.arange(look.rows) if look.places is None else look.places for look in (left, right)]
    fewer, more = sorted(sides, key=len)
    number = torch.full((left.rows,), -1)
    number[more] = torch.arange(len(more))
    if bool((number[fewer] < 0).any()):
        return None
    pair = torch.arange(len(fewer)), number[fewer]
    return pair if fewer is sides[0] else pair[::-1]


def comparison(left: Look, right: Look) -> list[tuple[str, str, str]]:
    """What differs between two looks, a row (name, left, right) each; errors on the kernels that both looked at."""
    pair = same_kernels(left, right)
    rows = [("layer", left.layer, right.layer), ("solver", left.solver, right.solver)]
    rows.append(("atoms", *(str(look.codes.shape[1]) for look in (left, right))))
    rows.append(("penalty l", *("" if look.l1_penalty is None else f"{look.l1_penalty:g}" for look in (left, right))))
    both = [(look, slice(None) if pair is None else pair[side]) for side, look in enumerate((left, right))]
    rows.append(("relative error", *(_error_words(look, of) for look, of in both)))
    rows.append(("nonzero coefficients", *(f"{_density(look.codes[of]):.1%}" for look, of in both)))
    counts = [f"{len(look.codes[of]):,}" + ("" if pair is None else ", the same") for look, of in both]
    rows.append(("kernels", *counts))
    if pair is not None and left.codes is right.codes and left.atoms is not None:
        rows.append(("change of the atoms", "", f"{float((right.atoms - left.atoms).norm() / left.atoms.norm()):.1%}"))
    return [row for row in rows if any(row[1:])]


def look_figure(look: Look, width: float = 7.4) -> Any:
    """The look as a figure: atoms, how many of them a kernel uses, and the codes of a few kernels."""
    pictures = None if look.pictures is None else look.pictures.numpy(force=True)
    return plots.exploration(pictures, look.codes[look.shown].numpy(force=True), look.codes, width=width)


def look_html(look: Look, width: float = 7.4) -> str:
    return plots.figure_html(look_figure(look, width), look.sentence, look.sentence)


def kernel_html(look: Look, number: int, width: float = 7.4) -> str:
    """The codes of one kernel looked at: the kernel, what rebuilds it, and its coefficient of each atom."""
    codes = look.codes[number]
    rebuilt = None if look.atoms is None else _pictures((codes @ look.atoms)[None], look.layout)[0]
    kernel = None if look.kernels is None else _pictures(look.kernels[number][None], look.layout)[0]
    used = int((codes != 0).sum())
    words = f"Kernel of {look.kernel_words(number)}: {used} of {len(codes)} atoms"
    if look.kernels is not None and look.atoms is not None:
        error = relative_error(look.kernels[number], codes, look.atoms)
        words += f" rebuild it with a relative error of {error:.1%}"
    pictures = [None if each is None else each.numpy(force=True) for each in (kernel, rebuilt, look.pictures)]
    return plots.figure_html(plots.kernel_codes(codes.numpy(force=True), *pictures, width=width), words, f"{words}.")


def comparison_html(left: Look, right: Look) -> str:
    """The comparison as a table; atoms before and after as pictures where both sides have the same codes."""
    table = table_html(("", "left", "right"), comparison(left, right))
    if left.codes is not right.codes or left.atoms is None or left.layout != right.layout:
        return table
    sides = {"before": left.pictures, "after": right.pictures, "change": right.pictures - left.pictures}
    figure = plots.atom_changes({left.layer: {name: each.numpy(force=True) for name, each in sides.items()}})
    words = f"Atoms of {left.layer} before tuning, after it, and the change on a scale of its own."
    return table + plots.figure_html(figure, words, words)


def export_html(explorer: Explorer, look: Look) -> str:
    """The recipe of a look as YAML and as a command, to be copied."""
    if look.recipe is None:
        return facts_html("Recipe", [("recipe", "this result does not hold it")])
    text = recipe_text(look.recipe, layers=layer_pattern(look.layer))
    return facts_html("Recipe of the whole layer", [("command", explorer.command(look)), ("YAML", text)], wrap=True)


def _pictures(rows: Tensor, layout: KernelLayout | None) -> Tensor:
    return square_boards(rows) if layout is None else boards(rows, layout.patch_shape)


def _mixed(rows: int, seed: int) -> Tensor:
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed))


def _density(codes: Tensor) -> float:
    return int(torch.count_nonzero(codes)) / max(1, codes.numel())


def _channels(side: str, first: int, count: int) -> str:
    return f"{side} channel {first}" if count == 1 else f"{side} channels {first} to {first + count - 1}"
