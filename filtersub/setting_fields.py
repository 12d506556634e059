"""Every setting of a decomposition and of a tuning run, once: its name, type, default and meaning.

Settings objects inherit the fields of a group and check them; larger ones hold such objects. The options of the command
line with their help, the fields in docstrings and docs/settings.md are made from the fields. A help page comes at once:
no torch is imported, and no methods are made for these dataclasses, which have no instances.
"""

import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")
#: solver -> what it solves: "penalty" (l1_penalty), "support" (n_nonzero or max_residual) or "linear"
SOLVERS: dict[str, str] = {
    **dict.fromkeys(("lasso", "fista", "ista", "spams", "spams-cd", "sklearn"), "penalty"),
    **dict.fromkeys(("mp", "omp", "ormp", "spams-omp"), "support"),
    **dict.fromkeys(("pca", "ridge"), "linear"),
}
#: solver of a decomposition -> kind of its coefficients: as above, or "random"
CODES: dict[str, str] = {**SOLVERS, "random": "random"}
#: how initial atoms are made, and how atoms are learned
INITS = ("rows", "pca", "kmeans++", "dct", "fourier-bessel")
LEARNERS = ("alternating", "ksvd", "approximate-ksvd", "online")
MAX_ROUNDS, TOL = 1000, 1e-5  # defaults of learn_dictionary and of every recipe
EXPANSION_COEFFICIENTS = ("shared", "per-channel")
EXPANSION_LAYERS = ("spatial", "all")
#: how the coefficients of expanded atoms start when they are tuned
EXPANSION_INITS = ("uniform", "fan-in-normal")
#: what can be tuned; parameters.METHODS says what each trains
METHODS = (
    *("filter-subspace", "linear", "full", "bitfit", "norm", "ssf", "conv-adapter", "lora", "lora-loralib", "dora"),
    *("loha", "lokr", "oft", "boft", "adalora", "tucker-lora", "tucker-loha", "tucker-lokr", "hra", "hira", "ia3"),
)
#: what can be tuned of a diffusion network. AdaLoRA hands its ranks on through peft's wrapper of a whole model, and a
#: pipeline keeps its own UNet
OF_GENERATION = (
    *("none", "full", "filter-subspace", "lora", "dora", "loha", "lokr", "oft", "boft", "hra", "hira", "ia3"),
    "lora-loralib",  # the paper's form of LoRA by both readings
)
_SEED = "Seed of all that is drawn: initial atoms, the head, the order of images, noise"
BATCH_NORM = ("adapted", "frozen", "updated", "recomputed")


def setting(default: Any, meaning: str, words: Sequence[str] = (), **on_command_line: Any) -> Any:
    """A field of a dataclass with its meaning, one phrase without a full stop, and the words that it may be.

    ``on_command_line`` are arguments of typer.Option, where its own choice is not the right one.
    """
    metadata = {"meaning": meaning, "words": tuple(words), "on_command_line": on_command_line}
    return field(default=default, metadata=metadata)


def again(kind: type, name: str, default: Any, meaning: str | None = None) -> Any:
    """A field of another dataclass under another default, and another meaning where one is given."""
    known = dict(kind.__dataclass_fields__[name].metadata)  # type: ignore[attr-defined]
    if meaning is not None:
        known |= {"meaning": meaning, "on_command_line": {}}
    return field(default=default, metadata=known)


def words_of(kind: type) -> dict[str, tuple[str, ...]]:
    """The words that each setting of a dataclass may be, for those that are one of a few."""
    found = {each.name: each.metadata.get("words") for each in fields(kind)}
    return {name: words for name, words in found.items() if words}


def help_of(setting: Field[Any]) -> str:
    """One line on a setting: its meaning, then the words that it may be."""
    *first, last = setting.metadata["words"] or ("",)
    words = f": {', '.join(first)} or {last}" if first else ""
    return f"{setting.metadata['meaning']}{words}"


