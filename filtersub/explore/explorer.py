"""Looks at the layers of a model while a slider moves, each from where the last one ended; finished results beside."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..decomposition import Decomposition, DecompositionConfig, ModelDecomposition
from ..decomposition.layer import coding_settings, decomposable_rows, learn
from ..dictionary import DictionaryResult, learn_dictionary
from ..errors import FiltersubError, check_name
from ..kernels import named_layers, select_layers
from ..printable import counted
from ..recipe_file import recipe_command
from ..sparse_coding import CodingResult, check_solver, encode
from .look import SHOWN_OF, Look, mixed

#: Solver -> kernels that one look at a layer codes; those that take many iterations get fewer.
SAMPLE_ROWS = {"lasso": 65_536, "omp": 16_384, "pca": 65_536, "ridge": 65_536, "fista": SHOWN_OF}
#: of a look, for solvers that take many iterations fewer; a full decomposition takes up to 1,000 rounds at 1e-5
_ROUNDS, _FEW_ROUNDS, _TOL = {"lasso": 12, "omp": 12}, 6, 1e-3
_EXACT = "lasso"  # learns the atoms of a look for all solvers of its problem: one optimum, found much sooner
_UNKNOWN = DecompositionConfig()  # of a single layer's decomposition, which does not hold its recipe
Result = Decomposition | ModelDecomposition | DictionaryResult | CodingResult


class Explorer:
    """Looks at the layers of a model, each from where the last look at it ended.

    Parameters
    ----------
    model : module, or state dict of weights; None where there are only results
    block : int, optional; 1x1 kernels and linear layers take part in blocks of block x block channels
    layers : regular expression of layer names, optional
    seed : of the sample of kernels and of the first atoms
    name : what the command line calls the model, or a list of that and options, for the exported command
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
        name: str | list[str] | None = None,
        title: str = "",
        found: Mapping[str, Callable[[], Look]] | None = None,
    ) -> None:
        self.layouts = {} if model is None else select_layers(model, layers=layers, block=block)
        self.name, self.title = name, title
        self._modules = {} if model is None else dict(named_layers(model))
        self._block, self._seed, self._found = block, seed, dict(found or {})
        self._rows: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys([*self.layouts, *self._found]))

    @property
    def first(self) -> str:
        """The layer to begin with: that of the first result that is there, else the model's first."""
        return next(iter(self._found or self.layouts))

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
        check_name("layer", layer, self.layouts)
        layout = self.layouts[layer]
        check_solver(solver)
        fixed = {"block": self._block, "seed": self._seed}
        recipe = DecompositionConfig(atoms=atoms, solver=solver, l1_penalty=l1_penalty, **fixed)
        if layer not in self._rows:  # those of one layer at a time
            self._rows = {layer: decomposable_rows(layout, self._modules[layer]).detach()}
        rows, most = self._rows[layer], SAMPLE_ROWS.get(solver, SHOWN_OF)
        # a small sample is the beginning of a large one, so that two looks can be compared
        places = None if every_kernel or rows.shape[0] <= most else mixed(rows.shape[0], self._seed)[:most]
        seen = rows if places is None else rows[places]
        n_atoms = min(recipe.n_atoms(layout), seen.shape[0])
        start = self._start(layer, n_atoms, seen) if recipe.learns_atoms and not every_kernel else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few rounds are what is wanted here; a penalty that leaves nothing shows
            if every_kernel:
                found = learn(rows, n_atoms, recipe, layout)
                codes, learned_by = found.codes, solver
            else:
                learned_by = _EXACT if recipe.code_kind == "penalty" else solver
                settings = coding_settings(recipe, n_atoms)
                quick = {"max_rounds": _ROUNDS.get(learned_by, _FEW_ROUNDS), "tol": _TOL, "sample_rows": 0}
                quick |= {"n_starts": 1, "seed": self._seed, **settings, "solver": learned_by}
                found = learn_dictionary(seen, n_atoms, atoms_init=start, **quick)
                codes = found.codes if learned_by == solver else encode(seen, found.atoms, **settings).codes
        sampled = None if places is None else (places, rows.shape[0])
        learned_by = learned_by if learned_by != solver else ""
        how = {"seconds": time.perf_counter() - started, "warm": start is not None, "learned_by": learned_by}
        look = Look(layer, codes, found.atoms, seen, layout, solver, recipe, sampled=sampled, **how)
        self._last[layer] = found.atoms  # at the very end: an interrupt leaves what was there
        return look

    def command(self, look: Look) -> str | None:
        """The command that decomposes the look's layer in full by its recipe; None where the recipe is not known.

        ``MODEL`` stands in it where the explorer does not know what the command line calls the model.
        """
        return None if look.recipe is None else recipe_command(self.name or "MODEL", look.recipe, layer=look.layer)

    def _start(self, layer: str, n_atoms: int, rows: Tensor) -> Tensor | None:
        """The last atoms of the layer, the weakest left out or kernels of the sample joined; None at the first look."""
        last = self._last.get(layer)
        if last is None or n_atoms <= last.shape[0]:
            return None if last is None else last[:n_atoms]
        missing = n_atoms - last.shape[0]
        strongest = rows[rows.norm(dim=1).topk(min(rows.shape[0], 4 * missing)).indices]
        left = strongest - (strongest @ last.T) @ torch.linalg.pinv(last @ last.T) @ last
        new = strongest[left.norm(dim=1).topk(missing).indices]
        return torch.cat([last, new / new.norm(dim=1, keepdim=True).clamp_min(torch.finfo(new.dtype).tiny)])


