"""Running statistics of normalisation layers, a set for each adapter; the base model's come back when none is active.

Batch norm judges with averages that training moved, spectral norm with vectors of a power iteration that each training
step takes on. Where several adapters share a base, each needs those that it was tuned with, or swapping it in gives
another model than the one that was judged.
"""

from collections.abc import Iterable
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from torch import Tensor, nn

_NAMES = ("running_mean", "running_var", "num_batches_tracked")
_VECTORS = ("_u", "_v", "weight_u", "weight_v")  # of spectral norm, as a parametrisation and in torch's older form


def statistics_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The running statistics among the tensors of a state dict."""
    return {name: value for name, value in state.items() if name.rpartition(".")[2] in (*_NAMES, *_VECTORS)}


class RunningStatistics(nn.Module):
    """The sets of statistics of a model's adapters and of the base model, as buffers that ``state_dict`` holds.

    The set that is shown, at first the base model's, lies in the buffers of the model's own layers, and its buffers
    here are brought up to date whenever they are read.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._place = (model,)  # in a tuple, which keeps it from being a submodule
        self._shown: str | None = None  # None is the base model
        found = statistics_of(dict(model.named_buffers()))
        self._names = frozenset(found)
        self.base = _copies(found)
        self.adapters = nn.ModuleDict()

    def __contains__(self, adapter: str) -> bool:
        return adapter in self.adapters

    def add(self, adapter: str) -> None:
        """A new adapter starts with the statistics of the base model."""
        self.adapters[adapter] = _copies(self.values_of(None))

    def values_of(self, adapter: str | None) -> dict[str, Tensor]:
        """Statistics of an adapter, or the base model's, by their names in the base model."""
        return self._in_place() if adapter == self._shown else self._kept(adapter)

    def changed(self, adapter: str) -> dict[str, Tensor]:
        """Statistics of an adapter that are not the base model's."""
        base = self.values_of(None)
        return {name: value for name, value in self.values_of(adapter).items() if not torch.equal(value, base[name])}

    def set_values(self, adapter: str, values: dict[str, Tensor]) -> None:
        """Overwrite an adapter's statistics, read from a file for one."""
        _copy(values, self.values_of(adapter))

    def switch_to(self, adapters: Iterable[str]) -> None:
        """Put the statistics of the first of these adapters that has some into the model; the base model's else."""
        wanted = next((adapter for adapter in adapters if adapter in self), None)
        if wanted == self._shown:
            return
        self._keep_shown()
        _copy(self.values_of(wanted), self._in_place())
        self._shown = wanted

    def delete(self, adapter: str) -> None:
        """Forget an adapter; the base model's come back where its statistics were in place."""
        if adapter == self._shown:
            self.switch_to(())
        if adapter in self:
            del self.adapters[adapter]

    def watch(self, tuner: nn.Module) -> None:
        """Have the tuner's state_dict and load_state_dict keep sets and adapters together, whichever is shown."""
        tuner.register_state_dict_pre_hook(_keep_shown)
        tuner.register_load_state_dict_pre_hook(_show_loaded)

    def _kept(self, adapter: str | None) -> dict[str, Tensor]:
        """The set of an adapter as it is kept here, by names in the base model."""
        kept = self.base if adapter is None else self.adapters[adapter]
        return {name: kept[_buffer_name(name)] for name in self._in_place()}

    def _keep_shown(self) -> None:
        _copy(self._in_place(), self._kept(self._shown))

    def _in_place(self) -> dict[str, Tensor]:
        """Copies of modules_to_save, which bring statistics of their own, are not among these."""
        return {name: value for name, value in self._place[0].named_buffers() if name in self._names}

    def extra_repr(self) -> str:
        return f"shown: {'the base model' if self._shown is None else self._shown}"


def _copies(statistics: dict[str, Tensor]) -> BufferDict:
    named = ((_buffer_name(name), value.detach().clone()) for name, value in statistics.items())
    return BufferDict(named, persistent=True)


def _buffer_name(name: str) -> str:
    """torch takes no dots in the names of buffers."""
    return name.replace(".", "__")


def _copy(values: dict[str, Tensor], into: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name in into.keys() & values.keys():
            into[name].copy_(values[name])


def _keep_shown(tuner: nn.Module, _prefix: str, _keep_vars: bool) -> None:
    tuner.statistics._keep_shown()


def _show_loaded(tuner: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Let what is loaded into the model's own layers be the loaded set of the adapter that is shown here.

    A state of before these sets were buffers goes where it went: into the model's own layers.
    """
    own, within, statistics = f"{prefix}statistics.", f"{prefix}model.", tuner.statistics
    in_place = statistics._in_place()
    if not any(f"{within}{name}" in state for name in in_place):
        return
    if not any(name.startswith(own) for name in state):
        state.update({f"{own}{name}": value for name, value in statistics.named_buffers()})
        return
    shown = f"{own}base." if statistics._shown is None else f"{own}adapters.{statistics._shown}."
    for name in in_place:
        if f"{shown}{_buffer_name(name)}" in state:
            state[f"{within}{name}"] = state[f"{shown}{_buffer_name(name)}"]
