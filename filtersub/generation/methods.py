"""What is trained in a denoising network: nothing, everything, or what an adapter of peft adds; ``methods`` does it."""

from __future__ import annotations

from accelerate.utils import set_seed
from torch import nn

from ..methods import Injected, inject
from .settings import MethodSettings
from .tuned import mark_injected


def inject_method(unet: nn.Module, settings: MethodSettings) -> Injected:
    """Freeze the network and make what the method trains trainable, in place; initial updates follow the seed.

    Raises FiltersubError when no layer matches, or none has the rank of a low-rank method.
    """
    set_seed(settings.seed)
    unet.requires_grad_(settings.method == "full")
    if settings.method == "none":
        return Injected(unet, total=sum(p.numel() for p in unet.parameters()))
    chosen = {"recipe": settings.recipe, "options": settings.options, "layers": f"^(?:{settings.pattern})$"}
    found = inject(unet, settings.method, None, **chosen)
    if settings.method != "full":
        mark_injected(unet)
    return found
