"""The loop, whatever is trained for: steps of an optimiser, an average of the weights, a checkpoint after each round of
steps, exact resume.
"""

import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..errors import LossNotFinite
from ..folded_norms import Pairs
from ..memory import PeakMemory
from .accelerator import new_accelerator
from .activations import needed_activations
from .checkpoint import Checkpoint
from .config import OptimizationConfig
from .optimizers import Chosen, factor_at
from .rank_allocation import allocation_of

Row = dict[str, float]


class MovingAverage:
    """Averages of the trained parameters alone: ``a <- d a + (1 - d) p`` after each step.

    With ``warmup`` d is at step t at most t / (t + lag).
    Polyak and Juditsky, SIAM J. Control and Optimization 30(4), 1992.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float, *, warmup: bool = True, lag: int = 10) -> None:
        self.parameters, self.decay, self.warmup, self.lag, self.steps = list(parameters), decay, warmup, lag, 0
        self.averages = [p.detach().clone() for p in self.parameters]

    @property
    def effective_decay(self) -> float:
        """The decay of the last step: below ``decay`` while the warm-up lasts."""
        return min(self.decay, self.steps / (self.steps + self.lag)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        get_ema_multi_avg_fn(self.effective_decay)(self.averages, [p.detach() for p in self.parameters], None)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages in place of the parameters, for judging."""
        own = [p.detach().clone() for p in self.parameters]
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(own)

    def settle(self) -> None:
        """The averages become the parameters."""
        self._put(self.averages)

    def state_dict(self) -> dict[str, object]:
        return {"steps": self.steps, "averages": self.averages}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.steps = int(state["steps"])
        self.averages = [a.to(p.device, p.dtype) for a, p in zip(state["averages"], self.parameters, strict=True)]

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


@dataclass(frozen=True, kw_only=True)
class LoopResult:
    """What every training leaves behind, beside the trained network.

    Attributes
    ----------
    history : one row an epoch or step
    seconds_per_step : median over all steps of this process; nan where there was none
    peak_memory_bytes : of the GPU's allocator, or the largest resident set of the process on a CPU
    added_memory_bytes : the same without what was there before the first step (model, libraries and data)
    untouched : names of trained parameters that no gradient ever reached: the model does not use them where they are
    ema_decay_reached : decay of the average of the weights in the last step, below ``ema_decay`` while its warm-up
        lasts; None where there is no average
    optimizer_note : where and how often the optimiser had to take other steps than its own; empty for most
    """

    history: list[Row]
    seconds_per_step: float
    peak_memory_bytes: int
    added_memory_bytes: int
    device: str
    mixed_precision: str
    processes: int
    untouched: tuple[str, ...]
    ema_decay_reached: float | None
    optimizer_note: str


