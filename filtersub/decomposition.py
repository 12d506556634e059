"""A layer's kernel as ``coefficients x atoms``, and a whole model's: compute, save, load, rebuild.

``F = alpha x D`` (equation 2 of the digest; Chen, Miao and Qiu, arXiv:2403.00269), with alpha the atom coefficients
(n_rows, n_atoms) and D the filter atoms (n_atoms, d) of the kernel matrix that filtersub.kernels describes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .dictionary import learn_dictionary
from .errors import FiltersubError
from .files import written_whole
from .kernels import KernelLayout, check_block, kernel_matrix, named_layers, select_layers
from .sparse_coding import SOLVERS, check_solver


@dataclass(frozen=True)
class DecompositionConfig:
    """The recipe of a decomposition; with the weights it determines the result.

    Attributes
    ----------
    atoms : int, m: filter atoms of a spatial kernel; a block of p x q channels has m p q (as the authors' code does)
    block : int or (k_c', k_c), optional: channel blocks of 1x1 kernels and linear layers; without it they take no part
    block_spatial : bool, block the channels of spatial kernels too
    solver : a name in sparse_coding.SOLVERS
    sparsity : float >= 0, l in ``1/2 ||rows - C D||_F^2 + l ||C||_1``
    nonzeros : int, optional: largest support of a row, for omp; default a third of the atoms
    max_rounds, tol : stopping of the dictionary learning, see learn_dictionary
    seed : of the initial atoms
    """

    atoms: int = 9
    block: int | tuple[int, int] | None = None
    block_spatial: bool = False
    solver: str = "lasso"
    sparsity: float = 1e-3
    nonzeros: int | None = None
    max_rounds: int = 100
    tol: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        check_solver(self.solver)
        check_block(self.block)
        if isinstance(self.atoms, bool) or not isinstance(self.atoms, int) or self.atoms < 1:
            raise FiltersubError(f"the number of atoms must be a positive integer, got {self.atoms!r}")
        if not 0 <= self.sparsity < float("inf"):
            raise FiltersubError(f"sparsity must be a finite number >= 0, got {self.sparsity!r}")

    def n_atoms(self, layout: KernelLayout) -> int:
        """Atoms of a layer: m p q, but never more than rows (that many reconstruct exactly), nor d for linear codes."""
        wanted = min(self.atoms * prod(layout.block), layout.n_rows)
        return min(wanted, layout.patch_size) if SOLVERS[self.solver] == "linear" else wanted


@dataclass(frozen=True)
class Decomposition:
    """One layer's atoms (n_atoms, d) and coefficients (n_rows, n_atoms), with how they came about."""

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

    @property
    def relative_error(self) -> float:
        """||F - alpha x D||_F / ||F||_F; 0 for a kernel of zeros."""
        return (self.squared_error / self.squared_norm) ** 0.5 if self.squared_norm > 0 else 0.0

    @property
    def density(self) -> float:
        """Fraction of nonzero coefficients."""
        return float((self.coefficients != 0).double().mean())

    def weight(self) -> Tensor:
        """The reconstructed weight ``alpha x D``, in the stored shape."""
        return self.layout.to_weight(self.coefficients @ self.atoms)

    def atom_pictures(self) -> Tensor:
        """Atoms as (n_atoms, p, *kernel_size, q), for drawing."""
        p, q = self.layout.block
        return self.atoms.reshape(-1, p, *self.layout.kernel_size, q)


def decompose_weight(layout: KernelLayout, layer: nn.Module | Tensor, config: DecompositionConfig) -> Decomposition:
    """Decompose one layer (or its bare weight) by the recipe; low-precision weights are decomposed in float32.

    Raises FiltersubError when the weight holds NaN or infinity, naming the layer.
    """
    rows = kernel_matrix(layout, layer)
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()
    learned = learn_dictionary(
        rows,
        config.n_atoms(layout),
        solver=config.solver,
        l1_penalty=config.sparsity,
        n_nonzero=None if config.nonzeros is None else min(config.nonzeros, config.n_atoms(layout)),
        max_rounds=config.max_rounds,
        tol=config.tol,
        seed=config.seed,
    )
    residual = rows.double() - learned.codes.double() @ learned.atoms.double()
    squared_error = float(residual.square().sum())
    return Decomposition(
        layout,
        learned.atoms,
        learned.codes,
        config.solver,
        0.5 * squared_error + config.sparsity * float(learned.codes.abs().sum(dtype=torch.float64)),
        squared_error,
        float(rows.double().square().sum()),
        learned.rounds,
        learned.seconds,
        learned.converged,
        learned.objective,
    )


@dataclass(frozen=True)
class ModelDecomposition:
    """The decompositions of a model's layers by name, and the recipe that made them."""

    layers: dict[str, Decomposition]
    config: DecompositionConfig

    @property
    def relative_error(self) -> float:
        """||F - alpha x D||_F / ||F||_F over all decomposed kernels together."""
        error = sum(layer.squared_error for layer in self.layers.values())
        norm = sum(layer.squared_norm for layer in self.layers.values())
        return (error / norm) ** 0.5 if norm > 0 else 0.0

    @property
    def seconds(self) -> float:
        return sum(layer.seconds for layer in self.layers.values())

    def rebuild_(self, model: nn.Module) -> nn.Module:
        """Replace each decomposed kernel of the model, in place, by its reconstruction ``alpha x D``."""
        modules = dict(model.named_modules())
        with torch.no_grad():
            for name, layer in self.layers.items():
                modules[name].weight.copy_(layer.weight())
        return model

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Atoms and coefficients as one safetensors file, recipe and diagnostics in its header."""
        tensors, header = {}, {}
        for name, layer in self.layers.items():
            tensors[f"{name}.atoms"] = layer.atoms.contiguous()
            tensors[f"{name}.coefficients"] = layer.coefficients.contiguous()
            scalars = asdict(layer)
            del scalars["atoms"], scalars["coefficients"]
            header[name] = scalars
        metadata = {"recipe": json.dumps(asdict(self.config)), "layers": json.dumps(header)}
        with written_whole(path) as aside:
            save_file(tensors, aside, metadata=metadata)
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ModelDecomposition:
        """Read what save wrote. Raises FiltersubError when the file is missing, truncated or of another kind."""
        try:
            with safe_open(str(path), framework="pt") as file:
                header = file.metadata() or {}
                recipe, described = json.loads(header["recipe"]), json.loads(header["layers"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except Exception as error:
            raise FiltersubError(f"{path} is not a decomposition that filtersub saved: {error}") from None
        layers = {}
        for name, scalars in described.items():
            layout = {
                key: tuple(value) if isinstance(value, list) else value for key, value in scalars["layout"].items()
            }
            rest = {**scalars, "layout": KernelLayout(**layout), "history": tuple(scalars["history"])}
            layers[name] = Decomposition(
                atoms=tensors[f"{name}.atoms"], coefficients=tensors[f"{name}.coefficients"], **rest
            )
        if isinstance(recipe["block"], list):
            recipe["block"] = tuple(recipe["block"])
        return cls(layers, DecompositionConfig(**recipe))


def decompose_model(
    model: nn.Module | Mapping[str, Tensor],
    config: DecompositionConfig | None = None,
    *,
    layers: str | None = None,
    exclude: tuple[str, ...] = (),
    on_layer: Callable[[int, int, str], None] | None = None,
) -> ModelDecomposition:
    """Decompose every layer that takes part (see select_layers).

    Parameters
    ----------
    model : Module, or the tensors of a bare weight file by name
    config : the recipe
    layers : regular expression of layer names; exclude : names left out, the head for one
    on_layer : called with (layers done, layers in all, name) before each layer, for a progress bar
    """
    config = config or DecompositionConfig()
    layouts = select_layers(
        model, layers=layers, block=config.block, block_spatial=config.block_spatial, exclude=exclude
    )
    modules = dict(named_layers(model))
    for name, layout in layouts.items():  # all weights are looked at before any time is spent on one
        kernel_matrix(layout, modules[name])
    done = {}
    for index, (name, layout) in enumerate(layouts.items()):
        if on_layer is not None:
            on_layer(index, len(layouts), name)
        done[name] = decompose_weight(layout, modules[name], config)
    return ModelDecomposition(done, config)
