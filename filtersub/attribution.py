"""Where a network looks: Grad-CAM of a layer, and the share of the image that is active in it, over many images."""

import torch
from torch import Tensor, nn

from .errors import FiltersubError
from .kernels import check_model, find_module
from .schema import shown
from .settings import check_labels, check_whole

#: Where the first block of a network is, by its usual names: ResNets, EfficientNets, ConvNeXts, torchvision's.
FIRST_BLOCKS = ("layer1", "blocks.0", "stages.0", "encoder.stages.0", "features.1")


def first_block(model: nn.Module) -> str:
    """Name of the first block after the stem. Raises FiltersubError where it has none of the usual names."""
    names = dict(model.named_modules())
    for name in FIRST_BLOCKS:
        if name in names:
            return name
    near = ", ".join(name for name in names if name and name.count(".") < 2)
    raise FiltersubError(f"no first block by its usual name in {type(model).__name__}; name a layer of: {near[:200]}")


def grad_cam(
    model: nn.Module,
    images: Tensor,
    *,
    layer: str | None = None,
    labels: Tensor | None = None,
    batch_size: int = 32,
) -> Tensor:
    """Grad-CAM (n, height, width) of each image, 0..1 by its own smallest and largest value, at the images' size.

    The positive part of the layer's maps, weighted by the mean gradient of one class score (Selvaraju et al., ICCV
    2017, arXiv:1610.02391), as the package grad-cam computes it. A map that is zero everywhere stays zero.

    Parameters
    ----------
    model : images (n, 3, h, w) to scores (n, n_classes); judged in evaluation mode, its weights and gradients untouched
    images : Tensor (n, 3, height, width) as the model takes them
    layer : name of a module; default the first block
    labels : Tensor (n,) of the classes whose scores count; default each image's predicted class

    Raises FiltersubError for a layer that is not there, for labels that are no classes or not one an image, and where
    the package grad-cam is missing.
    """
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        fix = "pip install 'filtersub[attribution]'"
        raise FiltersubError(f"class activation maps need the package grad-cam ({error}): {fix}") from None
    check_whole("batch_size", batch_size, 1)
    check_model(model)
    if not isinstance(images, Tensor) or images.ndim != 4 or not len(images):
        raise FiltersubError(f"images must be a tensor (n, 3, height, width), got {_shape(images)}")
    target = find_module(model, first_block(model) if layer is None else layer)
    parameters = list(model.parameters())
    trained = [parameter.requires_grad for parameter in parameters]
    was_training, device = model.training, parameters[0].device
    model.eval().requires_grad_(False)  # gradients then flow through the maps alone
    maps = []
    try:
        if labels is not None:
            with torch.no_grad():
                n_classes = model(images[:1].to(device)).shape[-1]
            targets = [ClassifierOutputTarget(label) for label in check_labels(labels, len(images), n_classes)]
        with GradCAM(model, [target]) as cam:
            for first in range(0, len(images), batch_size):
                some = slice(first, first + batch_size)
                batch = images[some].detach().to(device).requires_grad_(True)
                maps.append(torch.from_numpy(cam(batch, None if labels is None else targets[some])))
    finally:
        model.train(was_training)
        for parameter, own in zip(parameters, trained, strict=True):
            parameter.requires_grad_(own)
    return torch.cat(maps)


def _shape(images: object) -> str:
    return f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else shown(images)


def active_share(maps: Tensor, threshold: float = 0.5) -> Tensor:
    """Share (n,) of each map (n, height, width) that is above ``threshold`` of its largest value.

    Raises FiltersubError unless the threshold is between 0 and 1.

    >>> active_share(torch.tensor([[[0.0, 0.4], [0.6, 1.0]]])).tolist()
    [0.5]
    """
    if not 0 < threshold < 1:
        raise FiltersubError(f"the threshold must be between 0 and 1, got {threshold}")
    return (maps > threshold).float().mean((1, 2))
