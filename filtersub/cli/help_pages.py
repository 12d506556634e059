"""The layout of help pages: the options asked for most often first, the rest in titled groups, examples last."""

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from typer.core import TyperCommand, TyperGroup

from ..former_names import with_options_of_today
from ..settings import check_digits

#: By command, the options that stand first, in this order; a command with few options needs no entry.
FIRST = {
    "decompose": ("atoms", "block", "solver", "l1_penalty", "max_error", "layers", "weights", "out", "as_json", "seed"),
    "count": ("method", "atoms", "expansion", "block", "layers", "classes", "compare", "cost", "preset", "as_json"),
    "suggest": ("budget", "data", "weights", "pretrained", "layers", "top", "by_layer", "out", "as_json"),
    "tune": ("out", "data", "method", "atoms", "expansion", "block", "epochs", "learning_rate", "recipe", "seed"),
    "generate-tune": ("data", "out", "method", "atoms", "block", "rank", "steps", "learning_rate", "images", "seed"),
}

#: Title: options, in the order of the page. A name means the same in every command. Options with a --no- form stand
#: apart from long names: their column would leave these no room at 80 columns.
GROUPS = {
    "Atoms and coefficients": (
        *("solver", "l1_penalty", "nonzeros", "nonnegative", "expansion", "expansion_coefficients", "expansion_layers"),
        *("expansion_init", "init_scale", "block_spatial", "block_coefficients", "overrides"),
        *("train_coefficients", "layers", "decomposition", "config"),
    ),
    "Learning of the dictionary": ("init", "learner", "max_rounds", "tol", "limit_atoms"),
    "Errors and shared dictionaries": ("max_error_per", "shared_dictionary", "shared_layers", "compare_own"),
    "Baselines": ("rank", "depthwise_rank", "adapter_scale", "update_dropout", "oft_block", "boft_block", "reduction"),
    "Model and weights": ("weights", "weight_layout", "pretrained"),
    "Images": (
        *("n_train", "images", "image_size", "template", "augmentation", "judge_crop", "validation", "flip", "workers"),
    ),
    "Training": (
        *("batch_size", "accumulation", "optimizer", "rates", "head_learning_rate", "weight_decay", "schedule"),
        *("min_rate", "warmup_epochs", "warmup_steps", "warmup_rate", "clip_norm"),
        *("evaluation_interval", "patience", "batch_norm", "mixed_precision", "compile", "gradient_checkpointing"),
        "checkpoint_every",
    ),
    "Regularisation": (
        *("label_smoothing", "mixup", "cutmix", "drop_path", "head_dropout", "condition_dropout", "ema_decay"),
        "ema_warmup",
    ),
    "Samples and their distance": (
        *("preview_every", "reference_images", "sampling_steps", "guidance", "sampling_batch", "features"),
        "feature_weights",
    ),
    "Runs of the paper": ("paper", "reading"),
    "Output": ("atoms_only", "resume", "every_layer", "check", "log_with", "tensorboard", "as_json", "as_csv"),
}

