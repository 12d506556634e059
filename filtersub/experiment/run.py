"""One run from settings to record: load, decompose, inject, train, judge, save, write down."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from ..data import ImageSplit, load_data, usable_source
from ..decomposition.cache import cache_for, using
from ..errors import FiltersubError, LossNotFinite, reason
from ..files import make_folder, write_text
from ..folder_lock import locks
from ..methods import METHODS, Injected, inject
from ..models import add_head_dropout_, head_name, input_statistics, trains_channels_last
from ..parameters import ParameterCount, count_trained
from ..processes import keep_to_quota
from ..progress import progress_bar
from ..records import DATA_NOTE, DUPLICATES_NOTE, OPTIMIZER_NOTE, RECORD_FILE, Record, describe_environment, read_record
from ..settings import UsualNumber, check_kind, difference
from ..training import CHECKPOINT_FILE, TrainingResult, check_checkpoint, fit
from ..training.accelerator import processes
from ..training.batch_norm import averaging_norms
from ..training.classification import check_shares
from .layer_tables import layer_tables
from .log import PROGRESS_FILE, TrainingLog, chosen_trackers, tracking
from .model_card import CARD_FILE, model_card
from .saved_weights import ADAPTER_FOLDER, STATISTICS_FILE, save_trained, saved_size
from .settings import CHOOSE, TuneSettings, settings_from
from .step_cost import step_flops
from .tuned import images_of, new_model

DECOMPOSITION_FOLDER = "decomposition.part"  # of layers that are decomposed, until the run is finished
_CHOICE_FOLDER = "choice"  # of the runs at each learning rate that is tried
_QUIET_SECONDS = 10  # between two lines about layers where there is no terminal to draw a bar on


@locks("out")
def tune(
    settings: TuneSettings,
    out: str | os.PathLike[str],
    *,
    quiet: bool = False,
    log_with: str | Iterable[str] | None = None,
    change: Callable[[nn.Module], None] | None = None,
) -> Record:
    """Tune a model and write its record, curves, confusion counts and trained weights into the folder ``out``.

    A finished run of the same settings is read back at once; an interrupted one, killed at whatever moment, goes on
    after its last whole epoch, or after the last layer that was decomposed. Under ``accelerate launch`` each process
    takes its share of every batch, and the first writes.
    With ``learning_rate="choose"`` the candidates' runs lie in ``out``/choice.
    ``log_with`` names trackers such as tensorboard, wandb and mlflow; None takes those of FILTERSUB_LOG_WITH.
    ``change`` alters the model in place between the injection of the method and the training; the record and what is
    saved know nothing of it.
    Raises FiltersubError on bad settings, or when ``out`` holds a run of other settings or cannot be written.
    """
    check_kind("settings", settings, TuneSettings)
    keep_to_quota()
    folder, state = make_folder(out), processes()
    quiet = quiet or not state.is_main_process
    finished = _finished(folder, settings)
    state.wait_for_everyone()
    if finished is not None:
        _say(quiet, f"{folder} holds this run already; nothing to train")
        return finished
    usable_source(settings.data)  # before minutes of decomposition
    trackers = chosen_trackers(log_with)
    began = time.perf_counter()
    tried = _tried_rates(settings, folder, quiet, change) if settings.learning_rate == CHOOSE else {}
    used = settings.with_rate(_best_rate(tried)) if tried else settings
    check_checkpoint(folder, used.training, used.parameters)
    check_shares(used.training, state.num_processes)
    set_seed(settings.seed)
    base = new_model(used, drop_path=used.drop_path)
    if remark := rate_remark(base, used):
        _say(quiet, remark)
    augmented = {"augmentation": used.augmentation, "augmentation_seed": used.seed}
    split = images_of(used, *input_statistics(base), **augmented)
    first, _ = split.train[0]
    try_image(base, first, split.n_classes, used.model)
    prepared = _prepared(base, used, folder, quiet)
    model = prepared.injected.model
    if change is not None:
        change(model)
    training = used.training
    channels_last = training.channels_last and trains_channels_last(model, state.device)
    on_cpu = state.device.type == "cpu" and channels_last and training.precision == "no"
    flops = step_flops(model, tuple(first.shape), training.batch_size, training.batch_norm, on_cpu=on_cpu)
    logged = {**used.parameters, "trained_parameters": prepared.count.trainable}
    of_log = settings.label, settings.training.epochs, split.judged_on
    with (
        tracking(trackers, folder, settings.label, logged) as track,
        TrainingLog(folder, *of_log, quiet=quiet, track=track) as log,
    ):
        result = fit(
            model,
            split.train,
            split.judged,
            split.n_classes,
            used.training,
            head=prepared.head,
            judged_on=split.judged_on,
            folder=folder,
            settings=used.parameters,
            on_epoch=log.on_epoch,
            on_step=log.on_step,
        )
    if state.is_main_process:
        seconds = time.perf_counter() - began
        _write(settings, prepared, split, result, folder, {"wall_seconds": seconds, "step_flops": flops}, tried)
    state.wait_for_everyone()
    return read_record(folder)


def rate_remark(model: nn.Module, settings: TuneSettings) -> str:
    """A line on a usual rate that was chosen on networks with batch norm, for one without; empty elsewhere."""
    if not isinstance(settings.learning_rate, UsualNumber) or averaging_norms(model) or settings.method == "linear":
        return ""
    return (
        f"{settings.model} has no batch norm, and the usual learning rate {settings.learning_rate:g} was chosen on a "
        "network that has: --learning-rate choose tries others (docs/training.md, networks without batch norm)"
    )


def _finished(folder: Path, settings: TuneSettings) -> Record | None:
    if not (folder / RECORD_FILE).exists():
        return None
    record = read_record(folder)
    if record.kind != "tuning":
        raise FiltersubError(f"{folder} holds the record of another run ({record.kind}); choose another output folder")
    theirs = settings_from(record.parameters, str(folder / RECORD_FILE))
    if theirs != settings:
        of = difference(theirs.parameters, settings.parameters)
        raise FiltersubError(f"{folder} holds the record of another run{of}; choose another output folder")
    return record


def _tried_rates(
    settings: TuneSettings, folder: Path, quiet: bool, change: Callable[[nn.Module], None] | None
) -> dict[float, float | None]:
    """Validation accuracy by learning rate, as VTAB-1k chooses rates: each candidate trains on 800 images and is judged
    on 200; None where the loss was not finite. Finished ones are read back, as any run is.

    Reference: Zhai et al., "The visual task adaptation benchmark", arXiv:1910.04867.
    """
    # a broken test image would come up after all candidates
    load_data(settings.data, size=settings.image_size, n_train=settings.n_train)
    tried: dict[float, float | None] = {}
    with using(cache_for(folder / DECOMPOSITION_FOLDER)):  # the candidates and the run itself decompose once
        for rate in settings.candidate_rates:
            _say(quiet, f"learning rate {rate:g}, judged on validation images")
            candidate = replace(settings.with_rate(rate), validation=True)
            try:
                record = tune(candidate, folder / _CHOICE_FOLDER / f"{rate:g}", quiet=quiet, change=change)
                tried[rate] = record.metrics["validation_accuracy"]
            except LossNotFinite:
                tried[rate] = None
    return tried


def _best_rate(tried: Mapping[float, float | None]) -> float:
    """The rate of the highest accuracy; of equal ones the lowest. FiltersubError where no rate trained at all."""
    accuracies = {rate: value for rate, value in tried.items() if value is not None}
    if not accuracies:
        rates = ", ".join(f"{rate:g}" for rate in tried)
        raise FiltersubError(f"no learning rate of {rates} trained to the end; give lower ones")
    return min(accuracies, key=lambda rate: (-accuracies[rate], rate))


@dataclass(frozen=True)
class _Prepared:
    """A model with the method injected, the name of its head, its parameter counts, its images' mean and std."""

    injected: Injected
    head: str
    count: ParameterCount
    statistics: tuple[tuple[float, ...], tuple[float, ...]]


