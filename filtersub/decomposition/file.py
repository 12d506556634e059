"""The decomposition of a model, its layers by name, and the safetensors file of one: whole, or atoms only.

Tensors: ``NAME.atoms`` (a shared dictionary is stored once, as ``dictionary:TITLE.atoms``), ``NAME.coefficients``, per
level l ``NAME:alpha_l`` and ``NAME:D_l``, and for coefficients in blocks ``NAME:alpha_c`` and ``NAME:D_c``. The header
holds the recipe and each layer's diagnostics. A file of atoms only has no ``NAME.coefficients`` (and no alpha_c) but
their fingerprints: the coefficients are as large as the layer, and are made again from the weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..computed_weights import check_weight_can_be_set, set_weight
from ..errors import FiltersubError, check_name, reason
from ..files import as_path, atomic_write
from ..fingerprint import fingerprint, fingerprint_gap
from ..former_names import by_name_of_today
from ..kernels import KernelLayout, layout_of, named_layers
from ..markup import atoms_html, boards, codes_html, explore_hint, facts_html, first_and_last, table_html, unfold_html
from ..percentages import percentage
from ..printable import counted
from ..schema import check, check_settings, shown
from .expansion import Level
from .layer import codes_over, decomposable_rows, decompose_weight, repeated
from .recipe import DecompositionConfig, check_overrides, recipe_of
from .result import Decomposition

_TENSORS = ("layout", "atoms", "coefficients", "levels", "blocks")  # fields that are not plain values of the header
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SAME_WEIGHTS, _SAME_CODES = 1e-6, 1e-3  # fingerprints: the very weights; coefficients up to rounding between machines


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
        heading = (
            f"{counted(len(self.layers), 'layer')}, relative error {percentage(self.relative_error, 2)}, "
            f"{self.seconds:.1f} s"
        )
        rows = [
            (
                name,
                layer.layout.n_rows,
                layer.atoms.shape[0],
                percentage(layer.relative_error, 2),
                percentage(layer.density),
            )
            for name, layer in self.layers.items()
        ]
        table = table_html(("layer", "kernels", "atoms", "relative error", "nonzero"), rows)
        shown = first_and_last(list(self.layers.items()))
        atoms = "".join(
            unfold_html(
                f"atoms of {name}",
                atoms_html(boards(layer.atoms, layer.layout.patch_shape))
                + codes_html(layer.coefficients, layer.layout.row_words, most=3),
            )
            for name, layer in shown
        )
        facts = [("in all", heading), ("recipe", self.config)]
        return facts_html("ModelDecomposition", facts, table + atoms + explore_hint())

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
                has = "no weight of the kind" if found is None else found.words
                raise FiltersubError(
                    f"the decomposition does not fit this model: layer {name!r} is {has}, not {layer.layout.words}"
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
        """Write one safetensors file, recipe and diagnostics in its header, whole or not at all.

        ``coefficients=False`` leaves alpha out (atoms only).
        """
        tensors = {}
        for name, layer in self.layers.items():
            tensors[atoms_key(name, layer.dictionary)] = layer.atoms.contiguous()
            if coefficients:
                tensors[f"{name}.coefficients"] = layer.coefficients.contiguous()
            for depth, level in enumerate(layer.levels, 1):
                tensors[f"{name}:alpha_{depth}"] = level.coefficients.contiguous()
                tensors[f"{name}:D_{depth}"] = level.atoms.contiguous()
            if layer.blocks is not None:
                tensors[f"{name}:D_c"] = layer.blocks.atoms.contiguous()
                if coefficients:
                    tensors[f"{name}:alpha_c"] = layer.blocks.coefficients.contiguous()
        described = {
            name: {
                **_plain(layer, coefficients),
                "levels": [[level.atoms_error, level.weight_error] for level in layer.levels],
                "blocks": None if layer.blocks is None else _plain(layer.blocks, coefficients),
            }
            for name, layer in self.layers.items()
        }
        header = {
            "recipe": asdict(self.config),
            "overrides": self.overrides,
            "shared": self.shared,
            "layers": described,
        }
        with atomic_write(path) as aside:
            save_file(tensors, aside, metadata={key: json.dumps(value) for key, value in header.items()})
        return as_path(path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], model: nn.Module | Mapping[str, Tensor] | None = None
    ) -> ModelDecomposition:
        """Read what save wrote; see filtersub.decomposition.file.load."""
        return load(path, model)


def _plain(layer: Decomposition, coefficients: bool) -> dict[str, Any]:
    """What the header says of one decomposition beside its tensors."""
    return {
        **{f.name: getattr(layer, f.name) for f in fields(layer) if f.name not in _TENSORS},
        "layout": asdict(layer.layout),
        "fingerprint": None if coefficients else fingerprint(layer.coefficients).tolist(),
    }


def holds_atoms_only(path: str | os.PathLike[str]) -> bool:
    """Whether the coefficients were left out. Raises FiltersubError where the file cannot be read."""
    header, _ = _read(path, tensors=False)
    return any(plain.get("fingerprint") for plain in header["layers"].values())


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Recipe, overrides, sharing and layers of a saved decomposition, as JSON has them.

    Raises FiltersubError where the file cannot be read.
    """
    return _read(path, tensors=False)[0]


