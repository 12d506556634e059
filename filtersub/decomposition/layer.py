"""One layer: learn its atoms, read them from a file, or draw coefficients at random; code it over given atoms, and say
how good that is.
"""

import json
import time
import warnings
from collections.abc import Iterable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..dictionary import DictionaryResult, learn_dictionary
from ..errors import FiltersubError
from ..fingerprint import fingerprint
from ..kernels import KernelLayout, kernel_matrix
from ..settings import check_kind
from ..sparse_coding import CodingResult, encode
from ..sparse_coding.linear import second_moment
from .expansion import absolute_sum, expand, squared_norm, squared_residual
from .recipe import DecompositionConfig, is_file_of_atoms
from .result import Decomposition

_NO_ENERGY = 1e-10  # of the most used atom's: coefficients that are rounding alone


def read_start(path: str, name: str, shape: tuple[int, int], *, dictionary: str | None = None) -> Tensor:
    """The atoms (n_atoms, d) that a file has for layer ``name``, or for the shared ``dictionary`` that it learns.

    The tensor is the layer's own, ``NAME.atoms``, or the shared dictionary that the file says the layer had, or
    ``atoms``, which any layer may start from.

    Raises FiltersubError when the file is missing or no safetensors, when it has nothing for the layer, and on atoms of
    another shape, that are not finite, or zero.
    """
    if not Path(path).is_file():
        raise FiltersubError(f"no file of atoms at {path}")
    whose = f"layer {name!r}" if dictionary is None else f"the dictionary {dictionary!r}"
    try:
        with safe_open(path, framework="pt") as file:
            known = json.loads((file.metadata() or {}).get("layers", "{}"))
            title = dictionary or known.get(name, {}).get("dictionary")
            wanted = [f"{name}.atoms"] if dictionary is None else []
            wanted += [f"dictionary:{title}.atoms", "atoms"]
            found = next((file.get_tensor(key) for key in wanted if key in file.keys()), None)  # noqa: SIM118
    except Exception as error:  # the reader, JSON and the header each raise classes of their own
        raise FiltersubError(f"{path} cannot be read as a file of atoms: {error}") from None
    if found is None:
        raise FiltersubError(f"the atoms of {path} do not fit: it has none for {whose} (no {wanted[0]!r}, no 'atoms')")
    if tuple(found.shape) != shape:
        raise FiltersubError(
            f"the atoms of {path} do not fit {whose}: they are {' x '.join(map(str, found.shape))}, and {shape[0]} of "
            f"{shape[1]} numbers are wanted"
        )
    atoms = found.double()
    if not bool(torch.isfinite(atoms).all()) or not bool(atoms.norm(dim=1).all()):
        raise FiltersubError(f"the atoms of {path} for {whose} hold NaN, infinity or an atom of zeros")
    return atoms


def drawn_codes(rows: Tensor, n_atoms: int, seed: int) -> Tensor:
    """Random coefficients (n_rows, n_atoms) for a kernel matrix (n_rows, d), in its dtype.

    Their Frobenius norm is that of the principal coefficients of min(n_atoms, d) atoms, so that an update
    ``alpha x dD`` has about the size that it has with those, and one learning rate suits both. The seed and the shapes
    determine the entries (numpy's PCG64), whatever the layer is called: layers of one shape have the same ones up to
    their scale.
    """
    numbers = np.random.default_rng([seed, *rows.shape, n_atoms]).standard_normal((rows.shape[0], n_atoms))
    drawn = torch.from_numpy(numbers).to(rows.device)
    values = torch.linalg.eigvalsh(second_moment(rows)).clamp_min(0)  # rising
    return (drawn * (values[-n_atoms:].sum().sqrt() / drawn.norm())).to(rows.dtype)


def decompose_weight(layout: KernelLayout, layer: nn.Module | Tensor, config: DecompositionConfig) -> Decomposition:
    """Decompose one layer (or its bare weight) by the recipe; low-precision weights are decomposed in float32.

    A kernel of zeros has coefficients of zero and error 0; its ``note`` says so, as it does where the layer has fewer
    rows than atoms were asked for, or where the penalty leaves no coefficient but zero (and from which value on).

    Raises FiltersubError when the weight holds NaN or infinity, naming the layer.
    """
    check_kind("config", config, DecompositionConfig)
    rows = decomposable_rows(layout, layer)
    n_atoms = config.n_atoms(layout)
    if not bool(rows.any()):
        return _finish(layout, rows, config, _of_zeros(rows, n_atoms, config.seed))
    distinct = config.distinct_atoms(layout)
    if config.code_kind == "random":
        found = _of_drawn_codes(rows, distinct, config.seed)
    else:
        found = learn(rows, distinct, config, layout)
    atoms, codes = found.atoms, found.codes
    if not config.limit_atoms:
        kept = with_energy(codes.double().square().sum(0))
        atoms, codes = repeated(atoms[kept], codes[:, kept], n_atoms)
    return _finish(layout, rows, config, replace(found, atoms=atoms, codes=codes))


