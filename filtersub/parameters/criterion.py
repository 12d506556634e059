"""How good a setting promises to be, without training: how much of the loss's gradient its atoms can follow.

The update of a layer is alpha x dD with alpha frozen, so of the gradient G = dL/dF a step can follow what lies in the
span of alpha's columns. With P the projection onto that span and the sum over the layers that take part,

    score = sum ||P G||_F^2 / sum over all kernels of the model ||G||_F^2,

the share of the gradient's energy that survives: 0 where nothing but the head is trained, 1 for full tuning. It is the
decrease of the loss that one small gradient step can reach, over that of full tuning. The gradient is taken on a few
batches, behind a head that ridge regression fits to the frozen features in closed form.

What it does not see: m_1 shared atoms reach the same span as m atoms and score the same; one gradient is not a whole
training, so far-away gains count nothing.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from ..decomposition import DecompositionConfig, decompose_weight
from ..errors import FiltersubError, check_name
from ..kernels import KernelLayout, layout_of, tunable_layers
from ..models import channels_last_, head_name
from ..settings import check_kind, check_labels, check_whole

_RIDGE = 1e-2  # of the head, over the mean energy of the centred features
_SHARPNESS = 5.0  # logits of the ridge head: its targets are 0 and 1, too flat for the cross-entropy


class GradientEnergy:
    """Scores settings of one model by the gradient on given images.

    Parameters
    ----------
    model : with pretrained weights and a head for the data's classes; its head, gradients and memory format are changed
    images : (n, 3, height, width); labels : (n,) int64
    batch_size : images at once

    Raises FiltersubError where the model has no head, for labels that are not its classes, and where
    the gradient is not finite.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = 50) -> None:
        check_whole("batch_size", batch_size, 1)
        head = head_name(model)
        if head is None:
            raise FiltersubError("the model has no classification head, so there is no loss whose gradient could rank")
        check_labels(labels, len(images), model.get_submodule(head).out_features)
        self.model = channels_last_(model.eval())
        _fit_head_(model, model.get_submodule(head), images, labels, batch_size)
        _accumulate_gradient_(model, images, labels, batch_size)
        everything = tunable_layers(model, block=1, exclude=(head,))
        self._modules = {name: model.get_submodule(name) for name in everything}
        self.total = sum(_energy(module.weight.grad) for module in self._modules.values())
        if not 0 < self.total < float("inf"):
            raise FiltersubError(f"the gradient of the kernels has energy {self.total}; it cannot rank anything")
        self._known: dict[tuple[KernelLayout, DecompositionConfig], float] = {}

    def score(self, recipe: DecompositionConfig, names: list[str]) -> float:
        """Share of the gradient's energy that the recipe's atoms on these layers can follow, from 0 to 1."""
        check_kind("recipe", recipe, DecompositionConfig)
        for name in names:
            check_name("layer", name, self._modules)
        return sum(self.captured(recipe, name) for name in names) / self.total

    def captured(self, recipe: DecompositionConfig, name: str) -> float:
        """``||P G||_F^2`` of one layer; 0 where the layer takes no part."""
        layout = layout_of(name, self._modules[name], **recipe.kernel_blocks)
        if layout is None:
            return 0.0
        expanded = bool(recipe.expansion_of(layout))
        per_channel = expanded and recipe.expansion_coefficients == "per-channel"
        if not per_channel:  # shared levels span what the atoms above them span
            recipe = replace(recipe, expansion=None, expansion_coefficients="shared")
        blocked = layout.is_spatial and not recipe.block_spatial
        key = (layout, replace(recipe, block=None, block_coefficients=False) if blocked else recipe)
        if key not in self._known:
            self._known[key] = self._captured(layout, recipe, per_channel)
        return self._known[key]

    def _captured(self, layout: KernelLayout, recipe: DecompositionConfig, per_channel: bool) -> float:
        layer = self._modules[layout.name]
        rows, gradient = (layout.to_rows(tensor.detach()).double() for tensor in (layer.weight, layer.weight.grad))
        if recipe.code_kind == "linear" and not per_channel:
            return principal_energy(rows, gradient, recipe.n_atoms(layout))
        plain = replace(recipe, expansion=None, expansion_coefficients="shared")
        codes = decompose_weight(layout, layer, plain).coefficients.double()
        if per_channel:
            codes = _per_channel_regressors(codes, layout.input_channels, recipe.expansion_sizes[0], recipe.seed)
        return projected_energy(codes, gradient)


def projected_energy(codes: Tensor, gradient: Tensor) -> float:
    """``||P G||_F^2`` with P the orthogonal projection onto the columns of codes (n_rows, m); G is (n_rows, d).

    >>> projected_energy(torch.eye(3)[:, :1], torch.ones(3, 2))
    2.0
    """
    gram, seen = codes.T @ codes, codes.T @ gradient
    return float((seen * (torch.linalg.pinv(gram, hermitian=True) @ seen)).sum())


def principal_energy(rows: Tensor, gradient: Tensor, n_atoms: int) -> float:
    """projected_energy of the principal codes ``rows V``, from d x d matrices alone: no code is formed.

    With V the n_atoms leading eigenvectors of ``rows^T rows`` and s^2 their eigenvalues, it is the sum over them of
    ``||v^T rows^T G||^2 / s^2``.
    """
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    values, vectors = values.flip(0)[:n_atoms], vectors.flip(1)[:, :n_atoms]
    alive = values > values[0].clamp_min(torch.finfo(values.dtype).tiny) * 1e-12
    seen = vectors[:, alive].T @ (rows.T @ gradient)
    return float((seen.square().sum(1) / values[alive]).sum())


def _per_channel_regressors(codes: Tensor, channels: int, size: int, seed: int) -> Tensor:
    """alpha[o, c, i] alpha_1[c, i, j] of shape (n_rows, m m_1), for a random alpha_1 as tuning starts with."""
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.randn(channels, codes.shape[1], size, generator=generator, dtype=codes.dtype)
    return torch.einsum("oci,cij->ocij", codes.reshape(-1, channels, codes.shape[1]), alpha).reshape(len(codes), -1)


def _energy(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.double().square().sum())


def _fit_head_(model: nn.Module, head: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> None:
    """Ridge regression of the classes on the features that enter the head, in closed form."""
    entering: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0].detach().flatten(1)))
    with torch.no_grad():
        for part in images.split(batch_size):
            model(part)
    handle.remove()
    features = torch.cat(entering).double()
    targets = one_hot(labels, head.out_features).double()
    mean, share = features.mean(0), targets.mean(0)
    centred = features - mean
    kernel = centred @ centred.T
    ridge = _RIDGE * kernel.diagonal().mean().clamp_min(1e-12)
    dual = torch.linalg.solve(kernel + ridge * torch.eye(len(kernel), dtype=kernel.dtype), targets - share)
    weight = _SHARPNESS * (centred.T @ dual)
    with torch.no_grad():
        head.weight.copy_(weight.T)
        if head.bias is not None:
            head.bias.copy_(share - mean @ weight)


def _accumulate_gradient_(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> None:
    """Gradient of the mean cross-entropy over all images, in ``.grad``."""
    model.requires_grad_(True)
    model.zero_grad(set_to_none=True)
    for part, classes in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        cross_entropy(model(part), classes, reduction="sum").div(len(labels)).backward()
