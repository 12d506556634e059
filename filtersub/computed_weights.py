"""Weights that layers compute from other tensors: weight and spectral norm, pruning, any parametrisation, those of this
package among them.
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from .errors import FiltersubError


def current_weight(layer: nn.Module) -> Tensor:
    """The weight that a layer would run with now.

    Weight norm, spectral norm and pruning in torch's older form (hooks) compute it before each forward pass only; what
    lies in ``layer.weight`` meanwhile may be that of other parameters.
    """
    for hook, (refreshed, _) in _weight_hooks(layer):
        return refreshed(hook, layer)
    return weight_in_evaluation(layer)


def weight_in_evaluation(layer: nn.Module) -> Tensor:
    """``layer.weight``, which changes nothing: in training mode each look at it is a step of spectral norm's power
    iteration."""
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.weight
    modules = list(layer.parametrizations["weight"].modules())
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        return layer.weight
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def set_weight(layer: nn.Module, weight: Tensor) -> None:
    """Make a layer run with exactly this weight (stored shape), in place.

    A weight that is computed from other parameters (weight norm, spectral norm, pruning, any parametrisation) becomes a
    plain parameter first. Raises FiltersubError where it is computed in a way that cannot be taken off.
    """
    if parametrize.is_parametrized(layer, "weight"):
        _take_off_parametrisation(layer)
    for _, (_, remove) in _weight_hooks(layer):
        remove(layer)
    check_weight_can_be_set(layer)
    with torch.no_grad():
        layer.weight.copy_(weight)


def _take_off_parametrisation(layer: nn.Module) -> None:
    """torch's remove_parametrizations changes the layer's class, which deep copies share, and the parameters that the
    weight is computed from, which other layers may share; this changes the layer alone."""
    weight, kind = layer.weight.detach().clone(), type(layer)
    own = {name: value for name, value in vars(kind).items() if name not in ("weight", "__dict__", "__weakref__")}
    layer.__class__ = type(kind.__name__, kind.__bases__, own)
    del layer.parametrizations["weight"]
    if not parametrize.is_parametrized(layer):
        del layer.parametrizations
        layer.__class__ = kind.__bases__[0]
    layer.weight = nn.Parameter(weight)


def check_weight_can_be_set(layer: nn.Module, name: str = "") -> None:
    """FiltersubError where set_weight could not give this layer another weight."""
    check_no_inference_tensor(layer, name)
    if "weight" in layer._parameters or parametrize.is_parametrized(layer, "weight") or _weight_hooks(layer):
        return
    words = "computes its weight from other tensors, so a new one would have no effect; make it a plain parameter first"
    raise FiltersubError(f"layer {name!r} ({type(layer).__name__}) {words}")


def check_no_inference_tensor(layer: nn.Module, name: str) -> None:
    """FiltersubError where a tensor of it was made in torch.inference_mode(): such tensors cannot be trained."""
    if torch.is_inference_mode_enabled():
        return
    for own, tensor in itertools.chain(layer.named_parameters(), layer.named_buffers()):
        if not nn.parameter.is_lazy(tensor) and tensor.is_inference():
            what = ".".join(filter(None, (name, own)))
            fix = "take copy.deepcopy(model), or make the model under torch.no_grad()"
            words = "whose tensors can be neither trained nor changed"
            raise FiltersubError(f"{what!r} was made in torch.inference_mode(), {words}; {fix}")


def computes_weight(layer: nn.Module) -> bool:
    """Whether ``layer.weight`` is made from other tensors (norms, pruning, parametrisations) or is no tensor at all, as
    in torch's quantised layers."""
    own = getattr(layer, "weight", None)
    return bool(_weight_hooks(layer)) or parametrize.is_parametrized(layer, "weight") or not isinstance(own, Tensor)


def _weight_hooks(layer: nn.Module) -> list[tuple[Any, tuple[Callable[..., Tensor], Callable[..., object]]]]:
    """Hooks of torch's older kind that compute the weight: each with what computes it now, and what takes it off."""
    known = {
        WeightNorm: (lambda hook, layer: hook.compute_weight(layer), nn.utils.remove_weight_norm),
        SpectralNorm: (lambda hook, layer: hook.compute_weight(layer, False), nn.utils.remove_spectral_norm),
        prune.BasePruningMethod: (
            lambda hook, layer: hook.apply_mask(layer),
            lambda layer: prune.remove(layer, "weight"),
        ),
    }
    return [
        (hook, ways)
        for hook in layer._forward_pre_hooks.values()
        for kind, ways in known.items()
        if isinstance(hook, kind) and getattr(hook, "name", getattr(hook, "_tensor_name", None)) == "weight"
    ]


def parametrize_(layer: nn.Module, name: str, by: nn.Module) -> None:
    """Compute the layer's tensor ``name`` by the module ``by``, after what computes it already."""
    own_class_(layer)
    parametrize.register_parametrization(layer, name, by)


def keep_parametrized_(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Replace each tensor that a parametrization of these kinds computes by its present value."""
    for layer in [module for module in model.modules() if parametrize.is_parametrized(module)]:
        for name in list(layer.parametrizations):
            if any(isinstance(each, kinds) for each in layer.parametrizations[name]):
                own_class_(layer)
                parametrize.remove_parametrizations(layer, name, leave_parametrized=True)


def own_class_(layer: nn.Module) -> None:
    """Give a parametrized layer its class alone; others are left as they are.

    torch gives each parametrized layer a class of its own, with a property for each computed tensor, and changes that
    class later; ``copy.deepcopy`` shares it between the copies, so each change here is made on a fresh class.
    """
    if parametrize.is_parametrized(layer):
        shared = type(layer)
        layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
