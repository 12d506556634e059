"""The loop itself: epochs of steps, judged after each, kept after each."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import DataLoaderConfiguration, set_seed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, Subset

from ..errors import FiltersubError, LossNotFinite
from ..memory import PeakMemory
from .accelerator import new_accelerator
from .batch_norm import SameStatistics, recompute_batch_norm_, set_training_mode_, statistics_stand_still
from .checkpoint import Checkpoint, run_identity, state_names, weights_of
from .config import TrainingConfig
from .ema import MovingAverage
from .evaluation import class_accuracies, evaluate
from .failures import explained, scores
from .mixing import Mixing
from .optimizers import Chosen
from .rank_allocation import allocation_of
from .schedule import factor_at

Row = dict[str, float]
#: training images that running statistics are averaged over after an epoch whose weights are not kept
_SAMPLE = 512


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves behind, beside the trained model.

    Attributes
    ----------
    history : one row an epoch: epoch, train_loss, train_accuracy, <judged>_loss, <judged>_accuracy,
        <judged>_mean_class_accuracy, learning_rate, seconds; <judged> is "test" or "validation"
    confusion : Tensor (n_classes, n_classes), counts of the judged images after the kept epoch; true classes down
    class_accuracy : Tensor (epochs, n_classes), float64; NaN for classes without images
    confusions : of each epoch, Tensor (pairs, 3): true class, predicted class, count, of the pairs that occur
    seconds_per_step : median over all steps of this process; nan where there was none
    peak_memory_bytes : of the GPU's allocator, or the largest resident set of the process on a CPU
    added_memory_bytes : the same without what was there before the first step (model, libraries and data)
    resumed_from_epoch : epochs that a checkpoint had done before
    kept_epoch : the epoch whose weights the model has: the last, or with patience the best
    untouched : names of trained parameters that no gradient ever reached: the model does not use them where they are
    ema_decay_reached : decay of the average of the weights in the last step, below ``ema_decay`` while its warm-up
        lasts; None where there is no average
    optimizer_note : where and how often the optimiser had to take other steps than its own; empty for most
    """

    history: list[Row]
    confusion: Tensor
    class_accuracy: Tensor
    confusions: list[Tensor]
    seconds_per_step: float
    peak_memory_bytes: int
    added_memory_bytes: int
    device: str
    mixed_precision: str
    processes: int
    resumed_from_epoch: int
    kept_epoch: int
    untouched: tuple[str, ...] = ()
    ema_decay_reached: float | None = None
    optimizer_note: str = ""