EXAMPLES = {
    "decompose": (
        "filtersub decompose efficientnet_lite0 --atoms 9",
        "filtersub decompose efficientnet_lite0 --max-error 0.1 --out runs/atoms",
        "filtersub decompose efficientnet_lite0 --block 4 --solver pca --json",
    ),
    "count": (
        "filtersub count resnet50 --atoms 9 --block 4",
        "filtersub count resnet50 --block 4 --compare",
        "filtersub count --preset all",
    ),
    "suggest": (
        "filtersub suggest efficientnet_lite0 --budget 15k",
        "filtersub suggest efficientnet_lite0 --budget 0.5% --by-layer --out chosen.yaml",
    ),
    "tune": (
        "filtersub tune efficientnet_lite0 --out runs/atoms",
        "filtersub tune efficientnet_lite0 --method lora --rank 8 --out runs/lora",
        "filtersub tune efficientnet_lite0 --atoms 9 --expansion 4 --learning-rate choose --out runs/chosen",
        "filtersub tune --paper figure4/setting-2 --weights resnet50.pth --out runs/paper",
    ),
    "ablate": (
        "filtersub ablate quickstart --out reports/quickstart",
        "filtersub ablate my.yaml --out reports/my --dry-run",
        "filtersub ablate my.yaml --out reports/my --workers 4",
    ),
    "report": (
        "filtersub report reports/quickstart",
        "filtersub report here there --out both",
        "filtersub report reports/now --against reports/before",
    ),
    "new": ("filtersub new birds", "filtersub new birds --model resnet18 --data folder:photos"),
    "paper": ("filtersub paper", "filtersub paper --part figure4 --reading authors"),
    "check-notebook": ("filtersub check-notebook mine.ipynb", "filtersub check-notebook notebooks/02_tuning.ipynb"),
    "generate-tune": (
        "filtersub generate-tune stable-diffusion --data flowers --out runs/flowers",
        "filtersub generate-tune stable-diffusion --data flowers --method lora --rank 16 --out runs/lora",
    ),
    "generate": ("filtersub generate stable-diffusion --prompts prompts.txt --adapter runs/flowers --out images",),
    "distance": ("filtersub distance flowers images", "filtersub distance flowers images --features clip --json"),
    "compile-kernels": ("filtersub compile-kernels",),
    "list": ("filtersub data list", "filtersub data list --obtain"),
    "check": ("filtersub data check digits", "filtersub data check folder:birds"),
}


class PlainText:
    """For a command or group of typer: passes None and text on, for which typer would import pydantic.

    That is half the time of a short command.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        """As typer's; each parameter passes None and text on."""
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for each in parameters:
            each.process_value = partial(_process, each)
        return parameters


def _process(parameter: Any, ctx: Any, value: Any) -> Any:
    """A parameter's value from what stands on the command line, as typer's ``process_value``."""
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)  # typer before 0.27 has none
    if value is None:
        unchanged = not parameter.required and parameter.nargs == 1 and not parameter.multiple
    elif kind == list[str]:
        unchanged = bool(value) and isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
    else:
        unchanged = kind is str and isinstance(value, str)
    if not unchanged:
        return type(parameter).process_value(parameter, ctx, value)
    return value if parameter.callback is None else parameter.callback(ctx, parameter, value)


class Subgroup(PlainText, TyperGroup):
    """Commands below a command, such as those of ``filtersub data``."""


class Command(PlainText, TyperCommand):
    """A command whose options are sorted into FIRST and GROUPS, with its examples at the end of its page."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        first = FIRST.get(self.name or "", ())
        places = {name: (title, place) for title, names in GROUPS.items() for place, name in enumerate(names)}
        titles = list(GROUPS)

        def place(parameter: Any) -> tuple[int, int]:
            if parameter.param_type_name == "argument" or not first:
                return -2, 0
            if parameter.name in first:
                return -1, first.index(parameter.name)
            if parameter.name not in places:
                return -1, len(first)
            title, number = places[parameter.name]
            parameter.rich_help_panel = title
            return titles.index(title), number

        self.params.sort(key=place)
        if examples := EXAMPLES.get(self.name or ""):
            self.epilog = "\n\n".join(["Examples:", *examples])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Options under their names of before are taken, with a note on the error stream."""
        args, notes = with_options_of_today(args)
        for note in notes:
            sys.stderr.write(f"filtersub: {note}\n")
        given = list(args)
        left = super().parse_args(ctx, args)
        names = {option: parameter.name for parameter in self.params for option in parameter.opts}
        for option, text in option_values(given):
            value = ctx.params.get(names.get(option) or "")
            if isinstance(value, int | float) and not isinstance(value, bool):
                check_digits(option, text)  # a number that Python reads and few people mean
        return left


def option_values(words: Sequence[str]) -> list[tuple[str, str]]:
    """Each word of a command line before its ``=``, with what stands behind that, else with the next word."""
    found = []
    for word, following in zip(words, [*words, ""][1:], strict=True):
        option, mark, text = word.partition("=")
        found.append((option, text if mark else following))
    return found
