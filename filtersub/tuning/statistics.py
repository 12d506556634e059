"""Running statistics of normalisation layers, a set for each adapter; the base model's come back when none is active.

Batch norm judges with averages that training moved. Where several adapters share a base, each needs the averages that
it was tuned with, or swapping it in gives another model than the one that was judged.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_NAMES = ("running_mean", "running_var", "num_batches_tracked")


def statistics_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The running statistics among the tensors of a state dict."""
    return {name: value for name, value in state.items() if name.rpartition(".")[2] in _NAMES}


class RunningStatistics:
    """The sets of statistics of a model's adapters, of which one lies in the model's own buffers.

    Parameters
    ----------
    model : the base model, with its own statistics in place
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._shown: str | None = None  # None is the base model
        self._aside: dict[str | None, dict[str, Tensor]] = {}

    def __contains__(self, adapter: str) -> bool:
        return adapter == self._shown or adapter in self._aside

    def add(self, adapter: str) -> None:
        """A new adapter starts with the statistics of the base model."""
        self._aside[adapter] = {name: value.clone() for name, value in self.of(None).items()}

    def of(self, adapter: str | None) -> dict[str, Tensor]:
        """Statistics of an adapter, or the base model's, by their names in the base model."""
        return self._in_place() if adapter == self._shown else self._aside[adapter]

    def changed(self, adapter: str) -> dict[str, Tensor]:
        """Statistics of an adapter that are not the base model's."""
        base = self.of(None)
        return {name: value for name, value in self.of(adapter).items() if not torch.equal(value, base[name])}

    def give(self, adapter: str, values: dict[str, Tensor]) -> None:
        """Overwrite an adapter's statistics, read from a file for one."""
        mine = self.of(adapter)
        with torch.no_grad():
            for name in mine.keys() & values.keys():
                mine[name].copy_(values[name])

    def show(self, adapters: Iterable[str]) -> None:
        """Put the statistics of the first of these adapters that has some into the model; the base model's else."""
        wanted = next((adapter for adapter in adapters if adapter in self), None)
        if wanted == self._shown:
            return
        mine = self._in_place()
        self._aside[self._shown] = {name: value.clone() for name, value in mine.items()}
        with torch.no_grad():
            for name, value in self._aside.pop(wanted).items():
                mine[name].copy_(value)
        self._shown = wanted

    def delete(self, adapter: str) -> None:
        """Forget an adapter; the base model's come back where its statistics were in place."""
        if adapter == self._shown:
            self.show(())
        self._aside.pop(adapter, None)

    def _in_place(self) -> dict[str, Tensor]:
        return statistics_of(dict(self._model.named_buffers()))
