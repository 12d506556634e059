"""The recipe of a decomposition: with the weights it determines the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

from ..errors import FiltersubError, check_name
from ..former_names import by_name_of_today
from ..kernel_layout import KernelLayout, check_block, check_block_used, coefficient_layout, compile_pattern
from ..setting_fields import CODES, EXPANSION_INITS, RecipeFields, described, words_of
from ..settings import MOST, MOST_SEED, check_number, check_types


@described
@dataclass(frozen=True)
class DecompositionConfig(RecipeFields):
    """The recipe of a decomposition; with the weights it determines the result.

    Notes
    -----
    block : (k_c', k_c), or one side for both. Without it 1x1 kernels and linear layers take no part
    block_coefficients : ``F = alpha x D`` without blocks, 1x1 kernels and linear layers included, and then
        ``alpha = alpha_c x D_c`` with alpha (c, c', m) in blocks of k_c x k_c' channels (section 4.5). D_c has m k_c
        k_c' atoms of as many entries
    limit_atoms : false gives every layer m p q atoms: the ones beyond the limit, and those whose coefficients are all
        zero, repeat the others, and equal atoms share their coefficients evenly, so that alpha x D stays the same
    solver : "random" is a control with coefficients drawn by the seed and atoms of least squares, which reconstruct
        next to nothing
    init : a file of atoms (.safetensors) is an earlier decomposition, or tensors ``NAME.atoms`` by layer, or ``atoms``
        for all; with max_rounds=0 they stay as they are
    expansion : (m_1, m_2, ...): every atom over m_1 atoms of its own, each of those over m_2, and so on:
        D[i] = sum_j alpha_1[i, j] D_1[i, j] with D_1 (n_atoms, m_1, d), then
        D_1[i, j] = sum_k alpha_2[i, j, k] D_2[i, j, k] with D_2 (n_atoms, m_1, m_2, d)
    expansion_coefficients : "shared", one alpha_1 (n_atoms, m_1); or "per-channel", alpha_1 (c', n_atoms, m_1), so that
        input channel c has atoms D[c, i] = sum_j alpha_1[c, i, j] D_1[i, j] of its own over the one D_1. c' counts the
        input channels of a group, in blocks c' / k_c'. Only alpha_1 can be per channel
    """

    def __post_init__(self) -> None:
        for name in ("block", "expansion"):  # JSON and YAML know no tuples
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_types(self)
        check_block(self.block)
        _check_count("the number of atoms", self.atoms, 1)
        if self.nonzeros is not None:
            _check_count("the number of nonzeros", self.nonzeros, 1)
        _check_count("max_rounds", self.max_rounds, 0)
        _check_count("seed", self.seed, 0, MOST_SEED)
        for name in ("l1_penalty", "tol"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise FiltersubError(f"{name} must be a finite number >= 0, got {value!r}")
        for name, known in words_of(RecipeFields).items():
            value = getattr(self, name)
            if name != "init" or not isinstance(value, str) or not is_file_of_atoms(value):
                check_name(name, value, known)
        if self.block_coefficients and self.block is None:
            raise FiltersubError("block_coefficients blocks alpha by block; set block, or leave block_coefficients out")
        if self.block_coefficients and self.block_spatial:
            raise FiltersubError(
                "block_coefficients blocks alpha and block_spatial the kernels themselves; leave one of them out"
            )
        if any(isinstance(m, bool) or not isinstance(m, int) or m < 1 for m in self.expansion_sizes):
            raise FiltersubError(f"expansion must be a positive integer or a tuple of them, got {self.expansion!r}")
        for m in self.expansion_sizes:
            _check_count("the number of atoms of an atom (expansion)", m, 1)
        if self.expansion == ():
            raise FiltersubError("expansion must name at least one level, got (); None is no expansion")
        if self.nonnegative and self.code_kind in ("linear", "random"):
            raise FiltersubError(
                f"solver {self.solver!r} has {self.code_kind} codes, which cannot be kept nonnegative; "
                "leave nonnegative out, or use solver 'lasso'"
            )

    @property
    def code_kind(self) -> str:
        """The kind of the solver's coefficients, a value of CODES: "penalty", "support", "linear" or "random"."""
        return CODES[self.solver]

    @property
    def learns_atoms(self) -> bool:
        """Whether atoms are learned from initial ones; else they have a closed form."""
        return self.code_kind in ("penalty", "support")

    @property
    def kernel_blocks(self) -> dict[str, Any]:
        """The arguments ``block`` and ``block_spatial`` of layout_of and select_layers: how the kernels are blocked."""
        return {"block": 1 if self.block_coefficients else self.block, "block_spatial": self.block_spatial}

    @property
    def expansion_sizes(self) -> tuple[int, ...]:
        """(m_1, m_2, ...); empty without expansion."""
        if self.expansion is None:
            return ()
        return self.expansion if isinstance(self.expansion, tuple) else (self.expansion,)

    def n_atoms(self, layout: KernelLayout) -> int:
        """Atoms of a layer: m p q; limited to rows (that many reconstruct exactly), and to d for linear codes, unless
        ``limit_atoms`` is false."""
        return self.distinct_atoms(layout) if self.limit_atoms else self.atoms * prod(layout.block)

    def distinct_atoms(self, layout: KernelLayout) -> int:
        """The atoms of a layer that differ: m p q within the limits."""
        wanted = min(self.atoms * prod(layout.block), layout.n_rows)
        return min(wanted, layout.patch_size) if self.code_kind == "linear" else wanted

    def expansion_of(self, layout: KernelLayout) -> tuple[int, ...]:
        """(m_1, m_2, ...) of a layer; empty where its atoms are not expanded."""
        return self.expansion_sizes if layout.is_spatial or self.expansion_layers == "all" else ()

    def coefficient_part(self, layout: KernelLayout) -> tuple[KernelLayout, DecompositionConfig] | None:
        """Layout and recipe of ``alpha = alpha_c x D_c``; None without block_coefficients."""
        if not self.block_coefficients:
            return None
        n_atoms = self.n_atoms(layout)
        plain = {"block_coefficients": False, "expansion": None, "expansion_coefficients": "shared"}
        plain["init"] = self.init if self.init in ("rows", "pca", "kmeans++") else "rows"  # others are of kernels
        return coefficient_layout(layout, n_atoms, self.block), replace(self, atoms=n_atoms, **plain)


def is_file_of_atoms(init: str) -> bool:
    """Whether the setting ``init`` of a recipe names a file of atoms rather than a way to start."""
    return init.endswith(".safetensors")


def _check_count(what: str, value: object, least: int, most: int = MOST) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise FiltersubError(f"{what} must be {'a positive integer' if least else 'an integer >= 0'}, got {value!r}")
    if value > most:
        raise FiltersubError(f"{what} must be at most {most:,}, got {value:,}")


def check_expansion_start(init: str, scale: float) -> None:
    """FiltersubError unless ``init`` is in EXPANSION_INITS and ``scale`` a finite number above zero."""
    check_name("expansion_init", init, EXPANSION_INITS)
    if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < float("inf"):
        raise FiltersubError(f"init_scale must be a finite number > 0, got {scale!r}; 1 leaves the start as it is")


def check_overrides(
    overrides: Mapping[str, Mapping[str, Any]] | None, source: str | None = None
) -> dict[str, dict[str, Any]]:
    """Settings by pattern of layer names, each pattern and each setting looked at, under its name of today.

    ``source`` is the file that a reader may have to mend: a name of before is told with it (FormerNameWarning).

    Raises FiltersubError on patterns that are no regular expressions, unknown settings (with the nearest) and settings
    that are not a mapping.

    >>> check_overrides({"stage4": {"atoms": 12}})
    {'stage4': {'atoms': 12}}
    """
    known = tuple(field.name for field in fields(DecompositionConfig))
    checked = {}
    if not isinstance(overrides or {}, Mapping):
        raise FiltersubError(f"overrides must map patterns of layer names to settings, got {overrides!r}")
    for pattern, settings in (overrides or {}).items():
        compile_pattern(pattern)
        if not isinstance(settings, Mapping):
            raise FiltersubError(f"the override of {pattern!r} must map settings to values, got {settings!r}")
        settings = by_name_of_today(settings, source and f"{source}: the override of {pattern!r}")
        for name in settings:
            check_name(f"setting in the override of {pattern!r}:", name, known)
        checked[str(pattern)] = settings
    return checked


def recipe_of(
    name: str, config: DecompositionConfig, overrides: Mapping[str, Mapping[str, Any]]
) -> DecompositionConfig:
    """The recipe of one layer: every override whose pattern its name holds, in their order, the last one winning."""
    found: dict[str, Any] = {}
    for pattern, settings in overrides.items():
        if compile_pattern(pattern).search(name):
            found |= settings
    try:
        return replace(config, **found) if found else config
    except FiltersubError as error:
        raise FiltersubError(f"the overrides of layer {name!r}: {error}") from None


def check_no_conflict(name: str, overrides: Mapping[str, Mapping[str, Any]]) -> None:
    """FiltersubError where two patterns match one layer and give one setting different values."""
    given: dict[str, tuple[str, Any]] = {}
    for pattern, settings in overrides.items():
        if not compile_pattern(pattern).search(name):
            continue
        for setting, value in settings.items():
            other, before = given.setdefault(setting, (pattern, value))
            if before != value:
                raise FiltersubError(
                    f"the overrides {other!r} and {pattern!r} both match layer {name!r} and give it {setting} "
                    f"{before!r} and {value!r}; make one of the patterns narrower"
                )


def check_blocks_used(layers: Iterable[tuple[KernelLayout, DecompositionConfig]]) -> None:
    """FiltersubError where a block of these recipes joins channels in none of its layers (check_block_used)."""
    by_block: dict[tuple[Any, bool], list[KernelLayout]] = {}
    for layout, recipe in layers:
        everywhere = recipe.block_spatial or recipe.block_coefficients
        by_block.setdefault((recipe.block, everywhere), []).append(layout)
    for (block, everywhere), layouts in by_block.items():
        if len(by_block) == 1 or everywhere or not all(layout.is_spatial for layout in layouts):
            check_block_used(layouts, block, everywhere)


def check_matched(patterns: Iterable[str], names: Iterable[str], what: str) -> None:
    """FiltersubError where a pattern matches none of the layers ``names``; ``what`` says whose pattern it is."""
    names = list(names)
    for pattern in patterns:
        if not any(compile_pattern(pattern).search(name) for name in names):
            raise FiltersubError(f"{what} {pattern!r} matches no layer that takes part; they are named like {names[0]}")


def first_difference(
    one: DecompositionConfig, other: DecompositionConfig, ignore: Iterable[str] = ()
) -> tuple[str, Any, Any] | None:
    """(setting, value in one, value in other) of the first setting in which two recipes differ; None if in none."""
    for field in fields(DecompositionConfig):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name not in ignore and mine != theirs:
            return field.name, mine, theirs
    return None


def check_max_error(max_error: float) -> None:
    """Raises FiltersubError unless it is a relative error, between 0 and 1."""
    check_number("max_error", max_error)
    if not 0 < max_error < 1:
        raise FiltersubError(f"max_error is a relative error between 0 and 1, got {max_error!r}")