def _prepared(model: nn.Module, settings: TuneSettings, folder: Path, quiet: bool) -> _Prepared:
    head = head_name(model)
    if head is None:
        raise FiltersubError(f"{settings.model} has no classification head that could be trained")
    add_head_dropout_(model, head, settings.head_dropout)
    statistics = input_statistics(model)
    with progress_bar() as bar:
        injected = inject(
            model,
            settings.method,
            head,
            recipe=settings.recipe,
            options=settings.options,
            layers=settings.layers,
            save_batch_norm=settings.training.batch_norm != "frozen",
            keep_in=folder / DECOMPOSITION_FOLDER,
            on_layer=None if quiet else _layer_lines(bar),
            **vars(settings.start),
        )
    count = count_trained(injected.model, head, settings.model, settings.method, injected.total)
    return _Prepared(injected, head, count, statistics)


def _write(
    settings: TuneSettings,
    prepared: _Prepared,
    split: ImageSplit,
    result: TrainingResult,
    folder: Path,
    cost: dict[str, Any],
    tried: Mapping[float, float | None],
) -> None:
    """What was trained, its card, the tables, and last the record, which stands for all of it."""
    injected, model = prepared.injected, prepared.injected.model
    save_trained(model, settings, folder)
    saved_numbers, saved_bytes = saved_size(folder)
    kept = result.history[result.kept_epoch - 1]
    cost = {
        **cost,
        "seconds_per_step": result.seconds_per_step,
        "peak_memory_bytes": result.peak_memory_bytes,
        "added_memory_bytes": result.added_memory_bytes,
        "saved_bytes": saved_bytes,
        **injected.cost,
    }
    choices = {}
    if tried:
        candidates = [{"learning_rate": rate, "validation_accuracy": value} for rate, value in tried.items()]
        choices["learning_rate"] = {"chosen": _best_rate(tried), "candidates": candidates}
    record = Record(
        kind="tuning",
        label=settings.label,
        parameters=settings.parameters,
        seed=settings.seed,
        metrics={key: kept[key] for key in kept if key.endswith(("_accuracy", "_loss"))},
        counts={
            **{name: getattr(prepared.count, name) for name in ("trainable", "head", "total")},
            "saved": saved_numbers,
        },
        # a resumed, finished run has no step to time, and some operations no count
        cost={key: value for key, value in cost.items() if value is not None and value == value},
        environment={
            **describe_environment(),
            "trained_on": result.device,
            "processes": result.processes,
            "mixed_precision": result.mixed_precision,
            "resumed_from_epoch": result.resumed_from_epoch,
            "kept_epoch": result.kept_epoch,
            "judged_on": split.judged_on,
            **({} if result.ema_decay_reached is None else {"ema_decay_reached": result.ema_decay_reached}),
        },
        choices=choices,
        notes={
            **injected.skipped,
            **dict.fromkeys(result.untouched, "no gradient ever reached it"),
            **({DATA_NOTE: "; ".join(split.oddities)} if split.oddities else {}),
            **({DUPLICATES_NOTE: split.duplicates_note} if split.duplicates else {}),
            **({OPTIMIZER_NOTE: result.optimizer_note} if result.optimizer_note else {}),
        },
    )
    if METHODS[settings.method].by_peft:
        complete = not (folder / STATISTICS_FILE).exists()
        card = model_card(record, settings, *prepared.statistics, complete=complete)
        write_text(folder / ADAPTER_FOLDER / CARD_FILE, card)
    record.write(
        folder,
        history=pd.DataFrame(result.history),
        confusion=_long_form(result.confusion),
        confusions=_occurring(result),
        classes=_classes(result),
        **layer_tables(model, injected.fits),
    )
    for leftover in (CHECKPOINT_FILE, PROGRESS_FILE):
        (folder / leftover).unlink(missing_ok=True)
    shutil.rmtree(folder / DECOMPOSITION_FOLDER, ignore_errors=True)