def explorer_of(
    result: Result | Explorer,
    *,
    model: nn.Module | Mapping[str, Tensor] | None = None,
    rows: Tensor | None = None,
    atoms: Tensor | None = None,
    name: str | list[str] | None = None,
) -> Explorer:
    """An explorer that begins with a result: each of its layers as it was found, not learned again.

    Parameters
    ----------
    result : of decompose_model or decompose_weight, of learn_dictionary, or of encode
    model : the model that was decomposed, or its tensors: its kernels are then shown, errors of single kernels are
        known, and other settings can be tried beside the result
    rows : Tensor (n_rows, d), what a dictionary was learned on or codes were made of
    atoms : Tensor (n_atoms, d) that codes belong to
    name : what the command line calls the model, for the exported command

    Raises FiltersubError where the model has no such layer, and for anything that is no such result.
    """
    if isinstance(result, Explorer):
        return result
    block = None
    if isinstance(result, Decomposition):
        block = result.layout.block[::-1] if result.layout.block != (1, 1) or not result.layout.is_spatial else None
        result = ModelDecomposition({result.layout.name: result}, _UNKNOWN)
    if isinstance(result, ModelDecomposition):
        if model is not None:
            result.check_fits(model)
        modules = {} if model is None else dict(named_layers(model))
        found = {each: partial(_of_layer, result, each, modules.get(each)) for each in result.layers}
        block = block if result.config is _UNKNOWN else result.config.kernel_blocks["block"]
        return Explorer(model, block=block, name=name, seed=result.config.seed, found=found)
    if isinstance(result, DictionaryResult):
        known = {"seconds": result.seconds, "found_by": counted(result.rounds, "round")}
        look = Look("dictionary", result.codes, result.atoms, rows, **known)
        return Explorer(None, found={look.layer: lambda: look})
    if isinstance(result, CodingResult):
        known = {"seconds": result.seconds, "found_by": counted(result.iterations, "iteration")}
        look = Look("codes", result.codes, atoms, rows, **known)
        return Explorer(None, found={look.layer: lambda: look})
    known = "an Explorer, a decomposition, a dictionary, codes or the folder of a tuning run"
    raise FiltersubError(f"a {type(result).__name__} cannot be explored; give {known}")


def _of_layer(result: ModelDecomposition, name: str, layer: nn.Module | Tensor | None) -> Look:
    found = result.layers[name]
    kernels = None if layer is None else decomposable_rows(found.layout, layer).detach()
    known = result.config is not _UNKNOWN and found.dictionary is None
    how = {"seconds": found.seconds, "found_by": counted(found.iterations, "round"), "error": found.relative_error}
    recipe = result.recipe_of(name) if known else None
    return Look(name, found.coefficients, found.atoms, kernels, found.layout, found.solver, recipe, **how)
