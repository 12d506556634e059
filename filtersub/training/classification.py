"""A classifier trained by the loop: epochs of shuffled images, mixed where asked, judged and kept after each."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from ..errors import FiltersubError
from ..kernels import check_model, find_module
from ..models import is_inside, trains_channels_last
from ..random_states import seeded
from ..settings import check_kind
from .accelerator import processes
from .batch_norm import (
    SameStatistics,
    recompute_batch_norm_,
    set_training_mode_,
    statistics_stand_still,
)
from .checkpoint import state_names, weights_of
from .config import TrainingConfig
from .evaluation import check_classes, class_accuracies, evaluate
from .loop import Loop, LoopResult, Row
from .norm_folding import foldable_norms

#: training images that running statistics are averaged over after an epoch whose weights are not kept
_SAMPLE = 512


@dataclass(frozen=True, kw_only=True)
class TrainingResult(LoopResult):
    """What training a classifier leaves behind, beside LoopResult.

    Attributes
    ----------
    history : one row an epoch: epoch, train_loss, train_accuracy, <judged>_loss, <judged>_accuracy,
        <judged>_mean_class_accuracy, learning_rate, seconds; <judged> is "test" or "validation". Epochs that
        ``evaluation_interval`` leaves out have no entry of the judged images.
    confusion : Tensor (n_classes, n_classes), counts of the judged images after the kept epoch; true classes down
    class_accuracy : Tensor (epochs, n_classes), float64; NaN for classes without images, and for epochs without
        evaluation
    confusions : of each epoch, Tensor (pairs, 3): true class, predicted class, count, of the pairs that occur; none in
        epochs without evaluation
    resumed_from_epoch : epochs that a checkpoint had done before
    kept_epoch : the epoch whose weights the model has: the last, or with patience the best
    """

    confusion: Tensor
    class_accuracy: Tensor
    confusions: list[Tensor]
    resumed_from_epoch: int
    kept_epoch: int


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
    """Train what requires a gradient, judge between epochs, keep a checkpoint an epoch, resume from it.

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

    Raises FiltersubError for a head that the model lacks and labels that are no classes, when nothing is trainable,
    when the loss is not finite (the last epoch's checkpoint stays), when the disk is full (likewise), when the
    checkpoint cannot be used, and when an image cannot be read.
    """
    check_kind("config", config, TrainingConfig)
    check_model(model)
    known = isinstance(head, str) and head and any(is_inside(name, head) for name, _ in model.named_modules())
    if head is not None and not known:
        find_module(model, head, "head")  # says which names are near
    if config.patience is not None and judged_on != "validation":
        raise FiltersubError(
            f"patience stops by validation images, and this split is judged on {judged_on} images; set validation"
        )
    run = _Classification(model, train, judged, n_classes, config, head, judged_on, folder, settings or {})
    run.on_epoch, run.on_step = on_epoch, on_step
    try:
        run.run()
        return run.result()
    except ValueError as error:
        raise explained(error) from None


class _Classification(Loop):
    """Rounds are epochs. Progress beside the history: accuracies and confusion of each epoch, the best weights."""

    unit = "epoch"
    config: TrainingConfig
    on_epoch: Callable[[Row], None] | None = None
    on_step: Callable[[int, int], None] | None = None

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
        self.channels_last = config.channels_last and trains_channels_last(model, processes().device)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
        loading = DataLoaderConfiguration(split_batches=True)
        super().__init__(model, config, head=head, folder=folder, dataloader_config=loading)
        self.n_classes, self.judged_on = n_classes, judged_on
        self.progress |= {"classes": [], "confusions": [], "best": {}}
        self._load(train, judged)
        same = statistics_stand_still(model, head) and not hasattr(train, "begin_epoch")
        self.same_statistics = SameStatistics(model) if same else None
        alphas = ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
        kinds = [kind(alpha=alpha, num_classes=n_classes) for kind, alpha in alphas if alpha > 0]
        self.mixing = v2.RandomChoice(kinds) if kinds else None  # draws one share of each image for the whole batch
        epoch = len(self._batches)
        self.steps = config.epochs * epoch
        self.begin(self.steps, config.warmup_epochs * epoch, settings)
        self.forward = self.model if config.compile == "no" else torch.compile(self.model, backend=config.compile)
        self.keeps_needed = config.compile == "no"  # a compiled network is planned as a whole
        self.confusion: Tensor | None = None

    def _load(self, train: Dataset, judged: Dataset) -> None:
        config, n = self.config, self.accelerator.num_processes
        check_shares(config, n)
        common: dict[str, Any] = {"num_workers": config.workers, "pin_memory": self.accelerator.device.type == "cuda"}
        drop_last = len(train) >= 2 * config.batch_size  # type: ignore[arg-type]
        batches = DataLoader(
            train, config.batch_size, shuffle=True, generator=self.order, drop_last=drop_last, **common
        )
        judged_batches = DataLoader(judged, 4 * config.batch_size, **common)
        own = torch.Generator().manual_seed(config.seed)  # else it takes a number from the global state
        self.sample = DataLoader(_sample_of(train, config), config.batch_size, generator=own, **common)
        self.train = train
        self._batches, self.judged_batches = self.accelerator.prepare(batches, judged_batches)

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

    @property
    def where(self) -> str:
        return f", step {1 + len(self.durations) % len(self._batches)} of {len(self._batches)}"

    def batches(self) -> Iterator[Any]:
        if self.config.batch_norm == "adapted" and not self.history:
            recompute_batch_norm_(self.model, self._all_images())
        self._began, self._rate = time.perf_counter(), self.schedule.get_last_lr()[0]
        self._sums = [0.0, 0.0, 0.0]  # images, loss, right
        if hasattr(self.train, "begin_epoch"):
            self.train.begin_epoch(len(self.history))
        set_training_mode_(self.model, self.config.batch_norm)
        batches = iter(self._batches)
        if self.keeps_needed and self.folded is None:
            first = next(batches)
            self.folded = foldable_norms(self.raw, self._laid_out(first[0][:2]))
            return chain([first], batches)
        return batches

    def tensors(self, batch: Any) -> tuple[Tensor, ...]:
        """A batch as it is trained on; what is drawn depends on the seed, the epoch, the step and the process alone."""
        images, labels = batch
        check_classes(labels, self.n_classes)
        if self.mixing is not None:
            done, step = len(self.history), len(self.durations) % len(self._batches)
            with seeded(self.config.seed, done, step, self.accelerator.process_index):
                images, labels = self.mixing(images, labels)
        self._seen: list[tuple[Tensor, Tensor]] = []
        return self._laid_out(images), labels

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        logits = scores(self.forward(images))
        self._seen.append((logits.detach(), labels))
        return cross_entropy(logits.float(), labels, label_smoothing=self.config.label_smoothing)

    def after_step(self, own: float, everywhere: float) -> None:
        """A mixed image is right where it is classified as the one that is more of it."""
        seen = sum(len(labels) for _, labels in self._seen)
        right = sum(int((s.argmax(1) == (t if t.ndim == 1 else t.argmax(1))).sum()) for s, t in self._seen)
        self._sums = [total + value for total, value in zip(self._sums, (seen, own * seen, right), strict=True)]
        if self.on_step is not None and self.accelerator.is_main_process:
            self.on_step(self.resumed * len(self._batches) + len(self.durations), self.steps)

    def end_round(self) -> None:
        sums = self._sums
        if self.accelerator.num_processes > 1:
            sums = self.accelerator.reduce(torch.tensor(sums, device=self.accelerator.device), "sum").tolist()
        seen, loss_sum, correct = sums
        epoch = len(self.history) + 1
        row = {"epoch": epoch, "train_loss": loss_sum / seen, "train_accuracy": correct / seen}
        if epoch % self.config.evaluation_interval == 0 or epoch == self.config.epochs:
            row |= self._evaluation(is_last=epoch == self.config.epochs)
        else:
            self.progress["classes"].append([math.nan] * self.n_classes)
            self.progress["confusions"].append(torch.empty(0, 3, dtype=torch.int64))
        row |= {"learning_rate": self._rate, "seconds": time.perf_counter() - self._began}
        self.progress["history"].append(row)
        if self.config.patience is not None and self.kept_epoch == len(self.history):
            with self.averaged():
                now = weights_of(self.raw, state_names(self.raw))
                self.progress["best"] = {name: tensor.detach().cpu().clone() for name, tensor in now.items()}
        super().end_round()
        if self.on_epoch is not None and self.accelerator.is_main_process:
            self.on_epoch(row)

    def _evaluation(self, *, is_last: bool) -> Row:
        """Entries of the history; accuracies by class and the confusion are kept beside it."""
        judged_loss, self.confusion = self._judge(is_last)
        self.check_finite(judged_loss, f"{self.judged_on} loss")
        accuracy, pairs = class_accuracies(self.confusion), self.confusion.nonzero()
        self.progress["classes"].append(accuracy.tolist())
        self.progress["confusions"].append(torch.column_stack([pairs, self.confusion[*pairs.T]]))
        return {
            f"{self.judged_on}_loss": judged_loss,
            f"{self.judged_on}_accuracy": float(self.confusion.diagonal().sum() / self.confusion.sum()),
            f"{self.judged_on}_mean_class_accuracy": float(accuracy[~accuracy.isnan()].mean()),
        }

    def result(self) -> TrainingResult:
        """Leaves the model with the weights that are kept."""
        if self.progress["best"]:
            self.raw.load_state_dict(self.progress["best"], strict=False)
        elif self.average is not None:
            self.average.settle()
        if self.confusion is None or self.kept_epoch != len(self.history):  # judge the weights that are kept once more
            with self.quickly():
                _, self.confusion = evaluate(self.model, self.judged_batches, self.n_classes, self.accelerator)
        self.finish()
        return TrainingResult(
            **self.measured(),
            confusion=self.confusion,
            class_accuracy=torch.tensor(self.progress["classes"], dtype=torch.float64),
            confusions=self.progress["confusions"],
            resumed_from_epoch=self.resumed,
            kept_epoch=self.kept_epoch,
        )

    def _judge(self, is_last: bool) -> tuple[float, Tensor]:
        with self.averaged():
            if self.config.batch_norm == "recomputed":
                self._recompute_batch_norm(whole=is_last or self.config.patience is not None)
            with self.quickly():
                return evaluate(self.forward, self.judged_batches, self.n_classes, self.accelerator)

    def _recompute_batch_norm(self, whole: bool) -> None:
        if whole:
            recompute_batch_norm_(self.model, self._all_images())
        elif self.same_statistics is not None:
            self.same_statistics.restore_or(lambda: recompute_batch_norm_(self.model, self._sampled_images()))
        else:
            recompute_batch_norm_(self.model, self._sampled_images())

    def _all_images(self) -> Iterator[Tensor]:
        """Every process sees whole batches: statistics of shares would be others."""
        for images, _ in self._batches:
            yield self._laid_out(self.accelerator.gather(images))

    def _sampled_images(self) -> Iterator[Tensor]:
        for images, _ in self.sample:
            yield self._laid_out(images.to(self.accelerator.device))

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images


def check_shares(config: TrainingConfig, processes: int) -> None:
    """Raises FiltersubError where processes cannot share a batch alike, or would have a single image each to mix."""
    if config.batch_size % processes:
        raise FiltersubError(
            f"batch_size {config.batch_size} cannot be shared by {processes} processes; make it divisible"
        )
    if (config.mixup or config.cutmix) and config.batch_size // processes < 2:
        raise FiltersubError(
            f"a batch of {config.batch_size} over {processes} processes leaves a single image each to mix"
        )


def _sample_of(train: Dataset, config: TrainingConfig) -> Dataset:
    """Whole batches of about _SAMPLE images, always the same ones."""
    size, total = config.batch_size, len(train)  # type: ignore[arg-type]
    count = min(total, max(1, _SAMPLE // size) * size)
    count = count - count % size if count > size else count
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(config.seed))[:count]
    return Subset(train, chosen.tolist())


def scores(output: Any) -> Tensor:
    """What a classifier puts out while it is trained. Raises FiltersubError where that is not one tensor."""
    if not isinstance(output, Tensor):
        raise FiltersubError(
            f"in training the model puts out {type(output).__name__}; what can be trained gives one tensor of scores"
        )
    return output


def explained(error: ValueError) -> ValueError:
    """The error as a FiltersubError of one line where its cause is known, else as it is.

    torch puts the whole traceback of a process that reads images into the message of the error that it raises again.
    """
    text = str(error)
    if "more than 1 value per channel" in text:
        return FiltersubError(
            "batch norm has a single value a channel to average over, in a batch, or a part of one, of a single image; "
            "change batch_size, accumulation or image_size, or set batch_norm frozen"
        )
    if isinstance(error, FiltersubError) and "\n" in text:
        return FiltersubError(text.strip().splitlines()[-1].rpartition("FiltersubError: ")[2])
    return error
