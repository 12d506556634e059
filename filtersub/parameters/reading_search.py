"""Every reading of a printed figure in one systematic family, so that it is plain how many meet it, or that none does.

For the atoms: each set of layer groups x m in 6, 9, 12 x no blocks, k_c = 2 or 4 x blocks on spatial kernels or not x
m k_c k_c' or m atoms a block x m or 4 (the default of the authors' code) in linear layers x head. For LoRA: each set of
layer groups x convention x rank x head.
"""

from collections.abc import Iterator
from itertools import chain, combinations, product
from math import prod

import pandas as pd
from torch import nn

from ..kernels import KernelLayout, layout_of, named_layers, select_layers
from ..models import head_name
from .architectures import architecture
from .baselines import LAYER_RULES, BaselineOptions
from .readings import CONVNEXT, RESNET, UNET, Reading, preset

#: model -> group of layers -> regular expression of their names
GROUPS: dict[str, dict[str, str]] = {
    CONVNEXT: {
        "stem": r"^features\.0\.0$",
        "depthwise": r"\.block\.0$",
        "linear": r"\.block\.[35]$",
        "downsampling": r"^features\.[246]\.1$",
    },
    RESNET: {
        "stem": r"^conv1$",
        "3x3, stride 1": r"^layer(1\.\d|[234]\.[1-9])\.conv2$",
        "3x3, stride 2": r"^layer[234]\.0\.conv2$",
        "1x1": r"^layer\d\.\d\.conv[13]$",
        "shortcuts": r"downsample",
    },
    UNET: {
        "first and last": r"^conv_(in|out)$",
        "3x3 of ResNet blocks": r"resnets\.\d+\.conv[12]$",
        "samplers": r"samplers",
        "shortcuts": r"conv_shortcut$",
        "attention 1x1": r"\.proj_(in|out)$",
        "attention linear": r"(attn\d|ff)\.",
        "time projections": r"time_emb_proj$",
        "time embedding": r"^time_embedding",
    },
}
#: Classes of VTAB-1k's 19 tasks, in the order of the paper's Table 1 (Zhai et al., arXiv:1910.04867).
VTAB_CLASSES = (102, 100, 47, 102, 37, 10, 397, 2, 10, 45, 5, 8, 6, 6, 4, 16, 16, 18, 9)
CONVENTIONS = ("lora", "lora-ungrouped", "lora-loralib", "lora-matrix")
POWERS_OF_TWO = (1, 2, 4, 8, 16, 32, 64, 128)


def matching_readings(name: str, ranks: tuple[int, ...] = POWERS_OF_TWO) -> pd.DataFrame:
    """The readings of the family that meet a preset's printed digits, one a row, the sum of each beside it.

    Columns of the atoms: layers, m, k_c, spatial_blocks, atoms_per_block, linear_m, head, trained; of LoRA: layers,
    convention, rank, head, trained.
    """
    reading = preset(name)
    if "LoRA" in reading.where:
        return _matching(reading, _lora_settings(reading.model, ranks))
    return _matching(reading, _atom_settings(reading.model))


def _matching(reading: Reading, settings: Iterator[tuple[dict[str, object], dict[str, int]]]) -> pd.DataFrame:
    decimals, rows = len(reading.printed.partition(".")[2]), []
    wholes = _wholes(reading)
    for setting, shares in settings:
        for chosen in chain.from_iterable(combinations(shares, size) for size in range(1, len(shares) + 1)):
            trained = sum(shares[group] for group in chosen)
            for head, added, divisor in wholes:
                if f"{(trained + added) / divisor:.{decimals}f}" == reading.printed:
                    rows.append({"layers": " + ".join(chosen), **setting, "head": head, "trained": trained})
    found = pd.DataFrame(rows)
    alike = ["layers", "m", "head", "trained"]  # settings that differ only where no chosen layer feels it
    return found if found.empty or "m" not in found else found.drop_duplicates(alike, ignore_index=True)


def _wholes(reading: Reading) -> list[tuple[str, float, float]]:
    """(name, what is added to the trained parameters, what they are divided by: 1e6 for M, a hundredth of it for %)."""
    module = architecture(reading.model, None)
    total, name = sum(p.numel() for p in module.parameters()), head_name(module)
    if name is None:
        return [("none", 0, 1e6 if reading.unit == "M" else total / 100)]
    old = module.get_submodule(name)
    one_class, own = old.in_features + 1, sum(p.numel() for p in old.parameters())
    if reading.unit == "%":
        heads = {"over the model": total, "over the model less its head": total - own, "over the head": 100 * one_class}
        return [(text, 0, whole / 100) for text, whole in heads.items()]
    mean = sum(VTAB_CLASSES) / len(VTAB_CLASSES)
    if "Table 1" not in reading.where:
        heads = {"counted": (reading.classes or 0) * one_class}
    else:
        heads = {"none": 0, "mean of 19 tasks": mean * one_class, "100 classes": 100 * one_class}
    return [(text, added, 1e6) for text, added in heads.items()]


def _layouts(model: str, block: int | None, block_spatial: bool) -> dict[str, list[KernelLayout]]:
    """Layouts of each group of layers; without blocks only of groups that hold spatial kernels."""
    module = architecture(model, None)
    modules, found = dict(named_layers(module)), {}
    for group, pattern in GROUPS[model].items():
        names = select_layers(module, layers=pattern, block=1)
        layouts = [layout_of(name, modules[name], block, block_spatial) for name in names]
        if None not in layouts:
            found[group] = layouts
    return found


def _atom_settings(model: str) -> Iterator[tuple[dict[str, object], dict[str, int]]]:
    """(setting, trained parameters of each group of layers)."""
    for k_c, spatial_blocks in ((None, False), (2, False), (2, True), (4, False), (4, True)):
        layouts = _layouts(model, k_c, spatial_blocks)
        has_linear = any(layout.kind == "linear" for group in layouts.values() for layout in group)
        linear_ms = ("m", 4) if has_linear else ("m",)
        rules = ("m k_c k_c'", "m") if k_c else ("m",)
        for m, per_block, linear_m in product((6, 9, 12), rules, linear_ms):
            setting = {"m": m, "k_c": k_c, "spatial_blocks": spatial_blocks, "atoms_per_block": per_block}
            shares = {
                group: sum(
                    _atoms(layout, 4 if linear_m == 4 and layout.kind == "linear" else m, per_block)
                    for layout in members
                )
                for group, members in layouts.items()
            }
            yield {**setting, "linear_m": linear_m}, shares


def _atoms(layout: KernelLayout, m: int, per_block: str) -> int:
    wanted = m * (1 if per_block == "m" else prod(layout.block))
    return min(wanted, layout.n_rows) * layout.patch_size


def _lora_settings(model: str, ranks: tuple[int, ...]) -> Iterator[tuple[dict[str, object], dict[str, int]]]:
    layouts = _layouts(model, 1, False)
    modules: dict[str, nn.Module] = dict(named_layers(architecture(model, None)))
    for convention, rank in product(CONVENTIONS, ranks):
        options, rule = BaselineOptions(rank=rank), LAYER_RULES[convention]
        shares = {
            group: [rule(layout, modules[layout.name], options) for layout in members]
            for group, members in layouts.items()
        }
        able = {group: sum(parts) for group, parts in shares.items() if all(parts)}
        yield {"convention": convention, "rank": rank}, able
