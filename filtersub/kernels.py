"""Weights as blocked kernel matrices: one rule for every layer kind, and which layers of a model take part.

Each weight becomes a matrix whose rows are small patches, ``(o p) (i q) *k -> (o i) (p *k q)``: p output channels and
q input channels joined into a patch, (1, 1) for a plain spatial kernel. i counts the input channels of one group, so
grouped and depthwise kernels follow the same rule. Decomposition, counting, tuning and reports speak of this matrix
alone (Chen, Miao and Qiu, arXiv:2403.00269).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from .bare_weights import kernels_by_name
from .computed_weights import computes_weight, weight_in_evaluation
from .errors import FiltersubError, meant
from .kernel_layout import KernelLayout, blocked_layout, check_block_used, compile_pattern
from .kernel_layout import kernel_matrix as kernel_matrix  # offered here too
from .schema import shown
from .settings import check_names

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def layout_of(
    name: str, layer: nn.Module | Tensor, block: int | tuple[int, int] | None = None, block_spatial: bool = False
) -> KernelLayout | None:
    """The layout of one layer, or None where the layer does not take part.

    Spatial kernels always take part, 1x1 kernels and linear layers only where ``block`` is given. ``block`` joins
    channels of 1x1 kernels and linear layers, and of spatial kernels too where ``block_spatial`` is set; a side that
    does not divide its channel count becomes 1. A bare tensor of 2 to 5 dimensions counts as a linear layer or
    convolution. Weights with an empty side, and those of lazy layers that have not run yet, take no part.
    """
    described = _describe(layer)
    if described is None or 0 in described[1].shape:
        return None
    kind, weight, groups = described
    return blocked_layout(KernelLayout(name, kind, tuple(weight.shape), groups), block, block_spatial)


def _describe(layer: nn.Module | Tensor) -> tuple[str, Tensor, int] | None:
    """(kind, weight, groups) of a layer that the rule covers."""
    if isinstance(layer, Tensor):
        if not 2 <= layer.ndim <= 5 or not layer.is_floating_point():
            return None
        return ("linear" if layer.ndim == 2 else f"conv{layer.ndim - 2}d"), layer, 1
    if _is_unrun(layer) or layer._parameters.get("weight", layer) is None:
        return None
    if isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED)):
        kind = "conv" if isinstance(layer, _CONVOLUTIONS) else "conv_transpose"
        weight = weight_in_evaluation(layer)
        return f"{kind}{weight.ndim - 2}d", weight, layer.groups
    if isinstance(layer, nn.Linear):
        return "linear", weight_in_evaluation(layer), 1
    if type(layer).__name__ == "Conv1D" and getattr(layer, "weight", None) is not None and layer.weight.ndim == 2:
        return "conv1d_transformers", layer.weight, 1  # transformers' linear layer with a transposed weight
    return None


def _is_unrun(layer: object) -> bool:
    """Whether it is a lazy layer, which has no shape before it first runs."""
    return isinstance(layer, nn.Module) and isinstance(layer._parameters.get("weight"), nn.UninitializedParameter)


def select_layers(
    model: nn.Module | Mapping[str, Tensor],
    *,
    layers: str | None = None,
    block: int | tuple[int, int] | None = None,
    block_spatial: bool = False,
    exclude: Iterable[str] = (),
) -> dict[str, KernelLayout]:
    """Layouts of the layers that take part, in the model's order.

    Parameters
    ----------
    model : Module, or the tensors of a bare weight file by name
    layers : regular expression searched for in each layer's name
    block, block_spatial : see layout_of
    exclude : names of layers that never take part (the classification head, which is trained whole)

    Raises FiltersubError when the pattern is no regular expression, when nothing is left, or when the block would be 1
    in every layer (check_block_used).
    """
    pattern = None if layers is None else compile_pattern(layers)
    candidates = dict(named_layers(model))
    skipped = set(check_names("exclude", exclude))
    for name in skipped if isinstance(model, nn.Module) else ():
        find_module(model, name)
    found = {}
    for name, layer in candidates.items():
        if name in skipped or (pattern is not None and not pattern.search(name)):
            continue
        layout = layout_of(name, layer, block, block_spatial)
        if layout is not None:
            found[name] = layout
    if not found:
        left_out = [name for name in candidates if name in skipped and (pattern is None or pattern.search(name))]
        is_layer = isinstance(model, nn.Module) and _describe(model) is not None
        alone = "; the model is a layer itself, give nn.Sequential(layer)" if is_layer else ""
        raise FiltersubError(_nothing_selected(candidates, layers, block, left_out) + alone)
    check_block_used(found.values(), block, block_spatial)
    return found


def find_module(model: nn.Module, name: str, what: str = "layer") -> nn.Module:
    """A module of the model by name; FiltersubError with near names where the model has none of that name."""
    check_model(model)
    modules = dict(model.named_modules())
    if not isinstance(name, str) or not name or name not in modules:
        known = [each for each in modules if each]
        hint = meant(name, known, 3) or (f"; its modules are named like {known[-1]!r}" if known else "")
        raise FiltersubError(f"the model has no {what} {shown(name)}{hint}")
    return modules[name]


def check_model(model: object, *, or_tensors: bool = False) -> None:
    """Raises FiltersubError unless the argument is a network of torch, or what a bare file of weights holds where that
    is asked for; a network's name is neither."""
    bare = or_tensors and isinstance(model, Mapping) and all(isinstance(each, Tensor) for each in model.values())
    if not bare and not isinstance(model, nn.Module):
        wanted = "torch.nn.Module or tensors by name" if or_tensors else "torch.nn.Module"
        raise FiltersubError(
            f"model must be a {wanted}, got {shown(model)}; filtersub.load_model makes one by its name"
        )


