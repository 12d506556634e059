"""The paper's printed parameter counts, and for each the reading of its text that gives it.

The text (Chen, Miao and Qiu, arXiv:2403.00269, Tables 1 to 3 and section 5.2) leaves open which layers take part, how
many atoms a block has and whether the head counts. A reading settles that; nothing but layer shapes enters the sum.
Where more than one meets the printed digits, the one kept follows the paper's own setting 3 (m = 9, k_c = 4,
m k_c k_c' atoms a block) and, for LoRA, loralib's convolutions; ``reading_search`` lists the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..decomposition.recipe import DecompositionConfig
from ..errors import check_name
from .result import LayerCount, ParameterCount

if TYPE_CHECKING:
    from torch import nn

CONVNEXT, RESNET, UNET = "torchvision:convnext_base", "torchvision:resnet50", "diffusers:stable-diffusion-1.5"
_BLOCKS_4 = DecompositionConfig(block=4)
_BLOCKS_4_SPATIAL = DecompositionConfig(block=4, block_spatial=True)
_BLOCKS_2_SPATIAL = DecompositionConfig(block=2, block_spatial=True)
_RESIDUAL = r"^layer\d"
_STRIDE_1 = r"^layer(1\.\d|[234]\.[1-9])\.conv2"
_RESIDUAL_SPATIAL = r"^layer\d\.\d\.conv2"


@dataclass(frozen=True)
class Part:
    """One method on some layers (a regular expression of names; None takes all that the method can)."""

    method: str = "filter-subspace"
    layers: str | None = None
    recipe: DecompositionConfig = field(default_factory=DecompositionConfig)
    rank: int = 16


@dataclass(frozen=True)
class Reading:
    """A printed figure and what is summed to meet it."""

    where: str  # table or section
    printed: str  # its digits as they stand there
    model: str
    text: str  # the reading in words
    parts: tuple[Part, ...] = ()  # what is trained beside the head
    unit: str = "M"  # or "%"
    classes: int | None = None  # of the head; None leaves the model's own
    with_head: bool = False  # whether the head is in the sum
    head: str | None = None  # the head's module, where it is more than a linear layer
    over: str | tuple[Part, ...] = "model"  # of a percentage; or "head", or the parts that with the head are the whole


@dataclass(frozen=True)
class Computed:
    """What a reading gives: the integer trained, and the figure in the printed unit, rounded to the printed digits."""

    preset: str
    reading: Reading
    trained: int
    figure: float
    count: ParameterCount

    @property
    def rounded(self) -> str:
        decimals = len(self.reading.printed.partition(".")[2])
        return f"{self.figure:.{decimals}f}"

    @property
    def agrees(self) -> bool:
        return self.rounded == self.reading.printed

    @property
    def sentence(self) -> str:
        reading = self.reading
        verdict = "agrees" if self.agrees else "does not agree"
        return (
            f"{reading.where} prints {reading.printed} {reading.unit}; {reading.text}: {self.trained:,} trained, "
            f"{self.rounded} {reading.unit}, {verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """The count, and under "preset" what was printed and whether it agrees."""
        return {**self.count.to_json(), "preset": _row(self)}


_FULL = Part("full")
_LORALIB = {"method": "lora-loralib", "rank": 16}
_TWO_RANKS = (
    Part("lora-loralib", layers=r"features\.[1357]\.\d+\.block\.0$", rank=16),
    Part("lora-loralib", layers=r"features\.[1357]\.\d+\.block\.[35]$", rank=32),
)
_TWO_RANKS_TEXT = "LoRA (loralib), r = 16 on depthwise, 32 on linear layers, with the head; one power of two does not"

PRESETS: dict[str, Reading] = {
    "vtab": Reading(
        "Table 1, atoms", "0.45", CONVNEXT, "m = 9, k_c = 4, spatial kernels in blocks too; head not counted",
        (Part(recipe=_BLOCKS_4_SPATIAL),), classes=100,
    ),
    "cifar100": Reading(
        "Table 2, atoms", "0.3", CONVNEXT, "m = 9, k_c = 4 on linear layers, plain spatial kernels; with the head",
        (Part(recipe=_BLOCKS_4),), classes=100, with_head=True,
    ),
    "imagenet": Reading(
        "Table 2, atoms", "1.2", CONVNEXT, "the same with 1,000 classes", (Part(recipe=_BLOCKS_4),),
        classes=1000, with_head=True,
    ),
    "stable-diffusion": Reading(
        "Table 3, atoms", "1.11", UNET,
        "m = 9, k_c = 4 on the convolutions of the UNet's blocks (3x3 and the attention's 1x1), spatial ones too; "
        "not on shortcuts, first and last convolution",
        (Part(layers=r"resnets\.\d+\.conv[12]$|samplers|\.proj_(in|out)$", recipe=_BLOCKS_4_SPATIAL),),
    ),
    "stable-diffusion-share": Reading(
        "section 5.4", "0.13", UNET, "the same over the UNet",
        (Part(layers=r"resnets\.\d+\.conv[12]$|samplers|\.proj_(in|out)$", recipe=_BLOCKS_4_SPATIAL),), unit="%",
    ),
    "resnet50": Reading(
        "section 4.3", "0.004", RESNET, "m = 9 on the 3x3 kernels of stride 1, over the model",
        (Part(layers=_STRIDE_1),), unit="%",
    ),
    "resnet50-linear": Reading(
        "section 5.2", "0.5", RESNET, "the same over linear probing on CIFAR-100",
        (Part(layers=_STRIDE_1),), unit="%", classes=100, over="head",
    ),
    "resnet50-blocks": Reading(
        "section 5.2", "12", RESNET,
        "m = 9, k_c = 2 on every kernel of the residual blocks, spatial ones too: what that adds to setting 1 "
        "and the head",
        (Part(layers=_RESIDUAL, recipe=_BLOCKS_2_SPATIAL),), unit="%", classes=100,
        over=(Part(layers=_RESIDUAL_SPATIAL),),
    ),
    "vtab-lora": Reading(
        "Table 1, LoRA", "17.4", CONVNEXT, "LoRA (loralib), r = 16 on every layer, with a head of 100 classes",
        (Part(**_LORALIB),), classes=100, with_head=True,
    ),
    "cifar100-lora": Reading(
        "Table 2, LoRA", "20.1", CONVNEXT, _TWO_RANKS_TEXT, _TWO_RANKS, classes=100, with_head=True
    ),
    "imagenet-lora": Reading(
        "Table 2, LoRA", "21.0", CONVNEXT, "the same with 1,000 classes", _TWO_RANKS, classes=1000, with_head=True
    ),
    "stable-diffusion-lora": Reading(
        "Table 3, LoRA", "22.67", UNET, "LoRA (loralib), r = 16 on every layer of the UNet's blocks",
        (Part(**_LORALIB, layers=r"^(down_blocks|mid_block|up_blocks)\."),),
    ),
    "vtab-full": Reading(
        "Table 1, full", "87.67", CONVNEXT, "102 classes (Caltech101)", (_FULL,), classes=102, with_head=True
    ),
    "cifar100-full": Reading(
        "Table 2, full", "87.7", CONVNEXT, "100 classes", (_FULL,), classes=100, with_head=True
    ),
    "imagenet-full": Reading(
        "Table 2, full", "88.9", CONVNEXT, "1,000 classes; no reading meets it", (_FULL,), classes=1000, with_head=True
    ),
    "stable-diffusion-full": Reading("Table 3, full", "860", UNET, "the UNet", (_FULL,)),
    "vtab-linear": Reading(
        "Table 1, linear", "0.11", CONVNEXT, "102 classes, the head with its layer norm", classes=102, with_head=True,
        head="classifier",
    ),
    "cifar100-linear": Reading("Table 2, linear", "0.1", CONVNEXT, "100 classes", classes=100, with_head=True),
    "imagenet-linear": Reading("Table 2, linear", "1.0", CONVNEXT, "1,000 classes", classes=1000, with_head=True),
}  # fmt: skip


def preset(name: str) -> Reading:
    """A reading by name. Raises FiltersubError that lists the names and the nearest one."""
    return PRESETS[check_name("preset", name, PRESETS)]


def compute(name: str) -> Computed:
    """Sum a reading up from its architecture.

    >>> found = compute("vtab")
    >>> found.trained, found.rounded, found.agrees
    (447504, '0.45', True)
    """
    reading = preset(name)
    from .architectures import architecture  # torch, which nobody needs who looks up what is printed

    module = architecture(reading.model, reading.classes)
    count = _counted(module, reading, reading.parts)
    head = head_of(module, reading)
    trained = count.trainable + (head if reading.with_head else 0)
    if reading.unit == "M":
        return Computed(name, reading, trained, trained / 1e6, count)
    if isinstance(reading.over, tuple):
        without = _counted(module, reading, reading.over).trainable
        return Computed(name, reading, trained, 100 * (trained - without) / (head + without), count)
    whole = count.total if reading.over == "model" else head
    return Computed(name, reading, trained, 100 * trained / whole, count)


def readings_table(names: tuple[str, ...] = tuple(PRESETS)) -> pd.DataFrame:
    """One row a reading: preset, where, printed, unit, model, reading, trained, computed (rounded alike), agrees."""
    return pd.DataFrame([_row(compute(name)) for name in names])


def _row(found: Computed) -> dict[str, object]:
    reading = found.reading
    return {
        "preset": found.preset,
        "where": reading.where,
        "printed": reading.printed,
        "unit": reading.unit,
        "model": reading.model,
        "reading": reading.text,
        "trained": found.trained,
        "computed": found.rounded,
        "agrees": found.agrees,
    }


def _counted(module: nn.Module, reading: Reading, parts: tuple[Part, ...]) -> ParameterCount:
    """The parts of a reading as one count."""
    from .counting import count_parameters

    counts = [
        count_parameters(module, part.method, recipe=part.recipe, rank=part.rank, layers=part.layers)
        for part in parts or (Part("linear"),)
    ]
    layers: tuple[LayerCount, ...] = sum((count.layers for count in counts), ())
    trainable = sum(count.trainable for count in counts)
    methods = " + ".join(dict.fromkeys(count.method for count in counts))
    return ParameterCount(reading.model, methods, trainable, counts[0].head, counts[0].total, layers)


def head_of(module: nn.Module, reading: Reading) -> int:
    """Parameters of the head that a reading counts, where it does."""
    if reading.head is not None:
        return sum(p.numel() for p in module.get_submodule(reading.head).parameters())
    from .counting import count_parameters

    return count_parameters(module, "linear").head