def _read(path: str | os.PathLike[str], *, tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from .header_schema import HeaderSchema  # pydantic, which nobody needs who opens no file

    source = _not_ours(as_path(path))
    try:
        with safe_open(str(path), framework="pt") as file:
            header = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            found = {key: file.get_tensor(key) for key in file.keys()} if tensors else {}  # noqa: SIM118
    except Exception as error:  # the reader and JSON each raise classes of their own
        raise FiltersubError(f"{source}: {reason(error)}") from None
    check(HeaderSchema, header, source)
    header["recipe"] = by_name_of_today(header["recipe"])
    try:
        header["overrides"] = check_overrides(header.get("overrides"))
    except FiltersubError as error:
        raise FiltersubError(f"{source}: {error}") from None
    for settings in (header["recipe"], *header["overrides"].values()):
        check_settings(settings, DecompositionConfig, source)
    return header, found


def _not_ours(path: str | os.PathLike[str]) -> str:
    return f"{path} is not a decomposition that filtersub saved"


def load(path: str | os.PathLike[str], model: nn.Module | Mapping[str, Tensor] | None = None) -> ModelDecomposition:
    """Read what save wrote, header and tensors looked at one by one.

    ``model`` is the model (or the tensors of a weight file) that was decomposed. A file of atoms only needs it: the
    coefficients are made again from its weights, by the recipe, and checked against their fingerprints. With a whole
    file it is optional, and then kinds, shapes and weights are checked.

    Raises FiltersubError when the file is missing, truncated or of another kind, when it is of atoms only and no model
    came, and when it does not fit the model.
    """
    header, tensors = _read(path)
    file = _Tensors(tensors, _not_ours(path))
    for name in header["recipe"]:
        check_name(f"setting in the recipe of {path}:", name, [each.name for each in fields(DecompositionConfig)])
    layers = {name: _layer(name, plain, file) for name, plain in header["layers"].items()}
    shared = header.get("shared", False)
    shared = tuple(shared) if isinstance(shared, list) else shared
    try:
        recipe = DecompositionConfig(**header["recipe"])
        for settings in header["overrides"].values():
            replace(recipe, **settings)
    except FiltersubError as error:
        raise FiltersubError(f"{file.source}: {error}") from None
    found = ModelDecomposition(layers, recipe, header["overrides"], shared)
    missing = {name: plain["fingerprint"] for name, plain in header["layers"].items() if plain.get("fingerprint")}
    if model is None:
        if missing:
            raise FiltersubError(f"{path} holds atoms only; give load the model whose weights they were learned on")
        return found
    found.check_fits(model)
    modules = dict(named_layers(model))
    for name, layer in found.layers.items():
        check_same_weights(name, layer.weight_fingerprint, decomposable_rows(layer.layout, modules[name]))
    for name, stored in missing.items():
        layer = layers[name]
        recipe = found.recipe_of(name)
        codes = _codes_again(layer, modules[name], recipe, torch.tensor(stored, dtype=torch.float64))
        blocks = layer.blocks
        if blocks is not None:
            of_alpha, its_recipe = recipe.coefficient_part(layer.layout)
            alpha = codes.reshape(of_alpha.shape)
            stored = torch.tensor(header["layers"][name]["blocks"]["fingerprint"], dtype=torch.float64)
            blocks = replace(blocks, coefficients=_codes_again(blocks, alpha, its_recipe, stored))
        layers[name] = replace(layer, coefficients=codes, blocks=blocks)
    return found


def check_decomposition(found: object) -> None:
    """Raises FiltersubError unless the argument is the decomposition of a model; its file is none."""
    if not isinstance(found, ModelDecomposition):
        raise FiltersubError(
            f"the decomposition must be a ModelDecomposition, got {shown(found)}; decompose_model makes one, and "
            "ModelDecomposition.load reads its file"
        )


def check_same_weights(name: str, stored: tuple[float, ...], rows: Tensor) -> None:
    """FiltersubError unless the rows are, by their fingerprint, the ones that were decomposed."""
    if not stored:  # written before fingerprints were
        return
    wanted = fingerprint(rows)
    if len(stored) != len(wanted):
        raise FiltersubError(f"layer {name!r}: the fingerprint of its weights must have {len(wanted)} numbers")
    gap = fingerprint_gap(torch.tensor(stored, dtype=torch.float64), wanted)
    if gap > _SAME_WEIGHTS:
        raise FiltersubError(
            f"layer {name!r}: these are not the weights that were decomposed (fingerprints differ by {gap:.2g}); "
            "take the model, its weights and their precision as they were"
        )


def atoms_key(name: str, dictionary: str | None) -> str:
    return f"{name}.atoms" if dictionary is None else f"dictionary:{dictionary}.atoms"


@dataclass(frozen=True)
class _Tensors:
    """The tensors of a file, each looked at when it is taken."""

    tensors: Mapping[str, Tensor]
    source: str

    def take(self, key: str, *shape: int) -> Tensor:
        """Raises FiltersubError where there is none, where it has another shape or kind, and where it is not finite."""
        found = self.tensors.get(key)
        if found is None:
            raise FiltersubError(f"{self.source}: the tensor {key} is missing")
        if tuple(found.shape) != shape:
            raise FiltersubError(f"{self.source}: {key} is {_sides(found.shape)}, and {_sides(shape)} is wanted")
        if found.dtype not in _DTYPES or not bool(found.isfinite().all()):
            raise FiltersubError(f"{self.source}: {key} must hold finite fractions, in 16 bits or more")
        return found

    def side(self, key: str, place: int) -> int:
        """A side that only the tensor knows; 0, which fits none, where it has no such side."""
        found = self.tensors.get(key)
        return 0 if found is None or found.ndim <= place else found.shape[place]


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _layer(name: str, plain: dict[str, Any], file: _Tensors) -> Decomposition:
    found = _built(plain, file, atoms_key(name, plain.get("dictionary")), f"{name}.coefficients")
    sides, levels = [found.atoms.shape[0]], []
    for depth, errors in enumerate(plain.get("levels", []), 1):
        alpha, next_atoms = f"{name}:alpha_{depth}", f"{name}:D_{depth}"
        above = [found.layout.input_channels] if file.side(alpha, depth + 1) else []  # alpha_1 per channel
        sides.append(file.side(next_atoms, depth))
        atoms = file.take(next_atoms, *sides, found.layout.patch_size)
        levels.append(Level(file.take(alpha, *above, *sides), atoms, *errors))
    blocks = None
    if plain.get("blocks") is not None:
        blocks = _built(plain["blocks"], file, f"{name}:D_c", f"{name}:alpha_c")
    return replace(found, levels=tuple(levels), blocks=blocks)


def _built(plain: dict[str, Any], file: _Tensors, atoms_name: str, coefficients_name: str) -> Decomposition:
    layout = KernelLayout(**{key: tuple(v) if isinstance(v, list) else v for key, v in plain["layout"].items()})
    n_atoms = file.side(atoms_name, 0)
    atoms = file.take(atoms_name, n_atoms, layout.patch_size)
    if plain.get("fingerprint") is not None:
        if len(plain["fingerprint"]) != n_atoms:
            raise FiltersubError(f"{file.source}: the fingerprint of {coefficients_name} must have {n_atoms} numbers")
        coefficients = torch.empty(0, n_atoms, dtype=atoms.dtype)  # until they are made again
    else:
        coefficients = file.take(coefficients_name, layout.n_rows, n_atoms)
        if coefficients.dtype != atoms.dtype:
            raise FiltersubError(
                f"{file.source}: {coefficients_name} is of {coefficients.dtype}, and {atoms_name} of {atoms.dtype}"
            )
    known = {f.name for f in fields(Decomposition)} - {*_TENSORS}
    rest = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items() if key in known}
    return Decomposition(layout=layout, atoms=atoms, coefficients=coefficients, **rest)


