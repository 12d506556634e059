"""The coefficients of a layer: alpha, frozen, stored or V alone where they are a linear map ``alpha = F V`` of the
kernels; those of expanded and of blocked atoms, which are trained, and the atoms that these stand for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from math import prod

import torch
from torch import Tensor, nn

from ..decomposition import DecompositionConfig
from ..decomposition.cache import cached_weight
from ..decomposition.layer import repeated, with_energy
from ..engine.conv.packed import pack
from ..errors import FiltersubError
from ..fingerprint import fingerprint, same_fingerprint
from ..kernels import KernelLayout, kernel_matrix
from ..sparse_coding import encode, principal_atoms
from ..sparse_coding.linear import second_moment
from .weight_sum import by_input

#: the tensors of a layer that hold an adapter's coefficients, saved where it asks for that
FORMS = (
    "filtersub_coefficients",
    "filtersub_packed_values",
    "filtersub_packed_indices",
    "filtersub_block_coefficients",
)
_ALWAYS_SAVED = ("filtersub_mapping", "filtersub_dictionary")
TENSORS = (*FORMS, *_ALWAYS_SAVED, "filtersub_fingerprint")
_reading: ContextVar[bool] = ContextVar("a file is being read", default=False)


def frozen_codes(
    layout: KernelLayout, weight: Tensor, recipe: DecompositionConfig, *, hold: bool
) -> tuple[dict[str, Tensor], int]:
    """Decompose a base weight: the tensors of the coefficients, by the names that a FilterSubspaceLayer holds them
    under, and the rounds of dictionary learning that were needed (0 where V is computed at once).

    The fingerprint of alpha_c follows alpha's where alpha is decomposed in blocks. ``hold`` false (linear codes only)
    computes V from the second moment of the kernels: no alpha is ever made. On the meta device only shapes are made.
    """
    n_atoms, d, part = recipe.n_atoms(layout), layout.patch_size, recipe.coefficient_part(layout)
    dtype = torch.float32 if weight.dtype in (torch.float16, torch.bfloat16) else weight.dtype
    if weight.device.type == "meta":
        empty = partial(torch.empty, dtype=dtype, device="meta")
        made, n_sums = {"filtersub_dictionary": empty(n_atoms, d)}, n_atoms
        if hold:
            shape = (layout.n_rows // layout.input_channels, n_atoms, layout.input_channels)
            made["filtersub_coefficients"] = empty(shape)
        else:
            made["filtersub_mapping"] = empty(d, n_atoms)
        if part is not None:
            n_sums += part[1].n_atoms(part[0])
            blocks = torch.empty(part[0].n_rows, part[1].n_atoms(part[0]), device="meta")
            made["filtersub_block_coefficients"] = by_input(blocks, part[0])
        return {**made, "filtersub_fingerprint": torch.empty(n_sums, dtype=torch.float64, device="meta")}, 0
    if hold:
        found = cached_weight(layout, weight, recipe)
        packed, rounds, blocks = pack(layout, found.coefficients), found.iterations, found.blocks
        made, printed = {"filtersub_dictionary": found.atoms}, fingerprint(found.coefficients)
        if packed is None:
            made["filtersub_coefficients"] = by_input(found.coefficients, layout).contiguous()
        else:
            made |= {"filtersub_packed_values": packed.values, "filtersub_packed_indices": packed.indices}
        if blocks is not None:
            made["filtersub_block_coefficients"] = by_input(blocks.coefficients, blocks.layout).contiguous()
            printed = torch.cat([printed, fingerprint(blocks.coefficients)])
            rounds += blocks.iterations
        return {**made, "filtersub_fingerprint": printed}, rounds
    rows = kernel_matrix(layout, weight)
    dictionary = principal_atoms(rows.to(dtype), recipe.distinct_atoms(layout))
    # V (d, m) with codes = rows V is what a solver with linear codes makes of the identity
    identity = torch.eye(d, dtype=torch.float64, device=dictionary.device)
    coded = encode(identity, dictionary.double(), recipe.solver, l1_penalty=recipe.l1_penalty)
    mapping = coded.codes.to(dictionary.dtype)
    if not recipe.limit_atoms:
        moment = second_moment(rows).double()
        kept = with_energy((mapping.double().T @ moment.to(mapping.device) * mapping.double().T).sum(1))
        dictionary, mapping = repeated(dictionary[kept], mapping[:, kept], n_atoms)
    made = {"filtersub_mapping": mapping, "filtersub_dictionary": dictionary}
    return {**made, "filtersub_fingerprint": mapped_fingerprint(layout, weight, mapping)}, 0


def held_codes(layer: nn.Module, adapter: str) -> dict[str, Tensor]:
    """The tensors of an adapter's coefficients in a FilterSubspaceLayer, as frozen_codes names them."""
    found = {form: getattr(layer, form)._buffers.get(adapter) for form in TENSORS}
    return {form: tensor for form, tensor in found.items() if tensor is not None}


