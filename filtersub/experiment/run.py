"""One run from settings to record: load, decompose, inject, train, judge, save, write down."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from ..data import ImageSplit, load_data, n_classes, usable_source
from ..decomposition.cache import cache_for, using
from ..errors import FiltersubError
from ..files import make_folder, write_text
from ..folder_lock import locks
from ..methods import METHODS, Injected, inject
from ..models import add_head_dropout_, head_name, input_statistics, load_model
from ..parameters import ParameterCount, count_trained
from ..progress import progress_bar
from ..records import (
    DATA_NOTE,
    DUPLICATES_NOTE,
    OPTIMIZER_NOTE,
    RECORD_FILE,
    Record,
    describe_environment,
    read_record,
)
from ..training import CHECKPOINT_FILE, TrainingResult, check_checkpoint, fit
from ..training.accelerator import processes
from .layer_tables import layer_tables
from .log import PROGRESS_FILE, TrainingLog, chosen_trackers, open_trackers
from .model_card import CARD_FILE, model_card
from .rate_choice import RateChoice, choose_rate
from .saved_weights import ADAPTER_FOLDER, STATISTICS_FILE, save_trained, saved_size
from .settings import CHOOSE, TuneSettings, settings_from
from .step_cost import step_flops

DECOMPOSITION_FOLDER = "decomposition.part"  # of layers that are decomposed, until the run is finished
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
    choice = _chosen(settings, folder, quiet, change)
    used = settings if choice is None else settings.with_rate(choice.chosen)
    check_checkpoint(folder, used.training, used.parameters)
    set_seed(settings.seed)
    prepared = _prepared(used, folder, quiet)
    if change is not None:
        change(prepared.model)
    mean, std = prepared.statistics
    split = load_data(
        used.data,
        size=used.image_size,
        mean=mean,
        std=std,
        validation=used.validation,
        n_train=used.n_train,
        augmentation=used.augmentation,
        augmentation_seed=used.seed,
        judge_crop=used.judge_crop,
    )
    first, _ = split.train[0]
    try_image(prepared.model, first, split.n_classes, used.model)
    flops = step_flops(prepared.model, tuple(first.shape), used.batch_size, used.batch_norm)
    logged = {**used.parameters, "trained_parameters": prepared.count.trainable}
    log = TrainingLog(
        folder,
        settings.label,
        settings.epochs,
        split.judged_on,
        quiet=quiet,
        trackers=open_trackers(trackers, folder, settings.label, logged) if state.is_main_process else (),
    )
    with log:
        result = fit(
            prepared.model,
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
        _write(settings, prepared, split, result, folder, {"wall_seconds": seconds, "step_flops": flops}, choice)
    state.wait_for_everyone()
    return read_record(folder)


def _finished(folder: Path, settings: TuneSettings) -> Record | None:
    if not (folder / RECORD_FILE).exists():
        return None
    record = read_record(folder)
    if record.kind != "tuning" or settings_from(record.parameters, str(folder / RECORD_FILE)) != settings:
        raise FiltersubError(f"{folder} holds the record of another run; choose another output folder")
    return record


def _chosen(
    settings: TuneSettings, folder: Path, quiet: bool, change: Callable[[nn.Module], None] | None
) -> RateChoice | None:
    if settings.learning_rate != CHOOSE:
        return None
    # a broken test image would come up after all candidates
    load_data(settings.data, size=settings.image_size, n_train=settings.n_train)

    def run(rate: float, out: Path) -> Record:
        _say(quiet, f"learning rate {rate:g}, judged on validation images")
        return tune(replace(settings.with_rate(rate), validation=True), out, quiet=quiet, change=change)

    with using(cache_for(folder / DECOMPOSITION_FOLDER)):  # the candidates and the run itself decompose once
        return choose_rate(settings.candidate_rates, folder, run)


@dataclass(frozen=True)
class _Prepared:
    """A model with the method injected, the name of its head, its parameter counts, its images' mean and std."""

    injected: Injected
    head: str
    count: ParameterCount
    statistics: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def model(self) -> nn.Module:
        return self.injected.model


def _prepared(settings: TuneSettings, folder: Path, quiet: bool) -> _Prepared:
    model = load_model(
        settings.model,
        pretrained=settings.pretrained,
        weights=settings.weights,
        num_classes=n_classes(settings.data),
        drop_path=settings.drop_path,
    )
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
            save_batch_norm=settings.batch_norm != "frozen",
            keep_in=folder / DECOMPOSITION_FOLDER,
            on_layer=None if quiet else _layer_lines(bar),
            **settings.of_atoms,
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
    choice: RateChoice | None,
) -> None:
    save_trained(prepared.model, settings, folder)
    record = _record(settings, prepared, split, result, saved_size(folder), cost, choice)
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
        **layer_tables(prepared.model, prepared.injected.fits),
    )
    for leftover in (CHECKPOINT_FILE, PROGRESS_FILE):
        (folder / leftover).unlink(missing_ok=True)
    shutil.rmtree(folder / DECOMPOSITION_FOLDER, ignore_errors=True)


def _record(
    settings: TuneSettings,
    prepared: _Prepared,
    split: ImageSplit,
    result: TrainingResult,
    saved: tuple[int, int],
    cost: dict[str, Any],
    choice: RateChoice | None,
) -> Record:
    kept = result.history[result.kept_epoch - 1]
    cost = {
        **cost,
        "seconds_per_step": result.seconds_per_step,
        "peak_memory_bytes": result.peak_memory_bytes,
        "added_memory_bytes": result.added_memory_bytes,
        "saved_bytes": saved[1],
        **prepared.injected.cost,
    }
    counts = {name: getattr(prepared.count, name) for name in ("trainable", "head", "total")}
    return Record(
        kind="tuning",
        label=settings.label,
        parameters=settings.parameters,
        seed=settings.seed,
        metrics={key: kept[key] for key in kept if key.endswith(("_accuracy", "_loss"))},
        counts={**counts, "saved": saved[0]},
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
        choices={} if choice is None else choice.to_json(),
        notes={
            **prepared.injected.skipped,
            **dict.fromkeys(result.untouched, "no gradient ever reached it"),
            **({DATA_NOTE: "; ".join(split.oddities)} if split.oddities else {}),
            **({DUPLICATES_NOTE: split.duplicates_note} if split.duplicates else {}),
            **({OPTIMIZER_NOTE: result.optimizer_note} if result.optimizer_note else {}),
        },
    )


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
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise FiltersubError(
            f"{name} cannot take images of {size} pixels ({words[0][:160]}); choose another image_size"
        ) from None
    finally:
        model.train(training)
    if not isinstance(found, Tensor) or found.shape != (1, n_classes):
        shape = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise FiltersubError(f"{name} puts out {shape} for an image, not (1, {n_classes}) scores; it is no classifier")
