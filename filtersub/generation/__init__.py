"""Generative tuning: denoising networks of diffusers tuned over the filter subspace, beside LoRA and full tuning."""

from ..lazy import lazy_attributes

__all__, __getattr__, __dir__ = lazy_attributes(
    __name__,
    denoising=("fit_denoiser",),
    settings=("DenoisingConfig", "DenoisingSet", "MethodSettings"),
    tuned=("inject_method", "load_adapter", "save_adapter", "use_adapter"),
)
