"""A folder that a decomposition grows in, layer by layer, so that an interrupted one can go on.

``unfinished/`` holds a file a finished layer, each written whole; at the end they become ``atoms.safetensors``, copied
from file to file, and the folder ``unfinished`` goes. A rerun reads what is there and does the rest.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..errors import FiltersubError
from ..files import make_folder, write_json
from ..kernels import named_layers
from .file import ModelDecomposition, check_same_weights, holds_atoms_only, load
from .layer import decomposable_rows
from .plan import PlannedLayer
from .recipe import first_difference, is_file_of_atoms
from .result import Decomposition

RESULT_FILE = "atoms.safetensors"
_PARTS = "unfinished"
_GROUPS_FILE = "dictionaries.json"  # layer -> shared dictionary, of all layers that were planned


class DecompositionFolder:
    """The folder of one decomposition. ``fresh`` drops what an earlier one left in it."""

    def __init__(self, path: str | os.PathLike[str], plan: Mapping[str, PlannedLayer], *, fresh: bool = False) -> None:
        self.path = make_folder(path)
        self.plan = plan
        self._parts = self.path / _PARTS
        self._result = self.path / RESULT_FILE
        if fresh:
            for start in {layer.recipe.init for layer in plan.values() if is_file_of_atoms(layer.recipe.init)}:
                if Path(start).resolve() == self._result.resolve():
                    raise FiltersubError(f"{start} cannot be started from and be replaced; take another folder")
            shutil.rmtree(self._parts, ignore_errors=True)
            self._result.unlink(missing_ok=True)

    def finished(self, model: nn.Module | Mapping[str, Tensor]) -> dict[str, Decomposition]:
        """The layers that are there already, by this recipe and of these weights.

        Raises FiltersubError where the folder holds a decomposition by another recipe, of other weights or layers.
        """
        modules, found = dict(named_layers(model)), {}
        for file in self._files():
            try:
                part = load(file, model if holds_atoms_only(file) else None)
                for name, layer in part.layers.items():
                    self._check(name, layer, part, modules)
                    found[name] = layer
            except FiltersubError as error:
                raise self._other(str(error)) from None
        self._check_groups(found)
        return found

    def add(self, part: ModelDecomposition) -> Decomposition:
        """Write the one layer of ``part``; returns it with its tensors left in the file."""
        (name,) = part.layers
        groups = self._groups()
        if groups and not (self._parts / _GROUPS_FILE).exists():
            write_json(self._parts / _GROUPS_FILE, groups)
        path = self._parts / f"{hashlib.sha1(name.encode()).hexdigest()[:16]}.safetensors"
        return load(part.save(path)).layers[name]

    def close(self, whole: ModelDecomposition, *, atoms_only: bool = False) -> ModelDecomposition:
        """Write the result and remove the parts; returns it with its tensors left in the file, where they are all."""
        files = self._files()
        if files == [self._result] and holds_atoms_only(self._result) == atoms_only:
            return whole
        whole.save(self._result, coefficients=not atoms_only)
        shutil.rmtree(self._parts, ignore_errors=True)
        return whole if atoms_only else load(self._result)

    def _files(self) -> list[Path]:
        """The result of an earlier run, if any, then the layers finished since."""
        return [*([self._result] if self._result.is_file() else []), *sorted(self._parts.glob("*.safetensors"))]

    def _groups(self) -> dict[str, str]:
        return {name: layer.dictionary for name, layer in self.plan.items() if layer.dictionary is not None}

    def _check(
        self, name: str, layer: Decomposition, part: ModelDecomposition, modules: Mapping[str, nn.Module | Tensor]
    ) -> None:
        if name not in self.plan:
            raise FiltersubError(f"it has layer {name!r}, which takes no part now")
        planned = self.plan[name]
        if layer.layout.shape != planned.layout.shape or layer.layout.kind != planned.layout.kind:
            raise FiltersubError(f"layer {name!r} has shape {layer.layout.shape} there, here {planned.layout.shape}")
        difference = first_difference(part.recipe_of(name), planned.recipe)
        if difference is not None:
            setting, there, here = difference
            raise FiltersubError(f"layer {name!r} has {setting} {there!r} there, not {here!r}")
        check_same_weights(name, layer.weight_fingerprint, decomposable_rows(planned.layout, modules[name]))

    def _check_groups(self, found: Mapping[str, Decomposition]) -> None:
        if not found:
            return
        there = {name: layer.dictionary for name, layer in found.items() if layer.dictionary is not None}
        if (self._parts / _GROUPS_FILE).is_file():
            there = json.loads((self._parts / _GROUPS_FILE).read_text(encoding="utf-8"))
        if there != self._groups():
            raise self._other("other layers share its dictionaries")

    def _other(self, reason: str) -> FiltersubError:
        return FiltersubError(
            f"{self.path} holds another decomposition: {reason}; take another folder, or start afresh (--fresh)"
        )