def put_codes(layer: nn.Module, adapter: str, tensors: dict[str, Tensor], *, saved: bool) -> None:
    """Give an adapter these tensors alone; unless ``saved``, alpha and alpha_c are no part of the layer's state."""
    for form in TENSORS:
        _replace(getattr(layer, form), adapter, tensors.get(form), persistent=saved or form not in FORMS)


def mapped_fingerprint(layout: KernelLayout, weight: Tensor, mapping: Tensor) -> Tensor:
    """The fingerprint of ``alpha = F V`` without alpha: fingerprints are linear."""
    return fingerprint(layout.to_rows(weight.detach())) @ mapping.double().to(weight.device)


def start_of_expansion(
    layout: KernelLayout, recipe: DecompositionConfig, init: str, scale: float, generator: torch.Generator
) -> list[Tensor]:
    """d-alpha_1, d-alpha_2, ... of a layer, float32, of shapes (m, m_1), (m, m_1, m_2), ...; d-alpha_1 per channel:
    (c', m, m_1).

    init : "uniform": Kaiming uniform (He et al., arXiv:1502.01852) whose fan-in is the m_l summands, of standard
        deviation sqrt(2 / m_l). "fan-in-normal", that of the authors' code: Kaiming normal with a = sqrt(5) over the
        c' m m_1 ... m_l maps that the two-step form sums, of standard deviation 1 / sqrt(3 m m_1 ... m_l c')
    scale : a factor on either
    """
    n_atoms, sizes = recipe.n_atoms(layout), recipe.expansion_of(layout)
    drawn = []
    for level in range(1, len(sizes) + 1):
        own = (layout.input_channels,) if level == 1 and recipe.expansion_coefficients == "per-channel" else ()
        shape = (*own, n_atoms, *sizes[:level])
        values = torch.empty(shape).reshape(-1, shape[-1])
        if init == "uniform":
            nn.init.kaiming_uniform_(values, generator=generator)
        else:
            maps = layout.input_channels * n_atoms * prod(sizes[:level])
            values.normal_(0.0, (3 * maps) ** -0.5, generator=generator)
        drawn.append(values.mul_(scale).reshape(shape))
    return drawn


def blocked_atoms(block_atoms: Tensor, atoms: Tensor, layout: KernelLayout) -> Tensor:
    """``dD_c x D``: the patches (m_c, p d q) of the kernel that block atoms (m_c, p m q) of alpha stand for.

    atoms (m, d), or (i, m, d) for each input channel; then (i / q, m_c, p d q). ``layout`` is that of alpha.
    """
    p, m, q = layout.patch_shape
    parts = block_atoms.reshape(-1, p, m, q)
    if atoms.ndim == 2:
        return torch.einsum("apmq,md->apdq", parts, atoms).flatten(1)
    return torch.einsum("apmq,iqmd->iapdq", parts, atoms.unflatten(0, (-1, q))).flatten(2)


@contextmanager
def reading() -> Iterator[None]:
    """Within, names of tensors are asked for alone: no coefficients are made that a file is to bring."""
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


def is_reading() -> bool:
    return _reading.get()


def holds_codes(state_dict: dict[str, Tensor], name: str) -> bool:
    """Whether a saved adapter holds coefficients of the layer ``name``."""
    beginnings = tuple(f"{name}.{form}" for form in FORMS[:2])
    return any(key.startswith(beginnings) and "_update" not in key for key in state_dict)


