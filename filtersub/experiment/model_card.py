"""The README.md of a saved adapter: what it was made of, what it reached, how it is loaded."""

import re
from pathlib import Path

from ..data import n_classes
from ..markup import markdown_text
from ..methods import METHODS
from ..percentages import percentage
from ..records import Record
from .settings import TuneSettings

CARD_FILE = "README.md"
_HEAD = """---
library_name: peft
tags:
- filtersub
- image-classification
---

"""


_BY_FILTERSUB = (
    'from filtersub.experiment.tuned import load_tuned\n\nmodel, images, settings = load_tuned("FOLDER OF THE RUN")'
)
_COMPLETE = "Running statistics of batch norm that training moved are part of the adapter."
_AS_BEFORE = "Batch norm keeps the statistics of the base model; the adapter has none of its own."
_INCOMPLETE = (
    "Running statistics of batch norm that training moved lie in `statistics.safetensors` beside the adapter, since "
    "peft would confuse the names of their layers with others; peft alone loads another model than was judged."
)


def model_card(
    record: Record, settings: TuneSettings, mean: tuple[float, ...], std: tuple[float, ...], *, complete: bool = True
) -> str:
    """Markdown of one adapter; everything that a user has named is escaped. ``mean`` and ``std`` are of the images, by
    channel. An adapter that is not ``complete`` lacks batch norm's statistics, and is loaded another way.
    """
    counts, judged = record.counts, record.environment["judged_on"]
    images = f"{settings.image_size} x {settings.image_size} pixels, mean {_numbers(mean)}, standard deviation "
    rows = [
        ("base model", settings.model),
        ("base weights", _weights(settings)),
        ("method", f"{record.label} ({METHODS[settings.method].source})"),
        *_sizes(settings),
        ("trained parameters", f"{counts['trainable']:,}, and {counts['head']:,} in the head"),
        ("parameters of the base model", f"{counts['total']:,}"),
        ("data", f"{settings.data}, {n_classes(settings.data)} classes"),
        (f"accuracy on the {judged} images", percentage(record.metrics[f"{judged}_accuracy"], 2)),
        ("images", images + _numbers(std)),
        ("epochs", settings.training.epochs),
        ("learning rate", _rates(record, settings)),
        ("batch norm", settings.training.batch_norm),
        ("seed", settings.seed),
        *((name, value) for name, value in record.environment["versions"].items() if value),
    ]
    table = "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {markdown_text(value)} |" for name, value in rows)])
    code = _loading(settings) if complete else _BY_FILTERSUB
    stay = settings.training.batch_norm == "frozen"
    note = _INCOMPLETE if not complete else _AS_BEFORE if stay else _COMPLETE
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return (
        f"{_HEAD}# {markdown_text(record.label)} of {markdown_text(settings.model)}\n\n{table}\n\n## Load\n\n"
        f"{fence}python\n{code}\n{fence}\n\n{note}\n"
    )


def _weights(settings: TuneSettings) -> str:
    if settings.weights is not None:
        return f"the file {Path(settings.weights).name}"
    return "pretrained" if settings.pretrained else f"random, of seed {settings.seed}"


def _rates(record: Record, settings: TuneSettings) -> str:
    """The peaks that were trained with; one that validation images chose is in the record's choices."""
    chosen = record.choices.get("learning_rate", {}).get("chosen")
    used = settings if chosen is None else settings.with_rate(chosen)
    return f"{used.training.learning_rate:g}, of the head {used.training.head_learning_rate:g}"


def _sizes(settings: TuneSettings) -> list[tuple[str, object]]:
    if settings.method != "filter-subspace":
        return []
    recipe = settings.recipe
    named = {"m": recipe.atoms, "m₁": recipe.expansion, "k_c": recipe.block, "solver": recipe.solver}
    return [(name, value) for name, value in named.items() if value is not None]


def _loading(settings: TuneSettings) -> str:
    """Python that gives the judged model from the folder of this card."""
    named = [repr(settings.model), f"num_classes={n_classes(settings.data)}"]
    if settings.weights is not None:
        named.append(f"weights={Path(settings.weights).name!r}")
    elif not settings.pretrained:
        named.append("pretrained=False")
    seed = "" if settings.weights or settings.pretrained else f"torch.manual_seed({settings.seed})\n"
    ours = "FilterSubspaceConfig, load_model" if settings.method == "filter-subspace" else "load_model"
    note = "  # the import makes the method known to peft" if settings.method == "filter-subspace" else ""
    return (
        f"{'import torch' + chr(10) if seed else ''}from peft import PeftModel\nfrom filtersub import {ours}{note}\n\n"
        f"{seed}base = load_model({', '.join(named)})\n"
        'model = PeftModel.from_pretrained(base, "FOLDER OF THIS FILE").eval()'
    )


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
