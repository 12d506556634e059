"""The training loop, on accelerate: any device, any number of processes, mixed precision, exact resume.

Returns a history, draws nothing, knows nothing of methods: it trains whatever parameters require a gradient.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from .errors import FiltersubError
from .files import written_whole
from .memory import PeakMemory

CHECKPOINT_FILE = "checkpoint.pt"
_OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
BATCH_NORM = ("adapted", "frozen", "updated", "recomputed")
_NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; recorded whole with every run.

    Attributes
    ----------
    epochs, batch_size : int; the last, smaller batch of an epoch is dropped where more than one batch remains
    optimizer : "adamw" or "adam" (the paper's validation experiment)
    learning_rate : float, the peak
    head_learning_rate : float, optional, the peak for the new head; default learning_rate
    weight_decay : float
    warmup_epochs : float, of linear warm-up from 0, after which the rate follows half a cosine down to 0
    batch_norm : what becomes of the running statistics.
        "adapted": averaged over the training images once, before the first step, then frozen, so that training and
        judging compute the same function (AdaBN; Li et al., arXiv:1603.04779).
        "frozen": those of pretraining are kept.
        "updated": batch statistics while training, moving averages when judged, which lag behind the weights in runs of
        a few hundred steps.
        "recomputed": as "updated", but averaged anew over the training images after the last epoch (Wu and Johnson,
        arXiv:2105.07576), so that the last judgement is of the weights as they are.
    mixed_precision : "no", "bf16", "fp16", or "auto": bf16 on a GPU that has it, else none
    channels_last : images and 4-d weights in memory with the channels last; the same mathematics, about half the time
        of a step on a CPU (benchmarks/training_step.py)
    seed : of the order of the images (and of dropout)
    """

    epochs: int = 8
    batch_size: int = 50
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    head_learning_rate: float | None = None
    weight_decay: float = 1e-4
    warmup_epochs: float = 1.0
    batch_norm: str = "recomputed"
    mixed_precision: str = "auto"
    channels_last: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            if value < 1:
                raise FiltersubError(f"{name} must be at least 1, got {value}")
        for name, rate in (("learning_rate", self.learning_rate), ("head_learning_rate", self.head_learning_rate)):
            if rate is not None and not 0 < rate < math.inf:
                raise FiltersubError(f"{name} must be a positive number, got {rate}")
        if self.weight_decay < 0 or self.warmup_epochs < 0:
            raise FiltersubError("weight_decay and warmup_epochs must not be negative")
        _one_of("optimizer", self.optimizer, tuple(_OPTIMIZERS))
        _one_of("batch_norm", self.batch_norm, BATCH_NORM)
        _one_of("mixed_precision", self.mixed_precision, ("auto", "no", "bf16", "fp16"))


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves behind, beside the trained model.

    Attributes
    ----------
    history : one row an epoch: epoch, train_loss, train_accuracy, <judged>_loss, <judged>_accuracy, learning_rate,
        seconds; <judged> is "test" or "validation"
    confusion : Tensor (n_classes, n_classes), counts of the judged images after the last epoch; true classes down
    seconds_per_step : median over all steps of this process; nan where there was none
    peak_memory_bytes : of the GPU's allocator, or the largest resident set of the process on a CPU
    resumed_from_epoch : epochs that a checkpoint had done before
    """

    history: list[dict[str, float]]
    confusion: Tensor
    seconds_per_step: float
    peak_memory_bytes: int
    device: str
    mixed_precision: str
    resumed_from_epoch: int = 0


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
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train what requires a gradient, judge after each epoch, keep a checkpoint an epoch, resume from it.

    Parameters
    ----------
    model : images (n, 3, h, w) to logits (n, n_classes); trained in place
    head : name of the module that ``head_learning_rate`` is for
    train, judged : datasets of (image, label); ``judged_on`` names the second in the history
    folder : where the checkpoint lives between epochs; None keeps none. A checkpoint of other settings is refused.
    on_epoch : called with each row of the history; on_step : with (steps done, steps in all)

    Raises FiltersubError when nothing is trainable, when the loss is not finite (the last epoch's checkpoint stays),
    and when the checkpoint cannot be used.
    """
    accelerator = Accelerator(mixed_precision=_precision(config.mixed_precision))
    groups = _parameter_groups(model, config, head)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
    set_seed(config.seed)
    order = torch.Generator().manual_seed(config.seed)
    batches = DataLoader(
        train, config.batch_size, shuffle=True, generator=order, drop_last=len(train) >= 2 * config.batch_size
    )
    optimizer = _OPTIMIZERS[config.optimizer](groups, weight_decay=config.weight_decay)
    batches, judged_batches = accelerator.prepare(batches, DataLoader(judged, 4 * config.batch_size))
    per_epoch = len(batches)
    total = config.epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_cosine(config.warmup_epochs * per_epoch, total))
    state = _Run(accelerator.unwrap_model(model), optimizer, schedule, order, config, folder)
    history = state.resume()
    start = len(history)
    model, optimizer = accelerator.prepare(model, optimizer)

    if config.batch_norm == "adapted" and not history:
        recompute_batch_norm_(model, batches, config)
    durations: list[float] = []
    confusion = torch.zeros(n_classes, n_classes, dtype=torch.long)
    with PeakMemory(accelerator.device) as memory:
        for epoch in range(start, config.epochs):
            began = time.perf_counter()
            set_training_mode_(model, config.batch_norm)
            rate = schedule.get_last_lr()[0]
            seen, loss_sum, correct = 0, 0.0, 0
            for images, labels in batches:
                stepped = time.perf_counter()
                logits = model(_laid_out(images, config))
                loss = cross_entropy(logits.float(), labels)
                _check_finite(loss, epoch, folder)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                durations.append(time.perf_counter() - stepped)
                seen += len(labels)
                loss_sum += float(loss.detach()) * len(labels)
                correct += int((logits.detach().argmax(1) == labels).sum())
                if on_step is not None:
                    on_step(start * per_epoch + len(durations), total)
            if config.batch_norm == "recomputed" and epoch + 1 == config.epochs:
                recompute_batch_norm_(model, batches, config)
            judged_loss, confusion = evaluate(model, judged_batches, n_classes, accelerator)
            row = {
                "epoch": epoch + 1,
                "train_loss": loss_sum / seen,
                "train_accuracy": correct / seen,
                f"{judged_on}_loss": judged_loss,
                f"{judged_on}_accuracy": float(confusion.diagonal().sum() / confusion.sum()),
                "learning_rate": rate,
                "seconds": time.perf_counter() - began,
            }
            history.append(row)
            if accelerator.is_main_process:
                state.keep(history)
            if on_epoch is not None:
                on_epoch(row)
    if start == config.epochs:  # everything was done before; judge the final state once more
        _, confusion = evaluate(model, judged_batches, n_classes, accelerator)
    return TrainingResult(
        history,
        confusion,
        float(torch.tensor(durations).median()) if durations else math.nan,
        memory.bytes,
        str(accelerator.device),
        accelerator.mixed_precision,
        start,
    )


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: DataLoader, n_classes: int, accelerator: Accelerator | None = None
) -> tuple[float, Tensor]:
    """(mean cross-entropy, confusion counts (n_classes, n_classes)) in evaluation mode; true classes down the rows."""
    device = next(model.parameters()).device if accelerator is None else accelerator.device
    # counted here, not by torchmetrics, whose import costs every short run seconds
    counts = torch.zeros(n_classes * n_classes, dtype=torch.long, device=device)
    model.eval()
    loss_sum, seen = 0.0, 0
    for images, labels in batches:
        logits = model(images).float()
        if accelerator is not None:
            logits, labels = accelerator.gather_for_metrics((logits, labels))
        counts += torch.bincount(labels * n_classes + logits.argmax(1), minlength=n_classes * n_classes)
        loss_sum += float(cross_entropy(logits, labels, reduction="sum"))
        seen += len(labels)
    return loss_sum / max(seen, 1), counts.view(n_classes, n_classes).cpu()


