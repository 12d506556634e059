"""What can be tuned, by name, and the options of the methods."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from ..errors import FiltersubError, check_name
from ..parameters.baselines import BaselineOptions
from ..setting_fields import RecipeFields, StartFields, UpdateFields, described
from ..settings import check_kind, check_positive, check_share

_LYCORIS = "Yeh et al., arXiv:2309.14859, as LyCORIS has it"


@dataclass(frozen=True)
class Method:
    """One method; parameters.METHODS says what it trains."""

    label: str  # what a reader calls it; ``{rank}`` and the like are filled from the options
    source: str  # who proposed it
    by_peft: bool = False  # whether it is an adapter of peft, saved and loaded as one
    channels_last: bool = True  # whether its weights may lie so in memory; peft's DoRA, BOFT and HRA cannot
    adds: bool = False  # whether it puts tensors of its own into the model, which a saved run needs before it is loaded


METHODS: dict[str, Method] = {
    "filter-subspace": Method("", "Chen, Miao and Qiu, arXiv:2403.00269", True),
    "linear": Method("linear probing", "-"),
    "full": Method("full tuning", "-"),
    "bitfit": Method("biases (BitFit)", "Ben Zaken, Ravfogel and Goldberg, arXiv:2106.10199"),
    "norm": Method("normalisation layers", "Frankle, Schwab and Morcos, arXiv:2003.00152"),
    "ssf": Method("scale and shift (SSF)", "Lian et al., arXiv:2210.08823", adds=True),
    "conv-adapter": Method(
        "Conv-Adapter, reduction {reduction}", "Chen, Tao, Zhang et al., arXiv:2208.07463", adds=True
    ),
    "lora": Method("LoRA r={rank}", "Hu et al., arXiv:2106.09685", True),
    "lora-loralib": Method("LoRA (loralib) r={rank}", "Hu et al., arXiv:2106.09685, as loralib has it", adds=True),
    "dora": Method("DoRA r={rank}", "Liu et al., arXiv:2402.09353", True, False),
    "loha": Method("LoHa r={rank}", "Hyeon-Woo et al., arXiv:2108.06098", True),
    "lokr": Method("LoKr r={rank}", "Yeh et al., arXiv:2309.14859", True),
    "oft": Method("OFT blocks of {oft_block}", "Qiu et al., arXiv:2306.07280", True),
    "boft": Method("BOFT blocks of {boft_block}", "Liu et al., arXiv:2311.06243", True, False),
    "adalora": Method("AdaLoRA r={rank}", "Zhang et al., arXiv:2303.10512", True),
    "tucker-lora": Method("Tucker LoRA r={rank}", _LYCORIS, adds=True),
    "tucker-loha": Method("Tucker LoHa r={rank}", _LYCORIS, adds=True),
    "tucker-lokr": Method("Tucker LoKr r={rank}", _LYCORIS, adds=True),
    "hra": Method("HRA r={rank}", "Yuan et al., arXiv:2405.17484", True, False),
    "hira": Method("HiRA r={rank}", "Huang et al., ICLR 2025", True),
    "ia3": Method("(IA)³", "Liu et al., arXiv:2205.05638", True),
}


@described
@dataclass(frozen=True)
class MethodOptions(UpdateFields, BaselineOptions):
    """Options of the baselines."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("adapter_scale", self.adapter_scale)
        check_share("update_dropout", self.update_dropout)


def check_method(name: str) -> None:
    check_name("method", name, METHODS)


def check_options(method: str, options: MethodOptions) -> None:
    """Raises FiltersubError where the options cannot be the method's."""
    check_kind("options", options, MethodOptions)
    if method == "hra" and options.rank % 2:
        raise FiltersubError(
            f"hra needs an even rank, got {options.rank}; its reflections start in equal pairs, which cancel each other"
        )
    if options.update_dropout and method not in MEANT_FOR["update_dropout"]:
        raise FiltersubError(
            f"update_dropout drops inputs of a layer's update, which {method} does not compute apart; it is for "
            f"{', '.join(MEANT_FOR['update_dropout'])}"
        )


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
