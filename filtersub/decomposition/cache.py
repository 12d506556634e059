"""A folder of decomposed layers, so that runs which share the folder decompose each layer once.

An entry is known by its content: the kernel matrix, the recipe (its seed included) and the package's version. It is
written whole. Of several processes that need the same entry, one makes it while the others wait and then read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..errors import FiltersubError
from ..files import as_path, make_folder
from ..kernels import KernelLayout, kernel_matrix
from ..processes import DECOMPOSITIONS
from ..version import package_version
from .file import ModelDecomposition, load
from .layer import decompose_weight
from .recipe import DecompositionConfig, is_file_of_atoms
from .result import Decomposition

_current: ContextVar[DecompositionCache | None] = ContextVar("cache of decompositions", default=None)


@dataclass(frozen=True)
class LayerFit:
    """How atoms (n_atoms, d) and their coefficients rebuild a layer: ``||F - alpha x D|| / ||F||``, and the fraction of
    nonzero coefficients."""

    atoms: Tensor
    relative_error: float
    density: float


class DecompositionCache:
    """Decomposed layers in a folder, which is made when the first one is written.

    Attributes
    ----------
    reused : layers that were read instead of decomposed
    reused_seconds : what decomposing those had taken, in whichever process did it
    fits : by layer, how well those that came through here are rebuilt
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = as_path(folder)
        self.reused, self.reused_seconds = 0, 0.0
        self.fits: dict[str, LayerFit] = {}

    def decomposed(self, layout: KernelLayout, layer: nn.Module | Tensor, recipe: DecompositionConfig) -> Decomposition:
        """What decompose_weight returns, bit for bit; read where it is there, else made and written."""
        found = self._found(layout, layer, recipe)
        self.fits[layout.name] = LayerFit(found.atoms, found.relative_error, found.density)
        return found

    def _found(self, layout: KernelLayout, layer: nn.Module | Tensor, recipe: DecompositionConfig) -> Decomposition:
        path = self._path(layout, layer, recipe)
        if path is None:
            return decompose_weight(layout, layer, recipe)
        found = _read(path)
        if found is None:
            with _alone(path):
                found = _read(path)
                if found is None:
                    made = decompose_weight(layout, layer, recipe)
                    _write(path, made, recipe)
                    return made
        self.reused += 1
        self.reused_seconds += found.seconds
        return replace(found, layout=layout)

    def store(
        self, layout: KernelLayout, layer: nn.Module | Tensor, recipe: DecompositionConfig, made: Decomposition
    ) -> None:
        """Write what was decomposed elsewhere, where it is not there yet."""
        path = self._path(layout, layer, recipe)
        if path is not None and not path.exists():
            _write(path, made, recipe)

    def _path(self, layout: KernelLayout, layer: nn.Module | Tensor, recipe: DecompositionConfig) -> Path | None:
        """The file of an entry; None where the recipe names a file of atoms, which may become another one."""
        if is_file_of_atoms(recipe.init):
            return None
        rows = kernel_matrix(layout, layer)
        known = (replace(layout, name=""), recipe, rows.dtype, rows.device.type, package_version())
        digest = hashlib.sha256(repr(known).encode())
        digest.update(rows.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"


def shared_cache() -> DecompositionCache | None:
    """That of the ablation which this process is a run of; None elsewhere."""
    folder = os.environ.get(DECOMPOSITIONS)
    return DecompositionCache(folder) if folder else None


def cache_for(folder: str | os.PathLike[str] | None) -> DecompositionCache | None:
    """One that counts from zero, of the folder in use, else of the ablation's, else of the folder given, if any."""
    around = _current.get() or shared_cache()
    folder = folder if around is None else around.folder
    return None if folder is None else DecompositionCache(folder)


@contextlib.contextmanager
def using(cache: DecompositionCache | None) -> Iterator[None]:
    """Within, cached_weight goes by this cache."""
    token = _current.set(cache)
    try:
        yield
    finally:
        _current.reset(token)


def cached_weight(layout: KernelLayout, layer: nn.Module | Tensor, recipe: DecompositionConfig) -> Decomposition:
    """decompose_weight, by way of the cache in use, else of the ablation's, where there is one."""
    cache = _current.get() or shared_cache()
    return decompose_weight(layout, layer, recipe) if cache is None else cache.decomposed(layout, layer, recipe)


def _read(path: Path) -> Decomposition | None:
    """None where there is none, or it is damaged."""
    if not path.is_file():
        return None
    try:
        (found,) = load(path).layers.values()
    except (FiltersubError, ValueError):
        return None
    return found


def _write(path: Path, made: Decomposition, recipe: DecompositionConfig) -> None:
    # whoever writes what matters tells of a full disk
    with contextlib.suppress(FiltersubError, OSError, SafetensorError):
        ModelDecomposition({made.layout.name: made}, recipe).save(path)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold an entry; without its lock where the folder gives none (the work is then done twice)."""
    from filelock import FileLock

    lock = FileLock(path.with_suffix(".lock"))
    with contextlib.suppress(FiltersubError, OSError, NotImplementedError):
        make_folder(path.parent)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
