"""What a run of generation is made of: a method, a training, images or latents, and how many images are drawn.

No torch is imported: a report reads records with these settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..decomposition.recipe import DecompositionConfig
from ..errors import FiltersubError, check_name
from ..kernel_layout import compile_pattern
from ..methods.options import METHODS, MethodOptions
from ..setting_fields import OF_GENERATION as NAMES
from ..setting_fields import DenoisingFields, MethodFields, described
from ..settings import Grouped, check_types, check_whole
from ..training.config import OptimizationConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

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
@dataclass(frozen=True, init=False, repr=False)
class MethodSettings(Grouped, flat=(MethodFields,)):
    """A method with its size; the defaults are the paper's reading for Stable Diffusion but for the codes.

    Its 1.11 M (1,110,528) are those of sparse codes, such as the solver "lasso" finds. Linear codes ("pca", the
    default, 1,044,992) hold no coefficients and are found at once, but span fewer updates: alpha = F V has at most d
    independent columns, so a 4 x 4 blocked 1 x 1 kernel has 256 free dimensions where the 144 sparse atoms have 2,304.
    """

    method: str
    layers: str | None
    seed: int
    recipe: DecompositionConfig
    options: MethodOptions

    def _derived(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        check_name("method", self.method, NAMES)
        compile_pattern(self.pattern)
        return {}

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
        recipe = self.recipe
        expanded = "" if recipe.expansion is None else f", m₁={recipe.expansion}"
        blocks = "" if recipe.block is None else f", {recipe.block}×{recipe.block} blocks"
        spatial = " of spatial kernels too" if recipe.block is not None and recipe.block_spatial else ""
        unlimited = "" if recipe.limit_atoms else ", limit atoms False"
        return f"atoms m={recipe.atoms}{expanded}{blocks}{spatial}{unlimited}"


@described
@dataclass(frozen=True)
class DenoisingConfig(DenoisingFields, OptimizationConfig):
    """How a denoising network is trained, beside OptimizationConfig, here with the paper's AdamW and rate by default.

    ``condition_dropout`` is for guidance as in Ho and Salimans (2022). At step t ``ema_decay`` is at most t / (t + 9),
    as in diffusers: 0.957 after 200 steps. ``preview_every`` steps lie between two calls of on_preview.
    """

    EMA_LAG: ClassVar[int] = 9
    WARMUP: ClassVar[str] = "warmup_steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "checkpoint_every"):
            check_whole(name, getattr(self, name), 1)
        for name in ("warmup_steps", "preview_every"):
            check_whole(name, getattr(self, name), 0)
        check_whole("seed", self.seed, 0, 2**31 - 1)  # a generator's seed holds it beside the step's number
        if not 0 <= self.condition_dropout <= 1:
            raise FiltersubError(f"condition_dropout must be in 0..1, got {self.condition_dropout}")
        if self.batch_size % self.accumulation:
            raise FiltersubError(f"a batch of {self.batch_size} cannot be split into {self.accumulation} equal parts")

    @property
    def identity(self) -> dict[str, Any]:
        # the length of a run and what it shows do not change its steps: a longer one may go on from a shorter one
        free = ("checkpoint_every", "preview_every", *(("steps",) if self.schedule == "constant" else ()))
        return {name: value for name, value in asdict(self).items() if name not in free}


@dataclass(frozen=True)
class DenoisingSet:
    """What is denoised: images or latents, with prompts where there are any.

    Attributes
    ----------
    means : float (n, c, h, w), scaled as the network expects
    deviations : of the posterior that latents are drawn from, like means, or None: the means themselves
    prompts : int64 (n,), places in ``embeddings``; None for an unconditional network
    embeddings : (k, length, width) of the distinct prompts; the first is the empty prompt
    """

    means: Tensor
    deviations: Tensor | None = None
    prompts: Tensor | None = None
    embeddings: Tensor | None = None

    def __len__(self) -> int:
        return len(self.means)

    def to(self, device: torch.device) -> DenoisingSet:
        return DenoisingSet(*(None if part is None else part.to(device) for part in vars(self).values()))


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class GenerationFields:
    """What a run of generation has beside its method and its training."""

    learning_rate: float | None = None
    images: int
    sampling_steps: int


@dataclass(frozen=True, kw_only=True, init=False, repr=False)
class GenerationSettings(MethodSettings, flat=(GenerationFields, MethodFields, DenoisingFields)):
    """MethodSettings, DenoisingConfig, and beside them:

    Attributes
    ----------
    learning_rate : None takes the method's usual one
    images : drawn and compared; sampling_steps : of the sampler, for each image
    """

    training: DenoisingConfig
    images: int
    sampling_steps: int

    def _derived(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        found = super()._derived(flat)
        check_types(self)
        return found if flat["learning_rate"] is not None else {**found, "learning_rate": self._usual_rate(flat)}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("images", self.images, 0)

    def _usual_rate(self, flat: Mapping[str, Any]) -> float:
        """The paper's."""
        return PAPER_RATES[self.method]

    @property
    def label(self) -> str:
        """What a reader calls the run, without its seed."""
        return f"{super().label}, SOAP" if self.training.optimizer == "soap" else super().label
