"""What a decomposition is: a layer's atoms and coefficients, a model's layers by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..computed_weights import check_weight_can_be_set, set_weight
from ..errors import FiltersubError
from ..kernels import KernelLayout, layout_of, named_layers
from ..markup import atoms_html, boards, facts_html, table_html
from .expansion import Level, chained_atoms, combine
from .recipe import DecompositionConfig, recipe_of


@dataclass(frozen=True)
class Decomposition:
    """One layer's atoms (n_atoms, d) and coefficients (n_rows, n_atoms), with how they came about.

    Attributes
    ----------
    objective : ``1/2 ||rows - C D||_F^2``, summed over rows, with ``+ l ||C||_1`` where the solver pays a penalty;
        squared_error, squared_norm : of the kernel
    iterations : rounds of dictionary learning; history : the objective after each round on all rows
    levels : the atoms that the atoms are made of, level by level; empty without expansion
    stopped : why the learning stopped; note : what is unusual about the layer (a kernel of zeros, fewer atoms than
        asked for, no coefficient but zero), empty for most
    dictionary : name of the dictionary that the layer shares with others; None where the atoms are its own
    weight_fingerprint : of the kernel matrix, see filtersub.fingerprint
    blocks : the decomposition of the coefficients, ``alpha = alpha_c x D_c``, where the recipe blocks them; its layout
        is that of alpha (c, c', m)
    """

    layout: KernelLayout
    atoms: Tensor
    coefficients: Tensor
    solver: str
    objective: float
    squared_error: float
    squared_norm: float
    iterations: int
    seconds: float
    converged: bool
    history: tuple[float, ...] = field(default=(), repr=False)
    levels: tuple[Level, ...] = field(default=(), repr=False)
    stopped: str = ""
    note: str = ""
    dictionary: str | None = None
    weight_fingerprint: tuple[float, ...] = field(default=(), repr=False)
    blocks: Decomposition | None = field(default=None, repr=False)

    @property
    def relative_error(self) -> float:
        """||F - alpha x D||_F / ||F||_F; 0 for a kernel of zeros."""
        return (self.squared_error / self.squared_norm) ** 0.5 if self.squared_norm > 0 else 0.0

    @property
    def density(self) -> float:
        """Fraction of nonzero coefficients."""
        return int(torch.count_nonzero(self.coefficients)) / max(1, self.coefficients.numel())

    def weight(self, level: int = 0) -> Tensor:
        """The reconstructed weight in the stored shape: ``alpha x D``, or with the chain down to D_level put in."""
        if not 0 <= level <= len(self.levels):
            raise FiltersubError(f"layer {self.layout.name!r} has levels 0 to {len(self.levels)}, got {level!r}")
        atoms = chained_atoms(self.levels[:level]) if level else self.atoms
        return self.layout.to_weight(combine(self.coefficients, atoms))

    def deepest_weight(self, level: int) -> Tensor:
        """``weight(level)``, or that of the last level where the layer has fewer."""
        return self.weight(min(level, len(self.levels)))

    def _repr_html_(self) -> str:
        """A table of what was found, with the atoms as pictures, for notebooks."""
        facts = [
            ("kernels", f"{self.layout.n_rows:,} of {self.layout.patch_size} numbers, from {self.layout.kind}"),
            ("atoms", " over ".join(str(count) for count in self._atom_counts())),
            ("relative error", f"{self.relative_error:.2%}"),
            ("nonzero coefficients", f"{self.density:.1%}"),
            ("solver", f"{self.solver}, {self.iterations} rounds, {self.seconds:.2f} s"),
            ("stopped", self.stopped),
            ("note", self.note),
        ]
        picture = atoms_html(boards(self.atoms, self.layout.patch_shape))
        return facts_html(f"Decomposition of {self.layout.name}", facts, picture)

    def _atom_counts(self) -> list[int]:
        return [self.atoms.shape[0], *(prod(level.atoms.shape[:-1]) for level in self.levels)]

    def atom_pictures(self) -> Tensor:
        """Atoms as (n_atoms, p, *kernel_size, q), for drawing."""
        return self.atoms.reshape(-1, *self.layout.patch_shape)


@dataclass(frozen=True)
class ModelDecomposition:
    """The decompositions of a model's layers by name, and the recipe that made them.

    ``overrides`` are settings by pattern of layer names, ``shared`` which layers share dictionaries; see
    decompose_model.
    """

    layers: dict[str, Decomposition]
    config: DecompositionConfig
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    shared: bool | tuple[str, ...] = False

    @property
    def relative_error(self) -> float:
        """||F - alpha x D||_F / ||F||_F over all decomposed kernels together."""
        error = sum(layer.squared_error for layer in self.layers.values())
        norm = sum(layer.squared_norm for layer in self.layers.values())
        return (error / norm) ** 0.5 if norm > 0 else 0.0

    def _repr_html_(self) -> str:
        """A table of the layers, for notebooks."""
        counted = f"{len(self.layers)} layers, relative error {self.relative_error:.2%}, {self.seconds:.1f} s"
        rows = [
            (name, layer.layout.n_rows, layer.atoms.shape[0], f"{layer.relative_error:.2%}", f"{layer.density:.1%}")
            for name, layer in self.layers.items()
        ]
        table = table_html(("layer", "kernels", "atoms", "relative error", "nonzero"), rows)
        return facts_html("ModelDecomposition", [("in all", counted), ("recipe", self.config)], table)

    @property
    def seconds(self) -> float:
        return sum(layer.seconds for layer in self.layers.values())

    def recipe_of(self, name: str) -> DecompositionConfig:
        """The recipe of one layer, its overrides applied."""
        return recipe_of(name, self.config, self.overrides)

    def check_fits(self, model: nn.Module | Mapping[str, Tensor]) -> None:
        """FiltersubError unless the model has every layer, with weights of the same kind and shape."""
        modules = dict(named_layers(model))
        for name, layer in self.layers.items():
            if name not in modules:
                raise FiltersubError(f"the decomposition does not fit this model: it has no layer {name!r}")
            found = layout_of(name, modules[name], layer.layout.block[::-1], block_spatial=True)
            if found != layer.layout:
                has = "no weight of the kind" if found is None else f"{found.kind} of shape {found.shape}"
                raise FiltersubError(
                    f"the decomposition does not fit this model: layer {name!r} is {has}, "
                    f"not {layer.layout.kind} of shape {layer.layout.shape}"
                )

    def rebuild_(self, model: nn.Module, level: int = 0) -> nn.Module:
        """Replace each decomposed kernel of the model, in place, by its reconstruction ``alpha x D``.

        ``level`` puts the chain of atoms down to D_level in, see Decomposition.weight; layers with fewer levels have
        theirs put in down to the last. A weight that the layer computes
        from other parameters (weight norm, spectral norm, pruning) becomes a plain parameter. Raises FiltersubError,
        before anything is replaced, where the model is another one, where a layer's weight cannot be replaced, or where
        layers that share one weight would get two.
        """
        self.check_fits(model)
        deepest = max((len(layer.levels) for layer in self.layers.values()), default=0)
        if not 0 <= level <= deepest:
            raise FiltersubError(f"the decomposition has levels 0 to {deepest}, got {level!r}")
        modules = dict(model.named_modules())
        shared: dict[int, str] = {}
        for name, layer in self.layers.items():
            check_weight_can_be_set(modules[name], name)
            first = shared.setdefault(id(modules[name]._parameters.get("weight", layer)), name)
            if first != name and not torch.equal(layer.deepest_weight(level), self.layers[first].deepest_weight(level)):
                raise FiltersubError(
                    f"layers {first!r} and {name!r} share one weight but have two reconstructions of it; "
                    "leave one of them out"
                )
        for name, layer in self.layers.items():
            set_weight(modules[name], layer.deepest_weight(level))
        return model

    def save(self, path: str | os.PathLike[str], *, coefficients: bool = True) -> Path:
        """Write one safetensors file, recipe and diagnostics in its header; see file.save."""
        from .file import save

        return save(self, path, coefficients=coefficients)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], model: nn.Module | Mapping[str, Tensor] | None = None
    ) -> ModelDecomposition:
        """Read what save wrote; see file.load."""
        from .file import load

        return load(path, model)