def make_room(layer: nn.Module, name: str, adapter: str, state_dict: dict[str, Tensor]) -> None:
    """Room in a FilterSubspaceLayer for an adapter's saved coefficients: in the form of the file (dense or packed, rows
    as long as they were there), and apart from those of other adapters where they differ.

    They do with one recipe too, where an adapter was saved with coefficients of its own beside other base weights, or
    where its map V was made on another machine: an eigenvector may come out turned or negated.
    """
    for form in FORMS:  # peft has named the adapter only where the layer has such an entry itself
        if f"{name}.{form}" in state_dict:
            state_dict[f"{name}.{form}.{adapter}"] = state_dict.pop(f"{name}.{form}")
    fingerprint = state_dict.get(f"{name}.filtersub_fingerprint.{adapter}")
    made = layer.filtersub_fingerprint._buffers.get(adapter)
    known = fingerprint is not None and made is not None and not made.is_meta and not fingerprint.is_meta
    if known and not same_fingerprint(made, fingerprint):
        layer.foreign.add(adapter)
        _replace(layer.filtersub_fingerprint, adapter, torch.empty_like(made))  # the other adapters keep theirs
    device = layer.get_base_layer().weight.device
    if adapter in layer.awaited:  # nothing was made: whether they are those of this weight is not known
        del layer.awaited[adapter]
        layer.foreign.add(adapter)
        for form in (*_ALWAYS_SAVED, "filtersub_fingerprint"):
            saved = state_dict.get(f"{name}.{form}.{adapter}")
            _replace(getattr(layer, form), adapter, None if saved is None else torch.empty_like(saved, device=device))
    for form in _ALWAYS_SAVED:
        saved, held = state_dict.get(f"{name}.{form}.{adapter}"), getattr(layer, form)._buffers.get(adapter)
        if saved is not None and held is not None and not held.is_meta and not _same(saved, held):
            _replace(getattr(layer, form), adapter, torch.empty_like(held))
    saved = {form: state_dict.get(f"{name}.{form}.{adapter}") for form in FORMS}
    if all(each is None for each in saved.values()):
        return
    for form, each in saved.items():
        _replace(getattr(layer, form), adapter, None if each is None else torch.empty_like(each, device=device))


def check_same_codes(layer: nn.Module, adapters: Sequence[str]) -> None:
    """FiltersubError where adapters have other coefficients, so that a sum of their atoms would mean nothing."""
    first = adapters[0]
    for other in adapters[1:]:
        held = layer.filtersub_fingerprint
        if not {first, other} & layer.foreign or same_fingerprint(held[first], held[other]):
            continue
        for form in (*FORMS, *_ALWAYS_SAVED):
            one, two = (getattr(layer, form)._buffers.get(a) for a in (first, other))
            if (one is None) != (two is None) or (one is not None and not _same(one, two)):
                raise FiltersubError(
                    f"adapters {first!r} and {other!r} cannot be combined: they came with different coefficients for "
                    f"layer {layer.name!r}; make them active together instead (set_adapter)"
                )


def share_codes(layer: nn.Module, adapter: str, source: str) -> None:
    """Give an adapter the very coefficients of another one."""
    layer.awaited.pop(adapter, None)
    held = [getattr(layer, form) for form in FORMS]
    saved = not any(source in each and source in each._non_persistent_buffers_set for each in held)
    put_codes(layer, adapter, held_codes(layer, source), saved=saved)
    if source in layer.foreign:
        layer.foreign.add(adapter)


def of_one_source(layer: nn.Module, one: str, other: str) -> bool:
    """Whether two adapters of a FilterSubspaceLayer have one tensor of coefficients, so that their atoms add up."""
    if layer.recipes[one] != layer.recipes[other]:
        return False
    for held in (layer.filtersub_coefficients, layer.filtersub_packed_values):
        if held._buffers.get(one) is not held._buffers.get(other):
            return False
    return True


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.to(other), other)


def _replace(held: nn.Module, adapter: str, value: Tensor | None, *, persistent: bool = True) -> None:
    held._buffers.pop(adapter, None)
    if value is not None:
        held.register_buffer(adapter, value, persistent=persistent)
