"""CP and Tucker decompositions beside filter atoms, at equal storage: the comparison that the field expects.

Kolda and Bader, "Tensor Decompositions and Applications", SIAM Review 51(3), 2009. Both are computed by tensorly.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import pandas as pd
from torch import Tensor, nn

from ..computed_weights import current_weight
from ..decomposition import Decomposition, ModelDecomposition
from ..decomposition.file import check_decomposition
from ..errors import FiltersubError, check_name
from ..kernels import named_layers
from ..settings import MOST_SEED, check_whole

#: What of the coefficients counts as stored: every one, or those that are not zero (their places are not counted).
COUNTINGS = ("dense", "nonzero")


def storage_table(
    model: nn.Module | Mapping[str, Tensor],
    decomposition: ModelDecomposition,
    *,
    formats: Sequence[str] = ("cp", "tucker"),
    max_iter: int = 100,
    seed: int = 0,
    on_layer: Callable[[int, int, str], None] | None = None,
) -> pd.DataFrame:
    """Relative errors of filter atoms, CP and Tucker where each may store the same count of numbers.

    The budget of a layer is what its atoms and coefficients take, counted in two ways (``counting``): "dense", every
    coefficient, and "nonzero", those that are not zero, whose places are not counted. Atoms of several levels count as
    the one that they amount to. CP of rank R stores
    ``R (n_1 + ... + n_k)`` numbers, Tucker the core and one factor a mode; modes of size 1 are left out. A kernel of
    zeros needs no number: rank 0, error 0. Each gets the largest rank that fits and that the kernel can need;
    for Tucker the ranks, of all that fit, whose truncated higher-order SVD keeps the most energy, improved by
    orthogonal iteration.

    Parameters
    ----------
    model : Module or tensors by name, as it was decomposed
    decomposition : of that model
    formats : of "cp" and "tucker"
    max_iter : int, sweeps of alternating least squares at most
    seed : of the random start of CP where its rank exceeds a mode's size

    Returns
    -------
    DataFrame
        One row a layer, counting and method ("atoms", "cp", "tucker"): name, counting, method, ranks (text, "m" for
        atoms), stored (numbers), budget (numbers), weights (numbers in the kernel), relative_error, seconds. Rank 0,
        with an error of 1, where not even one term fits.

    Raises FiltersubError for an unknown format, or where tensorly is not installed.
    """
    check_decomposition(decomposition)
    for name in formats:
        check_name("tensor format", name, _FORMATS)
    check_whole("max_iter", max_iter, 1)
    check_whole("seed", seed, 0, MOST_SEED)
    max_iter, seed = int(max_iter), int(seed)
    _tensorly()
    modules, rows = dict(named_layers(model)), []
    for index, (name, layer) in enumerate(decomposition.layers.items()):
        if on_layer is not None:
            on_layer(index, len(decomposition.layers), name)
        module = modules[name]
        weight = (module if isinstance(module, Tensor) else current_weight(module)).detach().cpu().double().numpy()
        tensor = weight.reshape([size for size in weight.shape if size > 1] or [1])
        for counting in COUNTINGS:
            budget = stored_numbers(layer, counting)
            shared = {"name": name, "counting": counting, "budget": budget, "weights": weight.size}
            own = {"method": "atoms", "ranks": str(layer.coefficients.shape[-1]), "stored": budget}
            rows.append({**shared, **own, "relative_error": layer.relative_error, "seconds": layer.seconds})
            for method in formats:
                rows.append({**shared, "method": method, **_fitted(method, tensor, budget, max_iter, seed)})
    columns = ["name", "counting", "method", "ranks", "stored", "budget", "weights", "relative_error", "seconds"]
    return pd.DataFrame(rows)[columns]


def stored_numbers(layer: Decomposition, counting: str) -> int:
    """Numbers that a layer's atoms and coefficients take: "dense" or "nonzero" coefficients, see COUNTINGS."""
    check_name("counting", counting, COUNTINGS)
    coefficients = layer.coefficients
    counted = coefficients.numel() if counting == "dense" else int((coefficients != 0).sum())
    return layer.atoms.numel() + counted


def _fitted(method: str, tensor: np.ndarray, budget: int, max_iter: int, seed: int) -> dict[str, object]:
    started = time.perf_counter()
    largest = np.abs(tensor).max(initial=0.0)
    if largest == 0:
        return {"ranks": "0", "stored": 0, "relative_error": 0.0, "seconds": 0.0}
    tensor = tensor / largest  # squares of tiny numbers would vanish
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorly's notes on ranks and convergence
        ranks, stored, approximation = _FORMATS[method](tensor, budget, max_iter, seed)
    error = float(np.linalg.norm(tensor - approximation) / np.linalg.norm(tensor))
    seconds = time.perf_counter() - started
    return {"ranks": ranks, "stored": stored, "relative_error": error, "seconds": seconds}


