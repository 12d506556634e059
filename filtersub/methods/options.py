"""What can be tuned, by name, and the options of the methods."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

from ..errors import FiltersubError
from ..parameters.baselines import BaselineOptions
from ..setting_fields import RecipeFields, StartFields, UpdateFields, described

HEAD_RATE = 3e-3  # of heads, and of weights tuned whole
_ATOM_RATE, _BLOCK_RATE = 3e-2, 2e-2


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes
    ----------
    trains : what it trains beside the head
    label : what a reader calls it; ``{rank}`` and the like are filled from the options
    source : who proposed it
    by_peft : whether it is an adapter of peft, saved and loaded as one
    adds : whether it puts tensors into the model (not peft's), which must be there before a saved run is loaded
    channels_last : whether its weights may lie in memory with the channels last; peft's DoRA, BOFT and HRA cannot
    learning_rate : the peak that runs take unless told
    """

    trains: str
    label: str
    source: str
    by_peft: bool = False
    channels_last: bool = True
    adds: bool = False
    learning_rate: float = HEAD_RATE


METHODS: dict[str, Method] = {
    "filter-subspace": Method(
        "filter atoms", "", "Chen, Miao and Qiu, arXiv:2403.00269", True, learning_rate=_ATOM_RATE
    ),
    "linear": Method("nothing: the head alone", "linear probing", "-"),
    "full": Method("every weight", "full tuning", "-"),
    "bitfit": Method("every bias", "biases (BitFit)", "Ben Zaken, Ravfogel and Goldberg, arXiv:2106.10199"),
    "norm": Method(
        "weights and biases of the normalisation layers",
        "normalisation layers",
        "Frankle, Schwab and Morcos, arXiv:2003.00152",
    ),
    "ssf": Method(
        "a scale and a shift of the output channels of each layer",
        "scale and shift (SSF)",
        "Lian et al., arXiv:2210.08823",
        adds=True,
    ),
    "conv-adapter": Method(
        "bottlenecks beside the spatial convolutions",
        "Conv-Adapter, reduction {reduction}",
        "Chen, Tao, Zhang et al., arXiv:2208.07463",
        adds=True,
    ),
    "lora": Method("low-rank factors", "LoRA r={rank}", "Hu et al., arXiv:2106.09685", True),
    "lora-loralib": Method(
        "low-rank factors of the (c_out k, c_in k) matrix",
        "LoRA (loralib) r={rank}",
        "Hu et al., arXiv:2106.09685, as loralib has it",
        adds=True,
    ),
    "dora": Method("low-rank factors and a magnitude", "DoRA r={rank}", "Liu et al., arXiv:2402.09353", True, False),
    "loha": Method("Hadamard-multiplied low-rank factors", "LoHa r={rank}", "Hyeon-Woo et al., arXiv:2108.06098", True),
    "lokr": Method("Kronecker factors", "LoKr r={rank}", "Yeh et al., arXiv:2309.14859", True),
    "oft": Method("block-diagonal rotations", "OFT blocks of {oft_block}", "Qiu et al., arXiv:2306.07280", True),
    "boft": Method("butterfly rotations", "BOFT blocks of {boft_block}", "Liu et al., arXiv:2311.06243", True, False),
    "adalora": Method(
        "low-rank factors and singular values, whose ranks are allotted while training",
        "AdaLoRA r={rank}",
        "Zhang et al., arXiv:2303.10512",
        True,
    ),
    "tucker-lora": Method(
        "low-rank factors with a core for the kernel's sides",
        "Tucker LoRA r={rank}",
        "Yeh et al., arXiv:2309.14859, as LyCORIS has it",
        adds=True,
    ),
    "tucker-loha": Method(
        "Hadamard-multiplied low-rank factors with cores",
        "Tucker LoHa r={rank}",
        "Yeh et al., arXiv:2309.14859, as LyCORIS has it",
        adds=True,
    ),
    "tucker-lokr": Method(
        "Kronecker factors with a core",
        "Tucker LoKr r={rank}",
        "Yeh et al., arXiv:2309.14859, as LyCORIS has it",
        adds=True,
    ),
    "hra": Method("Householder reflections", "HRA r={rank}", "Yuan et al., arXiv:2405.17484", True, False),
    "hira": Method(
        "low-rank factors, multiplied with the weight entry by entry", "HiRA r={rank}", "Huang et al., ICLR 2025", True
    ),
    "ia3": Method("a factor of each output channel", "(IA)³", "Liu et al., arXiv:2205.05638", True),
}


@described
@dataclass(frozen=True)
class MethodOptions(UpdateFields, BaselineOptions):
    """Options of the baselines."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.adapter_scale < math.inf:
            raise FiltersubError(f"adapter_scale must be a positive number, got {self.adapter_scale}")
        if not 0 <= self.update_dropout < 1:
            raise FiltersubError(f"update_dropout must be at least 0 and below 1, got {self.update_dropout}")


def check_method(name: str) -> None:
    if name not in METHODS:
        raise FiltersubError(f"unknown method {name!r}; known: {', '.join(METHODS)}")


def check_options(method: str, options: MethodOptions) -> None:
    """Raises FiltersubError where the options cannot be the method's."""
    if method == "hra" and options.rank % 2:
        raise FiltersubError(
            f"hra needs an even rank, got {options.rank}; its reflections start in equal pairs, which cancel each other"
        )
    if options.update_dropout and method not in MEANT_FOR["update_dropout"]:
        raise FiltersubError(
            f"update_dropout drops inputs of a layer's update, which {method} does not compute apart; it is for "
            f"{', '.join(MEANT_FOR['update_dropout'])}"
        )


def usual_rate(method: str, *, blocks: bool) -> float:
    """The peak learning rate that was chosen on the digits' validation images."""
    return _BLOCK_RATE if method == "filter-subspace" and blocks else METHODS[method].learning_rate


#: settings of the method filter-subspace alone: its recipe, but for the seed, and what it trains
OF_ATOMS = (*(field.name for kind in (RecipeFields, StartFields) for field in fields(kind) if field.name != "seed"),)
_SCALED = ("lora", "lora-loralib", "dora", "loha", "lokr", "adalora", "tucker-lora", "tucker-loha", "tucker-lokr")
#: setting -> the methods that it means something to; the others are of every method
MEANT_FOR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(OF_ATOMS, ("filter-subspace",)),
    "rank": (*_SCALED, "hra", "hira"),
    "adapter_scale": _SCALED,
    "update_dropout": ("lora", "dora", "adalora", "hira"),
    "depthwise_rank": ("lora-loralib",),
    "oft_block": ("oft",),
    "boft_block": ("boft",),
    "reduction": ("conv-adapter",),
    "layers": tuple(name for name in METHODS if name not in ("linear", "full")),
}


def check_meant(method: str, given: Iterable[str]) -> None:
    """Raises FiltersubError where one of the settings ``given`` by a user means nothing to the method."""
    for name in given:
        if method not in MEANT_FOR.get(name, (method,)):
            option = f"--{name.replace('_', '-').replace('overrides', 'override')}"
            raise FiltersubError(f"{option} is for {', '.join(MEANT_FOR[name])}; the method {method} has no use for it")
