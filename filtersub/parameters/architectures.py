"""Architectures by name on the meta device: no weights, no memory, no network."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import FiltersubError, meant
from ..models import load_model
from ..weight_file import is_weight_file, load_weight_file

#: The config.json of each checkpoint's UNet, where it differs from the defaults of UNet2DConditionModel.
UNETS: dict[str, dict[str, Any]] = {
    "stable-diffusion-1.4": {"sample_size": 64, "cross_attention_dim": 768},
    "stable-diffusion-1.5": {"sample_size": 64, "cross_attention_dim": 768},
    "stable-diffusion-2.1": {
        "sample_size": 96,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
    "stable-diffusion-xl": {
        "sample_size": 128,
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


@lru_cache(maxsize=32)
def architecture(model: str, classes: int | None) -> nn.Module:
    """load_architecture, once a process; meta tensors take no memory and nothing changes them.

    Raises FiltersubError for a file of weights too.
    """
    found = load_architecture(model, num_classes=classes)
    if not isinstance(found, nn.Module):
        raise FiltersubError(f"{model} is a file of weights, without an architecture; name a model, and it as weights")
    return found


def load_architecture(
    name: str, *, num_classes: int | None = None, layout: str = "auto"
) -> nn.Module | dict[str, Tensor]:
    """A model on the meta device, or the tensors of a bare file of weights.

    Parameters
    ----------
    name : a name for load_model, ``diffusers:`` and a name in UNETS or a class of diffusers at its defaults
        (``diffusers:UNet2DModel``), ``transformers:`` and a model type or a folder with config.json
        (``transformers:convnext``), or a file of weights (no architecture: its tensors are the layers)
    num_classes : classes of a new head
    layout : of a file of weights, see load_weight_file

    Raises FiltersubError for unknown names, with the nearest known ones.
    """
    source, _, rest = name.partition(":")
    if is_weight_file(name):
        if num_classes is not None:
            raise FiltersubError(f"{name} is a bare file of weights: it has no head whose classes could be set")
        return load_weight_file(name, layout=layout)
    if layout != "auto":
        raise FiltersubError(f"a layout of kernels is for a bare file of weights, and {name} is none")
    if source == "transformers" and rest:
        return _transformers(rest, num_classes)
    if source == "diffusers" and rest and not Path(rest).is_dir():
        if num_classes is not None:
            raise FiltersubError(f"{name} has no classification head whose classes could be set")
        return _diffusers(rest)
    return load_model(name, device="meta", num_classes=num_classes)


def _diffusers(name: str) -> nn.Module:
    try:
        import diffusers
    except ImportError:
        raise FiltersubError("models of diffusers need that package: pip install diffusers") from None
    with torch.device("meta"):
        if name in UNETS:
            return diffusers.UNet2DConditionModel(**UNETS[name]).eval()
        found = getattr(diffusers, name, None)
        if isinstance(found, type) and issubclass(found, diffusers.ModelMixin):
            try:
                return found().eval()
            except TypeError as error:
                raise FiltersubError(f"diffusers:{name} has no defaults for all its settings: {error}") from None
    raise FiltersubError(f"no folder and no architecture diffusers:{name}{_meant(name, list(UNETS))}")


def _transformers(name: str, num_classes: int | None) -> nn.Module:
    try:
        from transformers import AutoConfig, AutoModel, AutoModelForImageClassification
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    except ImportError:
        raise FiltersubError("models of transformers need that package: pip install transformers") from None
    if Path(name).is_dir():
        config = AutoConfig.from_pretrained(name)
    elif name in CONFIG_MAPPING_NAMES:
        config = AutoConfig.for_model(name)
    else:
        meant = _meant(name, list(CONFIG_MAPPING_NAMES))
        hub = " (names of the hub are not fetched: save the model, name its folder)" if "/" in name else ""
        raise FiltersubError(f"no folder and no model type transformers:{name}{hub}{meant}")
    if num_classes is not None:
        config.num_labels = num_classes
    with torch.device("meta"):
        for kind in (AutoModelForImageClassification, AutoModel):
            try:
                return kind.from_config(config).eval()
            except ValueError:  # this kind of model has no such head
                continue
    raise FiltersubError(f"transformers:{name} has no model that could be built from its configuration")


def _meant(name: str, known: list[str]) -> str:
    within = [part for part in re.split(r"[^a-z0-9]+", name.lower()) if part in known]  # convnext in org/convnext-tiny
    close = meant(within[0], within) if within else meant(name, known, 3)
    return close or f"; known: {', '.join(sorted(known)[:8])}"