def described(kind: type[T]) -> type[T]:
    """Adds the fields of a dataclass with their defaults and meanings to its docstring."""
    lines = ["", "Attributes", "----------"]
    for each in fields(getattr(kind, "FLAT", kind)):  # of settings in groups, see settings.Grouped
        if "meaning" in each.metadata:
            default = "" if each.default is MISSING else f", default {each.default!r}"
            words = each.type if isinstance(each.type, str) else inspect.formatannotation(each.type)
            lines.append(f"{each.name} : {words.replace('typing.', '')}{default}")
            indent = {"initial_indent": "    ", "subsequent_indent": "    ", "break_on_hyphens": False}
            lines += textwrap.wrap(help_of(each), 100, **indent)
    kind.__doc__ = "\n".join([inspect.cleandoc(kind.__doc__ or ""), *lines])
    return kind


@dataclass(frozen=True, init=False, repr=False, eq=False)
class RecipeFields:
    """The recipe of a decomposition."""

    atoms: int = setting(9, "Filter atoms m of a spatial kernel; a block of p x q channels gets m p q")
    block: int | tuple[int, int] | None = setting(
        None, "Channel block (input side first): 1x1 kernels and linear layers take part too", metavar="K_C|K_C',K_C"
    )
    block_spatial: bool = setting(False, "Block the channels of spatial kernels too")
    solver: str = setting("lasso", "Solver of the codes", CODES)
    l1_penalty: float = setting(1e-3, "l in 1/2 ||F - alpha D||^2 + l ||alpha||_1 (half the paper's lambda)")
    nonzeros: int | None = setting(None, "Largest support of a row, for pursuits; default a third of m")
    max_rounds: int = setting(MAX_ROUNDS, "Rounds of dictionary learning at most; 0 keeps the initial atoms")
    tol: float = setting(TOL, "Stop learning when rounds lower the objective by less than this")
    seed: int = setting(0, _SEED)
    nonnegative: bool = setting(False, "Coefficients that are never negative")
    init: str = setting("rows", "Initial atoms, by name or a file of them (atoms.safetensors)", INITS)
    learner: str = setting("alternating", "How atoms are learned", LEARNERS)
    expansion: int | tuple[int, ...] | None = setting(
        None, "m_1: atoms of each atom (setting 2); several numbers go deeper", metavar="M1[,M2...]"
    )
    expansion_coefficients: str = setting(
        "shared", "alpha_1, one for all or one an input channel", EXPANSION_COEFFICIENTS
    )
    expansion_layers: str = setting("spatial", "Layers whose atoms are expanded", EXPANSION_LAYERS)
    block_coefficients: bool = setting(False, "Block alpha (section 4.5) instead of the kernels")
    limit_atoms: bool = setting(
        True,
        "No more atoms than rows, and than patch entries for linear codes",
        param_decls=("--limit-atoms/--any-atoms",),
    )