class Loop(ABC):
    """Trains what requires a gradient in a network; a subclass says on which batches, with what loss, what is recorded.

    A subclass calls ``begin`` before ``run``. Each row that it adds to the history is of one ``unit``.

    Attributes
    ----------
    raw, model : the network, and as accelerate prepared it, which is what computes
    progress : what a checkpoint keeps beside weights, optimiser, schedule, average and random states
    resumed : rows that a checkpoint had
    durations : seconds of each step of this process
    rate : learning rate of the last step
    order : generator for the order of batches; the checkpoint has its state
    keeps_needed : whether steps run within needed_activations; a compiled network does not
    folded : the batch norms that needed_activations folds into convolutions; None before they are looked for
    """

    unit: str
    keeps_needed: bool = True
    folded: Pairs | None = None

    def __init__(
        self,
        model: nn.Module,
        config: OptimizationConfig,
        *,
        head: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        """``options`` are accelerate's. Raises FiltersubError where nothing requires a gradient."""
        self.raw, self.config, self.folder = model, config, folder
        self.accelerator = new_accelerator(config.precision, **options)
        model.to(self.accelerator.device)
        self.chosen = Chosen(model, config, head)
        self.trained = [p for group in self.chosen.groups for p in group["params"]]
        self.average = None
        if config.ema_decay is not None:
            average = {"warmup": config.ema_warmup, "lag": config.EMA_LAG}
            self.average = MovingAverage(self.trained, config.ema_decay, **average)
        set_seed(config.seed + self.accelerator.process_index)
        self.order = torch.Generator().manual_seed(config.seed)
        self.progress: dict[str, Any] = {"history": []}
        self.durations: list[float] = []

    def begin(self, steps: int, warmup: float, settings: Mapping[str, Any]) -> None:
        """Set the schedule for so many steps, and go on where the folder's checkpoint is.

        Raises FiltersubError where the checkpoint is damaged, or of other ``settings`` or another configuration.
        """
        optimizer = self.chosen.optimizer
        factors = [factor_at(self.config, group["lr"], warmup, steps) for group in self.chosen.groups]
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        self.allocation = allocation_of(self.raw, self.config, steps)
        parts = {"optimizer": optimizer, "schedule": self.schedule, "allocation": self.allocation}
        parts |= {"scaler": self.accelerator.scaler, "average": self.average}
        self.checkpoint = Checkpoint(
            self.folder,
            self.raw,
            {name: part for name, part in parts.items() if part is not None},
            self.order,
            {**settings, **self.config.identity},
            self.accelerator,
        )
        self.progress |= self.checkpoint.resume()
        self.resumed = self._kept = len(self.history)
        self.accelerator.wait_for_everyone()  # all have read the checkpoint before the first one writes another
        self.model, self.optimizer = self.accelerator.prepare(self.raw, optimizer)

    @property
    def history(self) -> list[Row]:
        return self.progress["history"]

    @property
    @abstractmethod
    def is_done(self) -> bool: ...

    @abstractmethod
    def batches(self) -> Iterable[Any]:
        """Those of one round, after which a checkpoint is kept."""

    @abstractmethod
    def tensors(self, batch: Any) -> tuple[Tensor, ...]:
        """This process's share of a batch, all of one length, on the device."""

    @abstractmethod
    def loss(self, *part: Tensor) -> Tensor:
        """Mean loss of these tensors, or of a part of each."""

    @abstractmethod
    def after_step(self, own: float, everywhere: float) -> None:
        """``own`` is the mean loss of this process's share, ``everywhere`` the mean over the processes."""

    def end_round(self) -> None:
        """Keeps a checkpoint."""
        self.checkpoint.save(self.progress)
        self._kept = len(self.history)

    @property
    def where(self) -> str:
        """Where in a unit the loop is, in words that follow the unit's number."""
        return ""

    def run(self) -> None:
        with PeakMemory(self.accelerator.device) as self.memory:
            while not self.is_done:
                for batch in self.batches():
                    began = time.perf_counter()
                    with self.quickly():
                        losses = self._step(batch)
                    self.durations.append(time.perf_counter() - began)
                    self.after_step(*losses)
                self.end_round()

    def quickly(self) -> AbstractContextManager[None]:
        """Within it steps and judging take less memory and time; their numbers are the same to rounding."""
        return needed_activations(self.folded) if self.keeps_needed else nullcontext()

    def _step(self, batch: Any) -> tuple[float, float]:
        """What after_step is told; the weights are moved."""
        self.rate = self.schedule.get_last_lr()[0]
        whole = self.tensors(batch)
        parts = list(zip(*(tensor.chunk(self.config.accumulation) for tensor in whole), strict=True))
        losses = []
        for number, part in enumerate(parts, start=1):
            share = len(part[0]) / len(whole[0])
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.model):
                loss = self.loss(*part)
                if len(parts) > 1:
                    loss = loss * share
                losses.append(loss.detach())
                if self.allocation is not None:
                    loss = loss + self.allocation.penalty() * share
                self.accelerator.backward(loss)
        total = sum(losses[1:], losses[0])
        own = everywhere = float(total)
        if self.accelerator.num_processes > 1:
            everywhere = float(self.accelerator.reduce(total, "mean"))
        self.check_finite(everywhere, "loss", self.where)
        if self.config.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.trained, self.config.clip_norm)
        self.optimizer.step()
        if self.allocation is not None:
            self.allocation.update()
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update()
        return own, everywhere

    def check_finite(self, value: float, what: str, where: str = "") -> None:
        """Raises LossNotFinite, which says where, of which weights, and which checkpoint stays."""
        if math.isfinite(value):
            return
        named = ((name, p) for name, p in self.raw.named_parameters() if p.requires_grad)
        spoilt = next((name for name, p in named if not bool(torch.isfinite(p).all())), None)
        weights = "" if spoilt is None else f", where {spoilt} is not finite"
        is_kept = self.folder is not None and self._kept
        kept = f"; the state after {self.unit} {self._kept} is kept in {self.folder}" if is_kept else ""
        raise LossNotFinite(
            f"the {what} became {value} in {self.unit} {len(self.history) + 1}{where}{weights}; lower the learning "
            f"rate, or set clip_norm{kept}"
        )

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network has the average of its weights within, its own after; nothing happens where there is none."""
        with nullcontext() if self.average is None else self.average.in_place():
            yield

    def finish(self) -> None:
        """Take the network out of accelerate's wrappers, on all processes."""
        self.accelerator.wait_for_everyone()
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)

    def measured(self) -> dict[str, Any]:
        """The fields of LoopResult."""
        moved = self.optimizer.optimizer.state  # an optimiser keeps moments of whatever it has once seen a gradient of
        untouched = [name for name, p in self.raw.named_parameters() if p.requires_grad and p not in moved]
        return {
            "history": self.history,
            "seconds_per_step": float(torch.tensor(self.durations).median()) if self.durations else math.nan,
            "peak_memory_bytes": self.memory.bytes,
            "added_memory_bytes": self.memory.added_bytes,
            "device": str(self.accelerator.device),
            "mixed_precision": self.accelerator.mixed_precision,
            "processes": self.accelerator.num_processes,
            "untouched": tuple(untouched),
            "ema_decay_reached": None if self.average is None else self.average.effective_decay,
            "optimizer_note": self.chosen.note,
        }
