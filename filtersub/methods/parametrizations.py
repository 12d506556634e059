"""Taking torch's parametrizations out of a model again, copies of the model left as they are."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize


def keep_parametrized_(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Replace each tensor that a parametrization of these kinds computes by its present value.

    The layers of a ``copy.deepcopy`` of the model keep their parametrizations.
    """
    for layer in [module for module in model.modules() if parametrize.is_parametrized(module)]:
        for name in list(layer.parametrizations):
            if any(isinstance(each, kinds) for each in layer.parametrizations[name]):
                _own_class_(layer)
                parametrize.remove_parametrizations(layer, name, leave_parametrized=True)


def _own_class_(layer: nn.Module) -> None:
    """Give the layer its class alone: torch removes the property from the class, which deep copies share."""
    shared = type(layer)
    layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