def _cp(tensor: np.ndarray, budget: int, max_iter: int, seed: int) -> tuple[str, int, np.ndarray]:
    unfolded = (np.moveaxis(tensor, mode, 0).reshape(size, -1) for mode, size in enumerate(tensor.shape))
    # a rank above the bound by the ranks of the unfoldings makes the systems singular
    largest = cp_rank_bound([int(np.linalg.matrix_rank(matrix)) for matrix in unfolded])
    rank = min(budget // sum(tensor.shape), largest)
    if rank == 0:
        return "0", 0, np.zeros_like(tensor)
    tl = _tensorly()
    with tl.backend_context("numpy"):
        from tensorly.decomposition import parafac

        for start in ("svd", "random"):  # a start from singular vectors can leave a singular system behind
            try:
                found = parafac(tensor, rank, n_iter_max=max_iter, init=start, tol=1e-8, random_state=seed)
                approximation = tl.cp_to_tensor(found)
            except np.linalg.LinAlgError:
                continue
            if np.isfinite(approximation).all():
                return str(rank), rank * sum(tensor.shape), approximation
    raise FiltersubError(f"CP of rank {rank} failed on a tensor of shape {tensor.shape}: its systems are singular")


def cp_rank_bound(shape: Sequence[int]) -> int:
    """The product of all sizes but the largest: a CP decomposition of that rank is exact, so none needs more.

    >>> cp_rank_bound((32, 3, 3))
    9
    """
    return prod(shape) // max(shape)


def _tucker(tensor: np.ndarray, budget: int, max_iter: int, seed: int) -> tuple[str, int, np.ndarray]:
    ranks = tucker_ranks(tensor, budget)
    if ranks is None:
        return "0", 0, np.zeros_like(tensor)
    tl = _tensorly()
    with tl.backend_context("numpy"):
        from tensorly.decomposition import tucker

        found = tucker(tensor, list(ranks), n_iter_max=max_iter, init="svd", tol=1e-6, random_state=seed)
        approximation = tl.tucker_to_tensor(found)
    stored = prod(ranks) + sum(rank * size for rank, size in zip(ranks, tensor.shape, strict=True))
    return "×".join(map(str, ranks)), stored, approximation


def tucker_ranks(tensor: np.ndarray, budget: int) -> tuple[int, ...] | None:
    """Of all ranks whose core and factors fit the budget, those whose truncated higher-order SVD keeps most energy.

    De Lathauwer, De Moor and Vandewalle, SIAM J. Matrix Anal. Appl. 21(4), 2000. None where not even ranks of 1 fit.
    """
    kept = _core_energy(tensor)
    order = np.argsort(tensor.shape, kind="stable")[::-1]  # the largest mode first: its rank follows from the others
    kept, sizes = kept.transpose(order), np.array(tensor.shape)[order]
    others = np.stack(np.meshgrid(*(np.arange(1, size + 1) for size in sizes[1:]), indexing="ij"), -1)
    others = others.reshape(-1, len(sizes) - 1)
    core = others.prod(1)
    first = (budget - others @ sizes[1:]) // (core + sizes[0])
    first = np.minimum(np.minimum(first, sizes[0]), core)  # a rank above the product of the others adds nothing
    fits = first >= 1
    if not fits.any():
        return None
    others, first = others[fits], first[fits]
    best = int(kept[(first - 1, *(others - 1).T)].argmax())
    ranks = np.empty(len(sizes), dtype=int)
    ranks[order] = [first[best], *others[best]]
    return tuple(ranks.tolist())


def _core_energy(tensor: np.ndarray) -> np.ndarray:
    """Energy that the truncated higher-order SVD keeps, by the rank of each mode less one."""
    core = tensor
    for mode, size in enumerate(tensor.shape):
        unfolded = np.moveaxis(tensor, mode, 0).reshape(size, -1)
        _, vectors = np.linalg.eigh(unfolded @ unfolded.T)
        core = np.moveaxis(np.tensordot(vectors[:, ::-1].T, core, axes=(1, mode)), 0, mode)
    energy = core**2
    for mode in range(energy.ndim):
        energy = energy.cumsum(mode)
    return energy


_FORMATS = {"cp": _cp, "tucker": _tucker}


def _tensorly():
    try:
        import tensorly
    except ImportError:
        raise FiltersubError("CP and Tucker need the package tensorly: pip install 'filtersub[tensor]'") from None
    return tensorly