def fit(
    model: nn.Module,
    train: Dataset,
    judged: Dataset,
    n_classes: int,
    config: TrainingConfig,
    *,
    head: str | None = None,
    judged_on: str = "test",
    folder: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Row], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train what requires a gradient, judge after each epoch, keep a checkpoint an epoch, resume from it.

    Parameters
    ----------
    model : images (n, 3, h, w) to logits (n, n_classes); trained in place
    head : name of the module that ``head_learning_rate`` is for
    train, judged : datasets of (image, label); ``judged_on`` names the second in the history. ``train.begin_epoch(n)``
        is called before epoch n (0 at first) where it has such a method
    folder : where the checkpoint lives between epochs; None keeps none. A checkpoint of other settings is refused.
    settings : what else makes the run what it is (model, data, method); a checkpoint of others is refused likewise
    on_epoch : called with each row of the history; on_step : with (steps done, steps in all); on the first process only

    Started by ``accelerate launch`` on several processes, each takes its share of every batch.

    Raises FiltersubError when nothing is trainable, when the loss is not finite (the last epoch's checkpoint stays),
    when the disk is full (likewise), when the checkpoint cannot be used, and when an image cannot be read.
    """
    if config.patience is not None and judged_on != "validation":
        raise FiltersubError(
            f"patience stops by validation images, and this split is judged on {judged_on} images; set validation"
        )
    run = _Run(model, train, judged, n_classes, config, head, judged_on, folder, settings or {})
    try:
        return run.to_the_end(on_epoch or (lambda row: None), on_step or (lambda done, total: None))
    except ValueError as error:
        raise explained(error) from None


class _Run:
    def __init__(
        self,
        model: nn.Module,
        train: Dataset,
        judged: Dataset,
        n_classes: int,
        config: TrainingConfig,
        head: str | None,
        judged_on: str,
        folder: str | os.PathLike[str] | None,
        settings: Mapping[str, Any],
    ) -> None:
        self.config, self.n_classes, self.judged_on, self.folder = config, n_classes, judged_on, folder
        self.accelerator = new_accelerator(
            config.precision, dataloader_config=DataLoaderConfiguration(split_batches=True)
        )
        self.chosen = Chosen(model, config, head)
        groups, optimizer = self.chosen.groups, self.chosen.optimizer
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        set_seed(config.seed + self.accelerator.process_index)
        order = torch.Generator().manual_seed(config.seed)
        self._load(train, judged, order)
        same = statistics_stand_still(model, head) and not hasattr(train, "begin_epoch")
        self.same_statistics = SameStatistics(model) if same else None
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [factor_at(config, group["lr"], len(self.batches)) for group in groups]
        )
        self.raw, self.trained = model, [p for group in groups for p in group["params"]]
        self.average = None
        if config.ema_decay is not None:
            self.average = MovingAverage(self.trained, config.ema_decay, warmup=config.ema_warmup)
        self.mixing = None
        if config.mixup or config.cutmix:
            self.mixing = Mixing(config.mixup, config.cutmix, n_classes, config.seed)
        parts: dict[str, Any] = {"optimizer": optimizer, "schedule": self.schedule}
        self.allocation = allocation_of(model, config, config.epochs * len(self.batches))
        if self.allocation is not None:
            parts["allocation"] = self.allocation
        if self.accelerator.scaler is not None:
            parts["scaler"] = self.accelerator.scaler
        if self.average is not None:
            parts["average"] = self.average
        self.checkpoint = Checkpoint(folder, model, parts, order, run_identity(config, settings), self.accelerator)
        found = self.checkpoint.resume()
        self.history: list[Row] = found.get("history", [])
        self.classes: list[list[float]] = found.get("classes", [])
        self.confusions: list[Tensor] = found.get("confusions", [])
        self.best: dict[str, Tensor] = found.get("best", {})
        self.start = len(self.history)
        self.accelerator.wait_for_everyone()  # all have read the checkpoint before the first one writes another
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.forward = self.model if config.compile == "no" else torch.compile(self.model, backend=config.compile)
        self.durations: list[float] = []

    def _load(self, train: Dataset, judged: Dataset, order: torch.Generator) -> None:
        config, n = self.config, self.accelerator.num_processes
        if config.batch_size % n:
            raise FiltersubError(f"batch_size {config.batch_size} cannot be shared by {n} processes; make it divisible")
        if (config.mixup or config.cutmix) and config.batch_size // n < 2:
            raise FiltersubError(f"a batch of {config.batch_size} over {n} processes leaves a single image each to mix")
        common: dict[str, Any] = {"num_workers": config.workers, "pin_memory": self.accelerator.device.type == "cuda"}
        drop_last = len(train) >= 2 * config.batch_size  # type: ignore[arg-type]
        batches = DataLoader(train, config.batch_size, shuffle=True, generator=order, drop_last=drop_last, **common)
        judged_batches = DataLoader(judged, 4 * config.batch_size, **common)
        own = torch.Generator().manual_seed(config.seed)  # else it takes a number from the global state
        self.sample = DataLoader(_sample_of(train, config), config.batch_size, generator=own, **common)
        self.train = train
        self.batches, self.judged_batches = self.accelerator.prepare(batches, judged_batches)

    def to_the_end(self, on_epoch: Callable[[Row], None], on_step: Callable[[int, int], None]) -> TrainingResult:
        main = self.accelerator.is_main_process
        confusion = None
        with PeakMemory(self.accelerator.device) as memory:
            if self.config.batch_norm == "adapted" and not self.history:
                recompute_batch_norm_(self.model, self._all_images())
            while not self.is_done:
                row, confusion = self._epoch(on_step if main else lambda done, total: None)
                self._remember(row, confusion)
                self.checkpoint.keep(self._progress)
                if main:
                    on_epoch(row)
        self._settle()
        if confusion is None or self.kept_epoch != len(self.history):  # judge the weights that are kept once more
            _, confusion = evaluate(self.model, self.judged_batches, self.n_classes, self.accelerator)
        self.accelerator.wait_for_everyone()
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return TrainingResult(
            self.history,
            confusion,
            torch.tensor(self.classes, dtype=torch.float64),
            self.confusions,
            float(torch.tensor(self.durations).median()) if self.durations else math.nan,
            memory.bytes,
            memory.added_bytes,
            str(self.accelerator.device),
            self.accelerator.mixed_precision,
            self.accelerator.num_processes,
            self.start,
            self.kept_epoch,
            self._untouched(),
            None if self.average is None else self.average.effective_decay,
            self.chosen.note,
        )

    def _untouched(self) -> tuple[str, ...]:
        """An optimiser keeps moments of whatever it has once seen a gradient of."""
        moved = self.optimizer.optimizer.state
        return tuple(name for name, p in self.raw.named_parameters() if p.requires_grad and p not in moved)

    @property
    def _progress(self) -> dict[str, Any]:
        judged = {"history": self.history, "classes": self.classes, "confusions": self.confusions}
        return {**judged, "best": self.best}

    @property
    def is_done(self) -> bool:
        done = len(self.history)
        stale = self.config.patience is not None and done - self.kept_epoch >= self.config.patience
        return done >= self.config.epochs or stale

    @property
    def kept_epoch(self) -> int:
        if self.config.patience is None or not self.history:
            return len(self.history)
        accuracies = [row[f"{self.judged_on}_accuracy"] for row in self.history]
        return 1 + accuracies.index(max(accuracies))

    def _epoch(self, on_step: Callable[[int, int], None]) -> tuple[Row, Tensor]:
        began, rate, done = time.perf_counter(), self.schedule.get_last_lr()[0], len(self.history)
        if hasattr(self.train, "begin_epoch"):
            self.train.begin_epoch(done)
        set_training_mode_(self.model, self.config.batch_norm)
        total = self.config.epochs * len(self.batches)
        sums = [0.0, 0.0, 0.0]  # images, loss, right
        for images, labels in self.batches:
            stepped = time.perf_counter()
            loss, right = self._step(*self._mixed(images, labels))
            self.durations.append(time.perf_counter() - stepped)
            for i, value in enumerate((len(labels), loss * len(labels), right)):
                sums[i] += value
            on_step(self.start * len(self.batches) + len(self.durations), total)
        seen, loss_sum, correct = self._over_processes(sums)
        judged_loss, confusion = self._judge(done + 1 == self.config.epochs)
        self._check_finite(judged_loss, f"{self.judged_on} loss", "")
        accuracy = class_accuracies(confusion)
        row = {
            "epoch": done + 1,
            "train_loss": loss_sum / seen,
            "train_accuracy": correct / seen,
            f"{self.judged_on}_loss": judged_loss,
            f"{self.judged_on}_accuracy": float(confusion.diagonal().sum() / confusion.sum()),
            f"{self.judged_on}_mean_class_accuracy": float(accuracy[~accuracy.isnan()].mean()),
            "learning_rate": rate,
            "seconds": time.perf_counter() - began,
        }
        return row, confusion

    def _mixed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A batch as it is trained on; what is drawn depends on the seed, the epoch, the step and the process alone."""
        if self.mixing is not None:
            done, step = len(self.history), len(self.durations) % len(self.batches)
            images, labels = self.mixing(images, labels, done, step, self.accelerator.process_index)
        return self._laid_out(images), labels

    def _step(self, images: Tensor, labels: Tensor) -> tuple[float, int]:
        """(mean loss, images classified right) of this process's share of a batch; the weights are moved.

        A mixed image is right where it is classified as the one that is more of it.
        """
        parts = list(zip(images.chunk(self.config.accumulation), labels.chunk(self.config.accumulation), strict=True))
        losses, right = [], 0
        for i, (part, truth) in enumerate(parts):
            last = i + 1 == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                logits = scores(self.forward(part))
                loss = cross_entropy(logits.float(), truth, label_smoothing=self.config.label_smoothing)
                if len(parts) > 1:
                    loss = loss * (len(truth) / len(labels))
                losses.append(loss.detach())
                if self.allocation is not None:
                    loss = loss + self.allocation.penalty() * (len(truth) / len(labels))
                self.accelerator.backward(loss)
            right += int((logits.detach().argmax(1) == (truth if truth.ndim == 1 else truth.argmax(1))).sum())
        mean = float(sum(losses[1:], losses[0]))
        worst = mean if self.accelerator.num_processes == 1 else float(self.accelerator.reduce(sum(losses), "sum"))
        self._check_finite(
            worst, "loss", f", step {1 + len(self.durations) % len(self.batches)} of {len(self.batches)}"
        )
        if self.config.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.trained, self.config.clip_norm)
        self.optimizer.step()
        if self.allocation is not None:
            self.allocation.update()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update()
        return mean, right

    def _judge(self, is_last: bool) -> tuple[float, Tensor]:
        with nullcontext() if self.average is None else self.average.in_place():
            if self.config.batch_norm == "recomputed":
                self._recompute_batch_norm(whole=is_last or self.config.patience is not None)
            return evaluate(self.forward, self.judged_batches, self.n_classes, self.accelerator)

    def _recompute_batch_norm(self, whole: bool) -> None:
        if whole:
            recompute_batch_norm_(self.model, self._all_images())
        elif self.same_statistics is not None:
            self.same_statistics.restore_or(lambda: recompute_batch_norm_(self.model, self._sampled_images()))
        else:
            recompute_batch_norm_(self.model, self._sampled_images())

    def _remember(self, row: Row, confusion: Tensor) -> None:
        self.history.append(row)
        self.classes.append(class_accuracies(confusion).tolist())
        pairs = confusion.nonzero()
        self.confusions.append(torch.column_stack([pairs, confusion[*pairs.T]]))
        if self.config.patience is not None and self.kept_epoch == len(self.history):
            with nullcontext() if self.average is None else self.average.in_place():
                now = weights_of(self.raw, state_names(self.raw))
                self.best = {name: tensor.detach().cpu().clone() for name, tensor in now.items()}

    def _settle(self) -> None:
        """Leave the model with the weights that are kept."""
        if self.best:
            self.raw.load_state_dict(self.best, strict=False)
        elif self.average is not None:
            self.average.settle()

    def _over_processes(self, sums: list[float]) -> list[float]:
        if self.accelerator.num_processes == 1:
            return sums
        return self.accelerator.reduce(torch.tensor(sums, device=self.accelerator.device), "sum").tolist()

    def _all_images(self) -> Iterator[Tensor]:
        """Every process sees whole batches: statistics of shares would be others."""
        for images, _ in self.batches:
            yield self._laid_out(self.accelerator.gather(images))

    def _sampled_images(self) -> Iterator[Tensor]:
        for images, _ in self.sample:
            yield self._laid_out(images.to(self.accelerator.device))

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.config.channels_last else images

    def _check_finite(self, value: float, what: str, where: str) -> None:
        if math.isfinite(value):
            return
        epoch = len(self.history)
        named = ((name, p) for name, p in self.raw.named_parameters() if p.requires_grad)
        spoilt = next((name for name, p in named if not bool(torch.isfinite(p).all())), None)
        weights = "" if spoilt is None else f", where {spoilt} is not finite"
        kept = f"; the state after epoch {epoch} is kept in {self.folder}" if self.folder is not None and epoch else ""
        raise LossNotFinite(
            f"the {what} became {value} in epoch {epoch + 1}{where}{weights}; lower the learning rate, or set "
            f"clip_norm{kept}"
        )


def _sample_of(train: Dataset, config: TrainingConfig) -> Dataset:
    """Whole batches of about _SAMPLE images, always the same ones."""
    size, total = config.batch_size, len(train)  # type: ignore[arg-type]
    count = min(total, max(1, _SAMPLE // size) * size)
    count = count - count % size if count > size else count
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(config.seed))[:count]
    return Subset(train, chosen.tolist())
