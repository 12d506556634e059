"""What is trained in a denoising network: nothing, filter atoms, LoRA, or everything."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from peft import LoraConfig, PeftConfig
from torch import nn

from ..decomposition import DecompositionConfig
from ..errors import FiltersubError
from ..kernels import compile_pattern
from ..methods.rank import check_rank
from ..settings import select_fields
from ..tuning import FilterSubspaceConfig
from .adapters import inject

METHODS = {
    "none": "nothing: the pretrained network as it is",
    "filter-subspace": "filter atoms",
    "lora": "low-rank updates (Hu et al., 2021)",
    "full": "every weight",
}
#: layers of a diffusers UNet by name. "convolutions" is the reading that meets the paper's 1.11 M (docs/parameters.md):
#: the convolutions of the blocks, those around the attention's input and output among them.
LAYERS = {
    "resnets": r".*resnets\.\d+\.conv[12]",
    "convolutions": r".*(resnets\.\d+\.conv[12]|samplers\.\d+\.conv|attentions\.\d+\.proj_(in|out))",
    "attention": r".*attn\d?\.(to_[qkv]|to_out\.0)|.*attentions\.\d+\.to_([qkv]|out\.0)|.*ff\.net\.(0\.proj|2)",
}
LAYERS["blocks"] = f"{LAYERS['convolutions']}|{LAYERS['attention']}|.*resnets\\.\\d+\\.(conv_shortcut|time_emb_proj)"
#: the paper's rates for Stable Diffusion (its section 5.4)
PAPER_RATES = {"none": 1e-3, "filter-subspace": 1e-3, "lora": 1e-3, "full": 5e-6}


@dataclass(frozen=True)
class MethodSettings:
    """A method with its size; the defaults are the paper's reading for Stable Diffusion but for the codes.

    Its 1.11 M (1,110,528) are those of sparse codes, such as the solver "lasso" finds. Linear codes ("pca", the
    default, 1,044,992) hold no coefficients and are found at once, but span fewer updates: alpha = F V has at most d
    independent columns, so a 4 x 4 blocked 1 x 1 kernel has 256 free dimensions where the 144 sparse atoms have 2,304.

    Attributes
    ----------
    method : one of METHODS
    atoms, block, block_spatial, expansion, solver, l1_penalty, seed : see DecompositionConfig
    rank : of LoRA
    layers : "resnets", "convolutions", "attention", "blocks", or a regular expression of full names. Default
        "convolutions" for atoms, "blocks" for LoRA.
    """

    method: str = "filter-subspace"
    atoms: int = 9
    block: int | None = 4
    block_spatial: bool = True
    expansion: int | None = None
    solver: str = "pca"
    l1_penalty: float = 1e-3
    rank: int = 16
    layers: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise FiltersubError(f"unknown method {self.method!r}; known: {', '.join(METHODS)}")
        if self.rank < 1:
            raise FiltersubError(f"the rank of LoRA must be at least 1, got {self.rank}")
        select_fields(self, DecompositionConfig)  # validates
        compile_pattern(self.pattern)

    @property
    def pattern(self) -> str:
        """The regular expression that the full name of a tuned layer matches."""
        default = "blocks" if self.method == "lora" else "convolutions"
        asked = default if self.layers is None else self.layers
        return LAYERS.get(asked, asked)

    @property
    def label(self) -> str:
        """What a reader calls the method."""
        if self.method in ("none", "full"):
            return {"none": "not tuned", "full": "full tuning"}[self.method]
        if self.method == "lora":
            return f"LoRA r={self.rank}"
        expanded = "" if self.expansion is None else f", m₁={self.expansion}"
        blocks = "" if self.block is None else f", {self.block}×{self.block} blocks"
        spatial = " of spatial kernels too" if self.block is not None and self.block_spatial else ""
        return f"atoms m={self.atoms}{expanded}{blocks}{spatial}"

    def config(self) -> PeftConfig:
        """peft's configuration of the adapter; only of atoms and LoRA."""
        if self.method == "lora":
            return LoraConfig(r=self.rank, lora_alpha=self.rank, target_modules=self.pattern)
        recipe = select_fields(self, DecompositionConfig)
        fields = ("atoms", "block", "block_spatial", "expansion", "solver", "l1_penalty", "seed")
        return FilterSubspaceConfig(target_modules=self.pattern, **{name: getattr(recipe, name) for name in fields})


@dataclass(frozen=True)
class Injected:
    """Parameters that train, parameters of the network, what the injection took (for atoms: the decomposition)."""

    trainable: int
    total: int
    seconds: float


def inject_method(unet: nn.Module, settings: MethodSettings, adapter: str = "default") -> Injected:
    """Freeze the network and make what the method trains trainable, in place.

    Raises FiltersubError when no layer matches, or none has the rank of LoRA.
    """
    total, began = sum(p.numel() for p in unet.parameters()), time.perf_counter()
    unet.requires_grad_(settings.method == "full")
    if settings.method == "lora":
        layers = ((name, layer.weight) for name, layer in unet.named_modules() if hasattr(layer, "weight"))
        matching = {name: tuple(w.shape) for name, w in layers if re.fullmatch(settings.pattern, name)}
        check_rank(settings.rank, matching)
    if settings.method in ("filter-subspace", "lora"):
        try:
            inject(unet, settings.config(), adapter)
        except ValueError as error:  # peft's own word for a pattern that matches nothing
            raise FiltersubError(str(error).splitlines()[0]) from None
    trainable = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    return Injected(trainable, total, time.perf_counter() - began)
