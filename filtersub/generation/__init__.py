"""Generative tuning: denoising networks of diffusers tuned over the filter subspace, beside LoRA and full tuning."""

from .denoising import fit_denoiser
from .methods import MethodSettings, inject_method
from .settings import DenoisingConfig, DenoisingSet
from .tuned import load_adapter, save_adapter, use_adapter

__all__ = [
    "DenoisingConfig",
    "DenoisingSet",
    "MethodSettings",
    "fit_denoiser",
    "inject_method",
    "load_adapter",
    "save_adapter",
    "use_adapter",
]