def _classes(result: TrainingResult) -> pd.DataFrame:
    """One row an epoch and class: epoch, class, accuracy (empty where the class has no image)."""
    epochs, classes = result.class_accuracy.shape
    index = pd.MultiIndex.from_product([range(1, epochs + 1), range(classes)], names=["epoch", "class"])
    return pd.Series(result.class_accuracy.reshape(-1).tolist(), index=index, name="accuracy").reset_index()


def _long_form(confusion: Tensor) -> pd.DataFrame:
    n = confusion.shape[0]
    true, predicted = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    columns = {"true": true, "predicted": predicted, "count": confusion}
    return pd.DataFrame({name: values.reshape(-1).tolist() for name, values in columns.items()})


def _occurring(result: TrainingResult) -> pd.DataFrame:
    """One row an epoch and pair of classes that occurs in it: epoch, true, predicted, count."""
    epochs = [torch.full((len(pairs), 1), epoch) for epoch, pairs in enumerate(result.confusions, start=1)]
    rows = torch.column_stack([torch.cat(epochs), torch.cat(result.confusions)])
    return pd.DataFrame(rows.numpy(), columns=["epoch", "true", "predicted", "count"])


def _layer_lines(bar: Callable[[int, int, str], None]) -> Callable[[int, int, str], None]:
    """Moves the bar; without a terminal a line now and then says which layer is decomposed."""
    said = time.perf_counter()

    def on_layer(done: int, total: int, name: str) -> None:
        nonlocal said
        bar(done, total, f"decomposing {name}")
        if not sys.stderr.isatty() and time.perf_counter() - said >= _QUIET_SECONDS:
            said = time.perf_counter()
            _say(False, f"decomposed {done} of {total} layers; now {name}")

    return on_layer


def _say(quiet: bool, line: str) -> None:
    if not quiet:
        print(line, flush=True)


@torch.no_grad()
def try_image(model: nn.Module, image: Tensor, n_classes: int, name: str) -> None:
    """Run the model, left as it is, on one image (3, height, width).

    Raises FiltersubError where it fails, mostly by the images' size, and where it puts out no (1, n_classes) scores.
    """
    training, size = model.training, " x ".join(map(str, image.shape[1:]))
    model.eval()
    try:
        found = model(image[None])
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        said = f"{name} cannot take images of {size} pixels ({reason(error, 160)}); choose another image_size"
        raise FiltersubError(said) from None
    finally:
        model.train(training)
    if not isinstance(found, Tensor) or found.shape != (1, n_classes):
        shape = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise FiltersubError(f"{name} puts out {shape} for an image, not (1, {n_classes}) scores; it is no classifier")
