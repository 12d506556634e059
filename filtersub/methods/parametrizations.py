"""torch's parametrizations put on and taken off, deep copies of the model left as they are.

torch gives each parametrized layer a class of its own, with a property for each computed tensor, and changes that
class later; ``copy.deepcopy`` shares it between the copies, so each change here is made on a fresh class.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize


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
    """Give a parametrized layer its class alone; others are left as they are."""
    if parametrize.is_parametrized(layer):
        shared = type(layer)
        layer.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