def code_weight(
    layout: KernelLayout,
    layer: nn.Module | Tensor,
    config: DecompositionConfig,
    atoms: Tensor,
    *,
    dictionary: str | None = None,
    learned: DictionaryResult | None = None,
    share: float = 1.0,
) -> Decomposition:
    """A layer over atoms (n_atoms, d) that are given: no learning, only coefficients.

    ``dictionary`` names the shared dictionary that the atoms are, ``learned`` tells how it was learned: the layer
    reports its rounds, and bears the given share of its seconds.
    """
    rows = decomposable_rows(layout, layer)
    coding = codes_over(rows, atoms.to(rows), config)
    seconds, rounds, converged, stopped = coding.seconds, 0, coding.converged, ""
    if learned is not None:
        seconds += share * learned.seconds
        rounds, converged, stopped = learned.rounds, learned.converged, learned.stopped
    found = DictionaryResult(atoms.to(rows), coding.codes, (), rounds, seconds, coding.optimality, converged, stopped)
    return _finish(layout, rows, config, found, dictionary=dictionary)


def with_energy(energies: Tensor) -> Tensor:
    """Which atoms have coefficients, by the sums of their squares (m,): a mask; all where none has any."""
    kept = energies > _NO_ENERGY * energies.max()
    return kept if bool(kept.any()) else torch.ones_like(kept)


def repeated(atoms: Tensor, codes: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """``n_atoms`` atoms (n_atoms, d) and codes (n_rows, n_atoms): the given ones over and over, in turn.

    Equal atoms share their codes evenly, so that ``codes x atoms`` and ``||codes||_1`` stay the same, and each of them
    gets a gradient. With as many atoms as there are, these and their codes.
    """
    if n_atoms == atoms.shape[0]:
        return atoms, codes
    source = torch.arange(n_atoms, device=atoms.device) % atoms.shape[0]
    times = torch.bincount(source)[source]
    return atoms[source], codes[:, source] / times.to(codes)


def codes_over(rows: Tensor, atoms: Tensor, config: DecompositionConfig) -> CodingResult:
    """The coefficients that the recipe's solver gives rows (n_rows, d) over atoms (n_atoms, d), or that it draws."""
    if config.code_kind == "random":
        began = time.perf_counter()
        codes = drawn_codes(rows, atoms.shape[0], config.seed)
        seconds = time.perf_counter() - began
        return CodingResult(codes, (0.5 * squared_residual(rows, codes, atoms),), 1, seconds, 0.0, True)
    return encode(rows, atoms, **coding_settings(config, atoms.shape[0]))


def learn(
    rows: Tensor, n_atoms: int, config: DecompositionConfig, layout: KernelLayout, dictionary: str | None = None
) -> DictionaryResult:
    """A dictionary of so many atoms by the recipe; a penalty that leaves nothing is for the layer's note to tell.

    ``dictionary`` names the shared one that this is; then ``layout`` is that of any of its layers.
    """
    init, start = config.init, None
    if is_file_of_atoms(init) and config.learns_atoms:
        init, start = "rows", read_start(init, layout.name, (n_atoms, rows.shape[1]), dictionary=dictionary)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="every code is zero", category=UserWarning)
        return learn_dictionary(
            rows,
            n_atoms,
            init=init,
            atoms_init=start,
            patch_shape=layout.patch_shape,
            learner=config.learner,
            max_rounds=config.max_rounds,
            tol=config.tol,
            seed=config.seed,
            **coding_settings(config, n_atoms),
        )


def warm_up(layouts: Iterable[KernelLayout], config: DecompositionConfig, atoms: Iterable[int] = ()) -> None:
    """Learn from a few made-up rows of each kind of layer at each m, so that a time taken after is of the work alone.

    Needed where more than a decomposition is timed; its own ``seconds`` leave out what happens once a process.
    """
    layouts = list(layouts)
    for recipe in [config, *(replace(config, atoms=m) for m in atoms)]:
        if recipe.code_kind == "random":
            continue
        short = replace(recipe, init="rows" if is_file_of_atoms(recipe.init) else recipe.init, max_rounds=1)
        kinds = {(recipe.distinct_atoms(layout), layout.patch_size): layout for layout in layouts}
        for (n_atoms, size), layout in kinds.items():
            rows = torch.randn(max(64, n_atoms), size, generator=torch.Generator().manual_seed(0))
            learn(rows, n_atoms, short, layout)
        parts = [recipe.coefficient_part(layout) for layout in kinds.values() if recipe.block_coefficients]
        for of_alpha, its_recipe in {
            (of_alpha.patch_size, own.atoms): (of_alpha, own) for of_alpha, own in parts
        }.values():
            warm_up([of_alpha], its_recipe)


