"""A method's count over a whole model: which layers take part, what each trains, the head, the sum."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor, nn

from ..decomposition import DecompositionConfig, plan_layers
from ..errors import FiltersubError, check_name
from ..kernel_layout import compile_pattern
from ..kernels import check_model, named_layers, select_layers, untunable
from ..models import head_name, is_inside
from ..settings import check_kind
from . import formulas
from .architectures import load_architecture
from .baselines import FEATURE_METHODS, LAYER_RULES, METHODS, BaselineOptions
from .result import ADAM_STATES, BYTES, LayerCount, ParameterCount


def count_parameters(
    model: str | nn.Module | Mapping[str, Tensor],
    method: str = "filter-subspace",
    *,
    recipe: DecompositionConfig | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    rank: int = 16,
    options: BaselineOptions | None = None,
    layers: str | None = None,
    num_classes: int | None = None,
    name: str | None = None,
) -> ParameterCount:
    """Count what ``method`` trains, from shapes alone.

    Parameters
    ----------
    model : a name for load_architecture (built on the meta device: no weights, no memory), a module, or the tensors of
        a bare file of weights
    method : a name in METHODS
    recipe : of the decomposition, for "filter-subspace" and "coefficients"
    overrides : settings of the recipe by pattern of layer names, as in FilterSubspaceConfig
    rank : of the low-rank methods; ``options`` says it too, with the block sizes of the rotations
    layers : regular expression of layer names
    num_classes : classes of a new head
    name : what the model is called in the result; default its name, or its class

    Raises FiltersubError for unknown methods and names, where no layer takes part, for blocks that divide the
    channels of none, and for overrides that match no layer or conflict.

    >>> count_parameters("resnet18").trainable
    1737
    """
    check_name("method", method, METHODS)
    options, recipe = options or BaselineOptions(rank=rank), recipe or DecompositionConfig()
    check_kind("options", options, BaselineOptions)
    check_kind("recipe", recipe, DecompositionConfig)
    name = name or (model if isinstance(model, str) else type(model).__name__)
    module = load_architecture(model, num_classes=num_classes) if isinstance(model, str) else model
    head, total, in_head = _head_and_total(module)
    if method == "linear":
        return ParameterCount(name, method, 0, in_head, total)
    if method == "full":
        return ParameterCount(name, method, total - in_head, in_head, total)
    if method in FEATURE_METHODS:
        counted = tuple(feature_shares(module, method, layers, head))
    else:
        counted = tuple(_kernels(module, method, recipe, overrides, options, layers, head))
    counted = tuple(layer for layer in counted if layer.trainable)
    return ParameterCount(name, method, sum(layer.trainable for layer in counted), in_head, total, counted)


def compare_methods(
    model: str | nn.Module | Mapping[str, Tensor],
    methods: Sequence[str] | None = None,
    *,
    num_classes: int | None = None,
    **settings: Any,
) -> tuple[ParameterCount, ...]:
    """One count a method, all of one model, which is built once; settings as in count_parameters.

    ``methods`` None takes all that the model allows: a bare file of weights knows no biases and norms of its layers.
    """
    if isinstance(model, str):
        settings.setdefault("name", model)
    module = load_architecture(model, num_classes=num_classes) if isinstance(model, str) else model
    if methods is None:
        methods = [name for name in METHODS if isinstance(module, nn.Module) or name not in FEATURE_METHODS]
    return tuple(count_parameters(module, method, **settings) for method in methods)


def comparison_table(counts: Sequence[ParameterCount]) -> pd.DataFrame:
    """One row a method: layers, trainable, fraction (of the model), head, coefficients, adapter_bytes, adam_bytes.

    Bytes are those of float32 numbers, head included: what is saved, and the two numbers a parameter that Adam holds.
    """
    rows = [
        {
            "method": count.method,
            "layers": len(count.layers),
            "trainable": count.trainable,
            "fraction": count.fraction,
            "head": count.head,
            "coefficients": count.coefficients,
            "adapter_bytes": BYTES * (count.trainable + count.head),
            "adam_bytes": ADAM_STATES * BYTES * (count.trainable + count.head),
        }
        for count in counts
    ]
    return pd.DataFrame(rows)


def count_trained(model: nn.Module, head: str, name: str, method: str, total: int) -> ParameterCount:
    """What requires a gradient in a model as it stands, the head (by its name before injection) apart."""
    trained = {key: p.numel() for key, p in model.named_parameters() if p.requires_grad}
    in_head = sum(n for key, n in trained.items() if is_inside(key, head))
    return ParameterCount(name, method, sum(trained.values()) - in_head, in_head, total)


def _head_and_total(module: nn.Module | Mapping[str, Tensor]) -> tuple[str | None, int, int]:
    check_model(module, or_tensors=True)
    if not isinstance(module, nn.Module):
        return None, sum(tensor.numel() for tensor in module.values()), 0
    lazy = next((n for n, p in module.named_parameters() if isinstance(p, nn.UninitializedParameter)), None)
    if lazy is not None:
        raise FiltersubError(f"{lazy} has no shape before its lazy layer first runs; run the model once, then count it")
    head = head_name(module)
    in_head = 0 if head is None else sum(p.numel() for p in module.get_submodule(head).parameters())
    return head, sum(p.numel() for p in module.parameters()), in_head


def _kernels(
    module: nn.Module | Mapping[str, Tensor],
    method: str,
    recipe: DecompositionConfig,
    overrides: Mapping[str, Mapping[str, Any]] | None,
    options: BaselineOptions,
    layers: str | None,
    head: str | None,
) -> Iterator[LayerCount]:
    """Shares of convolutions and linear layers."""
    exclude, modules = () if head is None else (head,), dict(named_layers(module))
    if method not in ("filter-subspace", "coefficients"):
        for name, layout in select_layers(module, layers=layers, block=1, exclude=exclude).items():
            share = LAYER_RULES[method](layout, modules[name], options)  # the baselines take pointwise layers whole
            yield LayerCount(name, layout.kind, layout.shape, 0, share, block=layout.block)
        return
    plan = plan_layers(module, recipe, layers=layers, exclude=exclude, overrides=overrides, one_override=True)
    for name, layer in plan.items():
        if not isinstance(modules[name], nn.Module) or untunable(modules[name]) is None:
            layout, own = layer.layout, layer.recipe
            n_atoms, stored = own.n_atoms(layout), formulas.coefficients(layout, own)
            of_alpha = layout.n_rows * n_atoms if method == "coefficients" else 0
            trained = formulas.trained(layout, own) + of_alpha
            yield LayerCount(name, layout.kind, layout.shape, n_atoms, trained, stored, layout.block)


def feature_shares(
    module: nn.Module | Mapping[str, Tensor], method: str, layers: str | None, head: str | None
) -> Iterator[LayerCount]:
    """Shares of biases, of normalisation layers, or of a scale and shift after each layer."""
    if not isinstance(module, nn.Module):
        raise FiltersubError(f"a bare file of weights has no architecture to count {method} in; name the model")
    pattern = compile_pattern(layers or "")
    try:
        kernels = select_layers(module, layers=layers, block=1, exclude=() if head is None else (head,))
    except FiltersubError:  # the pattern may name normalisation layers alone
        kernels = {}
    for name, layer in module.named_modules():
        inside_head = head is not None and (name == head or name.startswith(f"{head}."))
        own = dict(layer.named_parameters(recurse=False))
        kernel = kernels.get(name)
        if inside_head or (kernel is None and not own) or not pattern.search(name):
            continue
        # by its class name: every library has normalisation classes of its own
        is_norm = "norm" in type(layer).__name__.lower() and all(p.ndim <= 1 for p in own.values())
        share = 0
        if method == "bitfit":
            share = own["bias"].numel() if own.get("bias") is not None else 0
        elif method == "norm":
            share = sum(p.numel() for p in own.values()) if is_norm else 0
        elif kernel is not None:
            share = 2 * kernel.channels[0]
        elif is_norm:
            share = 2 * max(p.numel() for p in own.values())
        kind = kernel.kind if kernel is not None else type(layer).__name__
        shape = tuple(next(iter(own.values())).shape) if own else kernel.shape
        yield LayerCount(name, kind, shape, 0, share)