@dataclass(frozen=True, init=False, repr=False, eq=False)
class StartFields:
    """What is tuned of a decomposition, and how its updates start."""

    expansion_init: str = setting(
        "uniform", "Start of d-alpha_1, Kaiming's or that of the authors' code", EXPANSION_INITS
    )
    init_scale: float = setting(1.0, "Factor > 0 on the start of d-alpha_1")
    overrides: dict[str, dict[str, Any]] | None = setting(  # noqa: RUF009
        None,
        "Settings of layers whose names match; several patterns may be given",
        param_decls=("--override",),
        metavar="REGEX:NAME=X,...",
    )
    train_coefficients: bool = setting(False, "Control: train alpha too")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class BaselineFields:
    """Sizes of the baselines."""

    rank: int = setting(16, "Rank of the lora methods, dora, loha, lokr, hra and hira")
    depthwise_rank: int | None = setting(None, "Rank of lora-loralib on depthwise convolutions; default the rank")
    oft_block: int = setting(32, "Block size of oft")
    boft_block: int = setting(4, "Block size of boft")
    reduction: int = setting(4, "Reduction of conv-adapter: channels in over channels between")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class UpdateFields:
    """Settings of the baselines' updates."""

    adapter_scale: float = setting(1.0, "Factor > 0 of low-rank updates (peft's alpha / r)")
    update_dropout: float = setting(0.0, "Dropout of the update's inputs, in [0, 1), for lora and its kin")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class OptimizationFields:
    """How steps are taken, whatever is trained for."""

    batch_size: int = setting(50, "Images a step, over all processes")
    accumulation: int = setting(1, "Parts a batch is computed in, to save memory; the same gradient")
    optimizer: str = setting("adamw", "Optimiser", ("adamw", "adam", "soap"))
    learning_rate: float = setting(1e-3, "Peak learning rate")
    weight_decay: float = setting(1e-4, "Weight decay")
    schedule: str = setting("cosine", "Of the rate after the warm-up", ("cosine", "constant"))
    min_rate: float = setting(0.0, "Learning rate at the end of the cosine")
    warmup_rate: float | None = setting(None, "Learning rate of the first step; default an even share of the peak")
    clip_norm: float | None = setting(None, "Largest norm of the gradient")
    ema_decay: float | None = setting(None, "Judge and keep averages of the weights with this decay, such as 0.99")
    ema_warmup: bool = setting(True, "Limit that decay at step t to t / (t + 10), of diffusion models to t / (t + 9)")
    mixed_precision: str = setting("auto", "Mixed precision", ("auto", "no", "bf16", "fp16"))
    seed: int = setting(0, _SEED)


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ClassificationFields:
    """How a classifier is trained beside that."""

    epochs: int = setting(8, "Passes over the training images")
    evaluation_interval: int = setting(1, "Epochs between evaluations; the last epoch is evaluated in any case")
    head_learning_rate: float | None = setting(None, "Peak learning rate of the new head")
    warmup_epochs: float = setting(1.0, "Epochs of linear warm-up")
    label_smoothing: float = setting(0.0, "Share of the target spread over all classes, in [0, 1)")
    mixup: float = setting(0.0, "Alpha of mixup's Beta distribution, such as 0.8; 0 is off")
    cutmix: float = setting(0.0, "Alpha of cutmix's Beta distribution, such as 1; 0 is off")
    patience: int | None = setting(None, "Epochs without a better validation accuracy, then stop")
    batch_norm: str = setting("recomputed", "What becomes of running statistics", BATCH_NORM)
    compile: str = setting("no", "Backend of torch.compile", ("no", "inductor", "aot_eager", "eager"))
    workers: int = setting(0, "Processes that read images; changes no result")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ModelFields:
    """What is tuned, on which images."""

    model: str = setting("efficientnet_lite0", "Architecture by name; efficientnet_lite0 has embedded weights")
    weights: str | None = setting(None, "Local file of weights for the architecture (safetensors or pth)")
    pretrained: bool = setting(True, "Pretrained weights, or random ones")
    data: str = setting("digits", "Data set by name, see `filtersub data list`")
    n_train: int | None = setting(None, "Train on so many images, every class alike")
    method: str = setting("filter-subspace", "What is trained", METHODS)


@dataclass(frozen=True, init=False, repr=False, eq=False)
class RunFields:
    """What belongs to a tuning run as a whole."""

    seed: int = setting(0, _SEED)
    layers: str | None = setting(None, "Only layers whose name this matches", metavar="REGEX")
    learning_rate: float | str | None = setting(None, "Peak, or 'choose' by validation; default the method's usual one")
    rates: tuple[float, ...] | None = setting(None, "Candidates of 'choose', such as 0.001,0.01")
    drop_path: float | None = setting(None, "Rate of stochastic depth in the last block; default the architecture's")
    head_dropout: float = setting(0.0, "Dropout before the head")
    image_size: int = setting(64, "Pixels a side that images are resized to")
    augmentation: str = setting("none", "Of the training images", ("none", "crop-flip", "randaugment", "timm"))
    judge_crop: float | None = setting(None, "Share of the image kept in its middle for judging, such as 0.875")
    validation: bool = setting(False, "Train on 800 of the training images, judge on the other 200")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class TuneFields(
    RunFields,
    ClassificationFields,
    OptimizationFields,
    UpdateFields,
    BaselineFields,
    StartFields,
    RecipeFields,
    ModelFields,
):
    """Everything that determines a tuning run."""

    head_learning_rate: float | None = setting(None, "Peak learning rate of the new head; default 3e-3")
    batch_norm: str | None = again(
        ClassificationFields, "batch_norm", None, "Its statistics (default frozen; random weights: recomputed)"
    )