def coding_settings(config: DecompositionConfig, n_atoms: int) -> dict[str, Any]:
    """What the recipe says to encode and learn_dictionary alike, for so many atoms."""
    nonzeros = None
    if config.code_kind == "support":
        nonzeros = min(config.nonzeros or max(1, n_atoms // 3), n_atoms)
    return {
        "solver": config.solver,
        "l1_penalty": config.l1_penalty,
        "n_nonzero": nonzeros,
        "nonnegative": config.nonnegative,
    }


def decomposable_rows(layout: KernelLayout, layer: nn.Module | Tensor) -> Tensor:
    """The kernel matrix (n_rows, d), in float32 at least.

    Raises FiltersubError naming a layer whose weights are no real numbers, not finite, or so large or small that their
    squares leave the range of their type.
    """
    rows = kernel_matrix(layout, layer)
    if not rows.is_floating_point():
        kind = str(rows.dtype).removeprefix("torch.")
        raise FiltersubError(f"layer {layout.name!r} has weights of type {kind}, and only real numbers are decomposed")
    rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    if rows.device.type != "meta" and rows.numel():
        low, high = rows.aminmax()
        largest, bound = max(-float(low), float(high)), torch.finfo(rows.dtype).max ** 0.35
        if largest > bound or 0 < largest < 1 / bound:
            raise FiltersubError(
                f"layer {layout.name!r} has weights of at most {largest:.3g}, whose squares leave the range of "
                f"{str(rows.dtype).removeprefix('torch.')}; scale them, or look whether the file is damaged"
            )
    return rows


def largest_patch(rows: Tensor) -> float:
    """The largest norm of a row: from that penalty on every code over unit-norm atoms is zero."""
    return max((float(part.norm(dim=1).max()) for part in rows.split(1 << 12)), default=0.0)


def _of_zeros(rows: Tensor, n_atoms: int, seed: int) -> DictionaryResult:
    """Any atoms do for rows of zeros: seeded random directions."""
    atoms = torch.randn(n_atoms, rows.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    atoms = (atoms / atoms.norm(dim=1, keepdim=True)).to(rows)
    codes = rows.new_zeros(rows.shape[0], n_atoms)
    return DictionaryResult(atoms, codes, (0.0,), 0, 0.0, 0.0, True, "the kernel is zero")


def _of_drawn_codes(rows: Tensor, n_atoms: int, seed: int) -> DictionaryResult:
    began = time.perf_counter()
    codes = drawn_codes(rows, n_atoms, seed)
    atoms = torch.linalg.lstsq(codes.double(), rows.double()).solution.to(rows.dtype)
    seconds, stopped = time.perf_counter() - began, "random coefficients, atoms of least squares"
    return DictionaryResult(atoms, codes, (), 0, seconds, 0.0, True, stopped)


def _finish(
    layout: KernelLayout,
    rows: Tensor,
    config: DecompositionConfig,
    found: DictionaryResult,
    *,
    dictionary: str | None = None,
) -> Decomposition:
    began, codes = time.perf_counter(), found.codes
    if found.objective and config.code_kind != "penalty":  # learning has summed this error
        squared_error = 2 * found.objective[-1]
    else:
        squared_error = squared_residual(rows, codes, found.atoms)
    channels = layout.input_channels if config.expansion_coefficients == "per-channel" else None
    levels = expand(rows, codes, found.atoms, config.expansion_of(layout), channels=channels, seed=config.seed)
    objective = 0.5 * squared_error
    if config.code_kind == "penalty":
        objective += config.l1_penalty * absolute_sum(codes)
    note, blocks, part = _note(layout, rows, config, codes, dictionary), None, config.coefficient_part(layout)
    if part is not None:
        of_alpha, recipe = part
        blocks = decompose_weight(of_alpha, codes.reshape(of_alpha.shape), recipe)
    return Decomposition(
        layout,
        found.atoms,
        codes,
        config.solver,
        blocks=blocks,
        objective=objective,
        squared_error=squared_error,
        squared_norm=squared_norm(rows),
        iterations=found.rounds,
        seconds=found.seconds + (time.perf_counter() - began if levels else 0.0),
        converged=found.converged,
        history=found.objective or (objective,),
        levels=levels,
        stopped=found.stopped,
        note=note,
        dictionary=dictionary,
        weight_fingerprint=tuple(fingerprint(rows).tolist()),
    )


def _note(
    layout: KernelLayout, rows: Tensor, config: DecompositionConfig, codes: Tensor, dictionary: str | None
) -> str:
    notes = []
    wanted, distinct = config.atoms * prod(layout.block), config.distinct_atoms(layout)
    if distinct < wanted and dictionary is None:
        limit = f"{layout.n_rows} rows" if distinct == layout.n_rows else f"{layout.patch_size} entries in a patch"
        found = (
            f"{distinct} atoms instead of {wanted}" if config.limit_atoms else f"{distinct} of {wanted} atoms differ"
        )
        notes.append(f"{found}: there are only {limit}")
    if not bool(codes.any()):
        if not bool(rows.any()):
            notes.append("the kernel is zero")
        else:
            notes.append(f"every coefficient is zero: that is so from l1_penalty {largest_patch(rows):.3g} on")
    return "; ".join(notes)