@torch.no_grad()
def recompute_batch_norm_(model: nn.Module, batches: DataLoader, config: TrainingConfig) -> None:
    """Running statistics as plain averages over one more pass of the training batches, the weights as they are now."""
    norms = [module for module in model.modules() if isinstance(module, _NORMS) and module.track_running_stats]
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # torch's word for a plain average
    model.train()
    for images, _ in batches:
        model(_laid_out(images, config))
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum


def _laid_out(images: Tensor, config: TrainingConfig) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if config.channels_last else images


def set_training_mode_(model: nn.Module, batch_norm: str) -> None:
    """Training mode, with batch norm in evaluation mode where its statistics stand still."""
    model.train()
    if batch_norm in ("adapted", "frozen"):
        for module in model.modules():
            if isinstance(module, _NORMS):
                module.eval()


class _Run:
    """What a checkpoint holds: the trained and running state, the optimiser, the schedule, the random states."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LambdaLR,
        order: torch.Generator,
        config: TrainingConfig,
        folder: str | os.PathLike[str] | None,
    ) -> None:
        self.model, self.optimizer, self.schedule, self.order, self.config = model, optimizer, schedule, order, config
        self.path = None if folder is None else Path(folder) / CHECKPOINT_FILE
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        running = {
            name for name in model.state_dict() if name.rpartition(".")[2].startswith(("running_", "num_batches"))
        }
        self.names = sorted(trained | running)

    def keep(self, history: list[dict[str, float]]) -> None:
        if self.path is None:
            return
        weights = self.model.state_dict()
        state: dict[str, Any] = {
            "config": asdict(self.config),
            "history": history,
            "weights": {name: weights[name] for name in self.names},
            "optimizer": self.optimizer.state_dict(),
            "schedule": {key: value for key, value in self.schedule.state_dict().items() if key != "lr_lambdas"},
            "random": {"order": self.order.get_state(), "torch": torch.get_rng_state()},
        }
        with written_whole(self.path) as aside:
            torch.save(state, aside)

    def resume(self) -> list[dict[str, float]]:
        """The history so far, everything else put back in place; empty where there is no checkpoint."""
        if self.path is None or not self.path.exists():
            return []
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state["config"] != asdict(self.config) or sorted(state["weights"]) != self.names:
                raise FiltersubError(
                    f"{self.path} is the checkpoint of other settings; remove it or use another folder"
                )
            self.model.load_state_dict(state["weights"], strict=False)
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict({**self.schedule.state_dict(), **state["schedule"]})
            self.order.set_state(state["random"]["order"])
            torch.set_rng_state(state["random"]["torch"])
        except FiltersubError:
            raise
        except Exception as error:  # damage shows in many ways
            raise FiltersubError(f"{self.path} is damaged ({type(error).__name__}); remove it to start anew") from None
        return state["history"]


def _parameter_groups(model: nn.Module, config: TrainingConfig, head: str | None) -> list[dict[str, Any]]:
    """What trains, the head apart with a rate of its own; the first group is the one whose rate the history shows."""
    trained = [(f".{name}", p) for name, p in model.named_parameters() if p.requires_grad]
    if not trained:
        raise FiltersubError("nothing to train: no parameter of the model requires a gradient")
    in_head = [p for name, p in trained if head is not None and f".{head}." in name]
    others = [p for name, p in trained if head is None or f".{head}." not in name]
    head_rate = config.learning_rate if config.head_learning_rate is None else config.head_learning_rate
    groups = [{"params": others, "lr": config.learning_rate}, {"params": in_head, "lr": head_rate}]
    return [group for group in groups if group["params"]]


def _warm_cosine(warmup: float, total: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total - warmup)))

    return factor


def _precision(asked: str) -> str:
    if asked != "auto":
        return asked
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


def _check_finite(loss: Tensor, epoch: int, folder: object) -> None:
    if not bool(torch.isfinite(loss)):
        kept = f"; the state after epoch {epoch} is kept in {folder}" if folder is not None and epoch else ""
        raise FiltersubError(
            f"the loss became {float(loss.detach())} in epoch {epoch + 1}; lower the learning rate{kept}"
        )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise FiltersubError(f"unknown {name} {value!r}; known: {', '.join(known)}")
