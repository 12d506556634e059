"""Which layers an adapter, of the installed peft or of this package, can really be put into: each is tried."""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import inject_adapter_in_model
from torch import nn

from ..errors import reason
from ..kernels import untunable
from ..random_states import seeded
from .adapters import adapter_config, add_, merge_added_
from .options import METHODS, MethodOptions
from .probe import copy_on_cpu, example_for, is_near

_ADAPTER = "default"
_EXAMPLES = 8  # enough that no rectified channel is zero in all of them
_DEAD = 1e-5  # of the largest gradient: rounding leaves about 1e-7 where a parameter has no effect


@dataclass(frozen=True)
class Trial:
    """How a trial went: why the layer cannot be taken (None where it can), and whether the result can be merged."""

    refusal: str | None
    merges: bool = False

    @property
    def word(self) -> str:
        return "no" if self.refusal else "yes" if self.merges else "no merge"


def try_adapter(method: str, layer: nn.Module, options: MethodOptions) -> Trial:
    """Put the adapter into a copy of the layer and see, on real numbers, that it does what an adapter promises.

    It must run, leave the output unchanged at the start, give every trained parameter a gradient, and where it merges,
    merge into what it computes. Some adapters are refused by peft, some fail to run, and some compute another function:
    OFT folds the rotated patches of k x k kernels back by adding their overlaps, so that nothing is unchanged.
    No random number is drawn from the global generators.
    """
    if METHODS[method].by_peft and isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return Trial(untunable(layer))
    with seeded(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            trial = _tried(method, copy_on_cpu(layer), replace(options, update_dropout=0.0))
        except Exception as error:  # peft and torch refuse in many ways
            trial = Trial(reason(error, 1000).split("Currently, only")[0].strip()[:160])
    return trial if trial.refusal is None else Trial(untunable(layer) or trial.refusal)


def _tried(method: str, layer: nn.Module, options: MethodOptions) -> Trial:
    example = example_for(layer, _EXAMPLES)
    before = layer(example).detach()
    holder = nn.ModuleDict({"layer": layer}).requires_grad_(False)
    adapted = _injected(method, holder, options)["layer"]
    if not is_near(adapted(example), before):
        return Trial("the output at the start is not the layer's own")
    trained = [p for p in adapted.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.1 * torch.randn_like(parameter))
    after = adapted(example)
    after.square().sum().backward()
    if not trained or any(p.grad is None for p in trained):
        return Trial("not every trained parameter has a gradient")
    largest = max(float(p.grad.abs().max()) for p in trained)
    if any(float(p.grad.abs().max()) <= _DEAD * largest for p in trained):
        return Trial("a trained parameter has no effect on the output")
    if not METHODS[method].by_peft:
        merge_added_(holder)
        if any(p.requires_grad for p in holder.parameters()):
            return Trial(None)
    else:
        try:
            adapted.merge(safe_merge=True)
        except Exception:  # peft says no by several kinds of errors
            return Trial(None)
    if not is_near(adapted(example), after.detach()):
        return Trial("the merged layer computes something else")
    return Trial(None, merges=True)


def _injected(method: str, holder: nn.ModuleDict, options: MethodOptions) -> Any:
    if not METHODS[method].by_peft:
        add_(holder, method, ["layer"], options)
        return holder
    config = adapter_config(method, options, target_modules=["layer"])
    return inject_adapter_in_model(config, holder, _ADAPTER)