@dataclass(frozen=True, init=False, repr=False, eq=False)
class DenoisingFields(OptimizationFields):
    """How a denoising network is trained: the paper's AdamW and rate by default."""

    batch_size: int = again(OptimizationFields, "batch_size", 8)
    weight_decay: float = again(OptimizationFields, "weight_decay", 1e-2)
    schedule: str = again(OptimizationFields, "schedule", "constant")
    clip_norm: float | None = again(OptimizationFields, "clip_norm", 1.0)
    steps: int = setting(5000, "Steps of the optimiser")
    warmup_steps: int = setting(0, "Steps of linear warm-up")
    condition_dropout: float = setting(0.0, "Share of prompts left empty, for classifier-free guidance")
    flip: bool = setting(False, "Mirror half of the images")
    gradient_checkpointing: bool = setting(
        False, "Recompute activations in the backward pass: less memory, about a third more time"
    )
    checkpoint_every: int = setting(500, "Steps between two checkpoints")
    preview_every: int = setting(0, "Steps between two grids of samples; 0 for none")


@dataclass(frozen=True, init=False, repr=False, eq=False)
class MethodFields:
    """A method of generation with its size."""

    method: str = setting("filter-subspace", "What is trained", OF_GENERATION)
    atoms: int = again(RecipeFields, "atoms", 9)
    block: int | None = again(RecipeFields, "block", 4, "Channel block k_c; 0 for none")
    block_spatial: bool = again(RecipeFields, "block_spatial", True)
    limit_atoms: bool = again(RecipeFields, "limit_atoms", True, "No more atoms than a layer has rows")
    expansion: int | None = again(RecipeFields, "expansion", None, "m_1: atoms of each atom")
    solver: str = again(RecipeFields, "solver", "pca")
    l1_penalty: float = again(RecipeFields, "l1_penalty", 1e-3)
    rank: int = again(BaselineFields, "rank", 16)
    layers: str | None = again(
        TuneFields,
        "layers",
        None,
        "resnets, convolutions (default for atoms), attention, blocks (for the others), or a regular expression",
    )
    seed: int = again(RecipeFields, "seed", 0)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DrawingFields:
    """What Stable Diffusion is tuned on, and what it then draws."""

    pipeline: str = setting(MISSING, "Folder of a Stable Diffusion pipeline, or a name in the hub's cache")
    data: str = setting(MISSING, "Folder of images: one folder a class, or metadata.jsonl")
    template: str = setting("a photo of a {}", "Prompts from class names, one {} for the name")
    image_size: int = setting(256, "Pixels a side")
    images: int = setting(20000, "Images drawn and compared, 16 at least; 0 for a grid alone")
    reference_images: int = setting(20000, "Real images that they are compared with, at most")
    sampling_steps: int = setting(50, "Steps of the sampler, for each image")
    guidance: float = setting(7.5, "Weight of the prompt; 1 is none")
    sampling_batch: int = setting(8, "Images drawn at once")
    features: str = setting("inception", "inception (FID), a folder of a CLIP or DINO model of transformers, or none")
    feature_weights: str | None = setting(None, "File of the Inception weights; default torch's cache of downloads")


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DiffusionFields(DrawingFields, MethodFields, DenoisingFields):
    """A run on Stable Diffusion: the paper's values (its section 5.4), where it says."""

    learning_rate: float | None = again(
        OptimizationFields, "learning_rate", None, "Peak learning rate; default the paper's: 1e-3, full tuning 5e-6"
    )
    condition_dropout: float = again(DenoisingFields, "condition_dropout", 0.1)
    preview_every: int = again(DenoisingFields, "preview_every", 1000)