def untunable(layer: nn.Module) -> str | None:
    """Why an adapter around a layer that can be decomposed would train nothing; None where it would not.

    torch's attention takes the weight of its last layer and never calls the layer. Weight and spectral norm compute the
    weight from other parameters whenever the layer runs. A weight that is a buffer is meant to stay as it is.
    """
    if isinstance(layer, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "attention reads its weight and never runs the layer"
    if "weight" in layer._buffers and not computes_weight(layer):
        return "its weight is a buffer, no parameter"
    if "weight" not in layer._parameters:
        return "its weight is computed from other parameters (weight or spectral norm)"
    return None


def tunable_layers(model: nn.Module | Mapping[str, Tensor], **selection: Any) -> dict[str, KernelLayout]:
    """Those of select_layers, which takes the same ``selection``, that an adapter can train: what a count and a budget
    are of. A bare file of weights does not tell, so that all of its layers are.

    Raises FiltersubError where none can be trained, saying why.
    """
    chosen = select_layers(model, **selection)
    if not isinstance(model, nn.Module):
        return chosen
    reasons = {name: untunable(model.get_submodule(name)) for name in chosen}
    found = {name: layout for name, layout in chosen.items() if reasons[name] is None}
    if not found:
        name, reason = next(iter(reasons.items()))
        raise FiltersubError(f"no layer can be tuned; {name!r}: {reason}")
    return found


def named_layers(model: nn.Module | Mapping[str, Tensor]) -> Iterable[tuple[str, nn.Module | Tensor]]:
    """(name, layer) of a module's submodules, or (name, tensor) of a weight file, its ``.weight`` suffix dropped.

    Of a weight file, only the tensors that are kernels by their names (bare_weights.kernels_by_name).
    """
    if isinstance(model, nn.Module):
        return ((name, module) for name, module in model.named_modules() if name)
    check_model(model, or_tensors=True)
    return ((name.removesuffix(".weight"), tensor) for name, tensor in kernels_by_name(model).items())


def _nothing_selected(
    candidates: dict[str, nn.Module | Tensor], layers: str | None, block: object, left_out: list[str]
) -> str:
    known = [name for name, layer in candidates.items() if layout_of(name, layer, block=1) is not None]
    hint = f"; its layers are named like {', '.join(known[:3])}" if known else "; it has no convolution or linear layer"
    if not known and any(isinstance(layer, Tensor) and layer.ndim > 1 for layer in candidates.values()):
        hint += " of floating-point numbers"
    wanted = "" if layers is None else f" matches {layers!r} and"
    blocks = "" if block is not None else " (1x1 and linear layers take part only with a block)"
    if left_out:
        hint = f"; {left_out[0]!r} is left out (a classification head is trained whole){hint}"
    others = (nn.Bilinear, nn.MultiheadAttention)  # hold matrices which the rule does not reach
    kinds = sorted({type(layer).__name__ for layer in candidates.values() if isinstance(layer, others)})
    if kinds:
        hint += f"; {' and '.join(kinds)} weights are not covered"
    if any(map(_is_unrun, candidates.values())):
        hint += "; run the model once, its lazy layers have no shape yet"
    return f"no layer{wanted} can be decomposed{blocks}{hint}"
