"""Which layers of a model an adapter wraps: names, patterns, and presets by short names."""

import re
from collections.abc import Callable

from peft.tuners.tuners_utils import BaseTunerLayer, _ExcludedModule, check_target_module_exists
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from ..computed_weights import check_no_inference_tensor
from ..decomposition import DecompositionConfig
from ..decomposition.plan import check_blocks_used, check_matched
from ..errors import FiltersubError, meant
from ..kernels import KernelLayout, layout_of, untunable
from ..models import head_name
from .config import FilterSubspaceConfig
from .layer import FilterSubspaceLayer

Wanted = Callable[[str, KernelLayout], bool]
_SHOWN = 120  # characters of a pattern in a message: that of a saved adapter names every layer


def _named(pattern: str) -> Wanted:
    compiled = re.compile(pattern)
    return lambda name, layout: compiled.search(name) is not None


#: preset -> which layers it means, by (full name, layout). Stages are those of timm's and torchvision's ResNets
#: (layer1 to layer4), timm's and transformers' ConvNeXt and transformers' ResNet (stages.0 to stages.3), RegNets (s1 to
#: s4) and whatever says stage1 to stage4; "unet-resnets" are the residual blocks of a diffusers UNet.
PRESETS: dict[str, Wanted] = {
    "spatial": lambda name, layout: layout.is_spatial,
    "pointwise": lambda name, layout: not layout.is_spatial,
    "depthwise": lambda name, layout: layout.is_spatial and layout.channels[1] == 1,
    **{f"stage{n}": _named(rf"(^|\.)(layer{n}|stages\.{n - 1}|stages_{n - 1}|stage_?{n}|s{n})\.") for n in range(1, 5)},
    "unet-resnets": _named(r"(^|\.)(down_blocks|mid_block|up_blocks)\.(\d+\.)?resnets\."),
}


def participants(model: nn.Module, config: FilterSubspaceConfig) -> list[str]:
    """Full names of the layers to wrap, in the model's order; layers that another tuner has wrapped are left to it, and
    layers that cannot be tuned (see untunable) are passed over.

    Raises FiltersubError where there is none, naming layers, and presets, that could be meant, and where a block would
    be 1 in every layer, but for adapters that were saved so.
    """
    check_no_inference_tensor(model, "")
    head = head_name(model) if config.target_modules is None else None
    targets = config.target_modules
    preset = PRESETS.get(targets) if isinstance(targets, str) else None
    named = _matcher(config, ".*" if targets is None or preset is not None else targets)
    kept = _matcher(config, ".*")
    able, first, chosen, passed, left_out = [], {}, {}, {}, {}
    taken: list[tuple[KernelLayout, DecompositionConfig]] = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules(remove_duplicate=False):
        if not name or name.startswith(inside):
            continue
        first.setdefault(id(module), name)  # of the places of one module peft knows the first
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            inside = (*inside, f"{name}.")
            if not isinstance(module, FilterSubspaceLayer):
                continue
        base = module.get_base_layer() if isinstance(module, FilterSubspaceLayer) else module
        if layout_of(name, base, block=1) is None:
            continue
        recipe = config.recipe_of(first[id(module)])
        layout = layout_of(name, base, **recipe.kernel_blocks)
        if layout is None:
            continue
        reason = untunable(base)
        if name == head or not kept(name):
            left_out[id(module)] = name
        if name == head:
            continue
        if reason is None:
            able.append(name)
        if named(name) and (preset is None or preset(name, layout)):
            if reason is None:
                _check_numbers(name, base)
                chosen[id(module)] = first[id(module)]
                taken.append((layout, recipe))
            else:
                passed[name] = reason
    for module, name in left_out.items():
        if module in chosen:
            raise FiltersubError(
                f"layers {chosen[module]!r} and {name!r} are one module, of which the second is left out "
                "(exclude_modules, modules_to_save, or the head); leave both out or neither"
            )
    if not chosen:
        raise FiltersubError(_nothing(config, able, passed))
    check_matched(config.overrides or (), list(chosen.values()), "the override of")
    if not config.was_saved:
        check_blocks_used(taken)
    return list(chosen.values())


def _matcher(config: FilterSubspaceConfig, targets: list[str] | str) -> Callable[[str], bool]:
    """Whether peft takes a layer, by its name, for one of ``targets`` that the config does not leave out."""
    asked = FilterSubspaceConfig(
        target_modules=targets, exclude_modules=config.exclude_modules, modules_to_save=config.modules_to_save
    )

    def matches(name: str) -> bool:
        found = check_target_module_exists(asked, name)
        return bool(found) and not isinstance(found, _ExcludedModule)

    return matches


def _check_numbers(name: str, layer: nn.Module) -> None:
    """FiltersubError where the weight is no plain matrix of floating-point numbers that could be tuned."""
    weight = layer.weight
    plain = type(weight.data) in (Tensor, FakeTensor) or isinstance(weight, FunctionalTensor)
    if not plain or not weight.is_floating_point():
        raise FiltersubError(
            f"layer {name!r} has a weight of type {type(weight.data).__name__}, {weight.dtype} (quantised or sharded), "
            "which cannot be decomposed; make the adapter on the plain weights, or leave the layer out"
        )


def as_pattern(names: list[str]) -> str:
    """One regular expression of exactly these names.

    A list would not do: peft matches its entries as endings too, and ``conv1`` then means every block's conv1.
    """
    return "|".join(re.escape(name) for name in names)


def _nothing(config: FilterSubspaceConfig, able: list[str], passed: dict[str, str]) -> str:
    shown = repr(config.target_modules)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    wanted = f"target_modules {shown} match" if config.target_modules else "there is"
    blocks = "" if config.block is not None else " (1x1 and linear layers take part only with a block)"
    reasons = "".join(f"; {name}: {reason}" for name, reason in list(passed.items())[:1])
    known = f"; layers that could: {', '.join(able[:5])}" if able else ""
    targets = config.target_modules or []
    asked = targets if isinstance(targets, list) else [str(targets)]
    hints = dict.fromkeys(meant(each, [*PRESETS, *able], 2) for each in asked)
    return f"{wanted} no layer that can be tuned{reasons or blocks}{known}{''.join(hints)}"
