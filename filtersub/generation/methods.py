"""What is trained in a denoising network: nothing, everything, or what an adapter of peft adds; ``methods`` does it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from accelerate.utils import set_seed
from torch import nn

from ..decomposition import DecompositionConfig
from ..errors import FiltersubError
from ..kernels import compile_pattern
from ..methods import METHODS, Injected, MethodOptions, inject
from ..setting_fields import OF_GENERATION as NAMES
from ..setting_fields import MethodFields, described
from ..settings import select_fields
from .tuned import mark_injected

#: layers of a diffusers UNet by name. "convolutions" is the reading that meets the paper's 1.11 M (docs/parameters.md):
#: the convolutions of the blocks, those around the attention's input and output among them.
LAYERS = {
    "resnets": r".*resnets\.\d+\.conv[12]",
    "convolutions": r".*(resnets\.\d+\.conv[12]|samplers\.\d+\.conv|attentions\.\d+\.proj_(in|out))",
    "attention": r".*attn\d?\.(to_[qkv]|to_out\.0)|.*attentions\.\d+\.to_([qkv]|out\.0)|.*ff\.net\.(0\.proj|2)",
}
LAYERS["blocks"] = f"{LAYERS['convolutions']}|{LAYERS['attention']}|.*resnets\\.\\d+\\.(conv_shortcut|time_emb_proj)"
#: the paper's rates for Stable Diffusion (its section 5.4): of full tuning, and of LoRA and atoms, which others take
PAPER_RATES = {**dict.fromkeys(NAMES, 1e-3), "full": 5e-6}


@described
@dataclass(frozen=True)
class MethodSettings(MethodFields):
    """A method with its size; the defaults are the paper's reading for Stable Diffusion but for the codes.

    Its 1.11 M (1,110,528) are those of sparse codes, such as the solver "lasso" finds. Linear codes ("pca", the
    default, 1,044,992) hold no coefficients and are found at once, but span fewer updates: alpha = F V has at most d
    independent columns, so a 4 x 4 blocked 1 x 1 kernel has 256 free dimensions where the 144 sparse atoms have 2,304.
    """

    def __post_init__(self) -> None:
        if self.method not in NAMES:
            raise FiltersubError(f"unknown method {self.method!r}; known: {', '.join(NAMES)}")
        _ = self.recipe, self.options  # validates
        compile_pattern(self.pattern)

    @property
    def recipe(self) -> DecompositionConfig:
        return select_fields(self, DecompositionConfig)

    @property
    def options(self) -> MethodOptions:
        return select_fields(self, MethodOptions)

    @property
    def pattern(self) -> str:
        """The regular expression that the full name of a tuned layer matches."""
        default = "convolutions" if self.method in ("none", "full", "filter-subspace") else "blocks"
        asked = default if self.layers is None else self.layers
        return LAYERS.get(asked, asked)

    @property
    def label(self) -> str:
        """What a reader calls the method."""
        if self.method == "none":
            return "not tuned"
        if self.method != "filter-subspace":
            return METHODS[self.method].label.format(**asdict(self.options))
        expanded = "" if self.expansion is None else f", m₁={self.expansion}"
        blocks = "" if self.block is None else f", {self.block}×{self.block} blocks"
        spatial = " of spatial kernels too" if self.block is not None and self.block_spatial else ""
        unlimited = "" if self.limit_atoms else ", limit atoms False"
        return f"atoms m={self.atoms}{expanded}{blocks}{spatial}{unlimited}"


def inject_method(unet: nn.Module, settings: MethodSettings) -> Injected:
    """Freeze the network and make what the method trains trainable, in place; initial updates follow the seed.

    Raises FiltersubError when no layer matches, or none has the rank of a low-rank method.
    """
    set_seed(settings.seed)
    unet.requires_grad_(settings.method == "full")
    if settings.method == "none":
        return Injected(unet, total=sum(p.numel() for p in unet.parameters()))
    chosen = {"recipe": settings.recipe, "options": settings.options, "layers": f"^(?:{settings.pattern})$"}
    found = inject(unet, settings.method, None, **chosen)
    if settings.method != "full":
        mark_injected(unet)
    return found
