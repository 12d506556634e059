"""Exponential moving averages of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


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