def _codes_again(
    layer: Decomposition, module: nn.Module | Tensor, recipe: DecompositionConfig, stored: Tensor
) -> Tensor:
    """The coefficients over the stored atoms; where a greedy solver had kept better ones, by learning again."""
    name, rows = layer.layout.name, decomposable_rows(layer.layout, module)
    atoms = layer.atoms.to(rows)
    codes = rows.new_zeros(rows.shape[0], atoms.shape[0])
    if bool(rows.any()):
        distinct = atoms if recipe.limit_atoms else atoms[: _period(atoms)]
        _, codes = repeated(distinct, codes_over(rows, distinct, recipe).codes, atoms.shape[0])
    gap = fingerprint_gap(stored, fingerprint(codes))
    if gap > _SAME_CODES and layer.dictionary is None and recipe.learns_atoms:
        codes = decompose_weight(layer.layout, module, recipe).coefficients
        gap = fingerprint_gap(stored, fingerprint(codes)) if codes.shape[1] == stored.shape[0] else float("inf")
    if gap > _SAME_CODES:
        raise FiltersubError(
            f"layer {name!r}: the coefficients made from this model's weights are not those that were saved "
            f"(fingerprints differ by {gap:.2g}); save the decomposition with its coefficients"
        )
    return codes


def _period(atoms: Tensor) -> int:
    """After how many atoms they repeat, where they do."""
    again = (atoms[1:] == atoms[0]).all(1).nonzero()
    return int(again[0]) + 1 if len(again) else len(atoms)
