"""Generative tuning: denoising networks of diffusers tuned over the filter subspace, beside LoRA and full tuning."""

from .adapters import load_adapter, save_adapter, use_adapter
from .denoising import fit_denoiser
from .denoising_config import DenoisingConfig, DenoisingSet
from .methods import MethodSettings, inject_method

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
