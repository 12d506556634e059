"""Frozen coefficients that an interrupted run keeps, a file for each layer, so that the next one does the rest only."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..decomposition import DecompositionConfig
from ..decomposition.start import is_file_of_atoms
from ..files import make_folder, written_whole
from ..kernels import KernelLayout
from .codes import FrozenCodes, frozen_codes
from .packed import Packed

_current: ContextVar[KeptCodes | None] = ContextVar("kept codes", default=None)


class KeptCodes:
    """Files of frozen coefficients in a folder, each known by the layer's weight and recipe.

    ``seconds`` counts what the layers that were read took when they were decomposed.
    """

    def __init__(
        self, folder: str | os.PathLike[str], n_layers: int, on_layer: Callable[[int, int, str], None] | None = None
    ) -> None:
        self.seconds = 0.0
        self._folder, self._n_layers, self._on_layer, self._done = Path(folder), n_layers, on_layer, 0

    def codes(self, layout: KernelLayout, weight: Tensor, recipe: DecompositionConfig, layer: nn.Module) -> FrozenCodes:
        """Those of the file, or made now and written."""
        if weight.is_meta or is_file_of_atoms(recipe.init):  # the file of atoms may become another one
            return frozen_codes(layout, weight, layer, recipe, hold=True)
        path = self._folder / f"{_key(layout, weight, recipe)}.safetensors"
        try:
            codes, seconds = _read(path)
            self.seconds += seconds
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):  # not there, or cut off
            began = time.perf_counter()
            codes = frozen_codes(layout, weight, layer, recipe, hold=True)
            make_folder(self._folder)
            _write(path, codes, time.perf_counter() - began)
        return codes

    def tell(self, name: str) -> None:
        """Say which layer comes."""
        if self._on_layer is not None:
            self._on_layer(self._done, self._n_layers, name)
        self._done += 1


@contextmanager
def keeping(kept: KeptCodes) -> Iterator[None]:
    """Adapters made within are decomposed layer by layer with these files."""
    token = _current.set(kept)
    try:
        yield
    finally:
        _current.reset(token)


def kept_or_made(
    layout: KernelLayout, weight: Tensor, layer: nn.Module, recipe: DecompositionConfig, *, hold: bool
) -> FrozenCodes:
    """frozen_codes, by way of the files where some are kept. Linear codes that are not held take no time."""
    kept = _current.get()
    if kept is None:
        return frozen_codes(layout, weight, layer, recipe, hold=hold)
    kept.tell(layout.name)
    return kept.codes(layout, weight, recipe, layer) if hold else frozen_codes(layout, weight, layer, recipe, hold=hold)


def _key(layout: KernelLayout, weight: Tensor, recipe: DecompositionConfig) -> str:
    digest = hashlib.sha256(repr((replace(layout, name=""), recipe, weight.dtype)).encode())
    digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


_OPTIONAL = ("coefficients", "block_coefficients")


def _write(path: Path, codes: FrozenCodes, seconds: float) -> None:
    tensors = {"dictionary": codes.dictionary, "fingerprint": codes.fingerprint}
    facts = {"rounds": str(codes.rounds), "seconds": repr(seconds)}
    if isinstance(codes.coefficients, Packed):
        tensors |= {"values": codes.coefficients.values, "indices": codes.coefficients.indices}
        facts["n_atoms"] = str(codes.coefficients.n_atoms)
    else:
        tensors["coefficients"] = codes.coefficients
    if codes.block_coefficients is not None:
        tensors["block_coefficients"] = codes.block_coefficients
    with written_whole(path) as part:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part, metadata=facts)


def _read(path: Path) -> tuple[FrozenCodes, float]:
    with safe_open(path, "pt") as file:
        facts, there = file.metadata(), set(file.keys())
        tensors = {name: file.get_tensor(name) if name in there else None for name in _OPTIONAL}
        coefficients = tensors["coefficients"]
        if coefficients is None:
            coefficients = Packed(file.get_tensor("values"), file.get_tensor("indices"), int(facts["n_atoms"]))
        dictionary, fingerprint = file.get_tensor("dictionary"), file.get_tensor("fingerprint")
    codes = FrozenCodes(
        coefficients, None, dictionary, fingerprint, int(facts["rounds"]), tensors["block_coefficients"]
    )
    return codes, float(facts["seconds"])
