"""Which batch norms of a network follow a convolution that nothing else reads, so that they can be folded into it."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..folded_norms import Pairs, folding
from .activations import needed_activations
from .batch_norm import averaging_norms

_MOST_APART = 1e-3  # of outputs with and without folding, in shares of the largest: rounding is far below it


def foldable_norms(model: nn.Module, images: Tensor) -> Pairs:
    """(weight of a convolution, its batch norm) of a network, for ``folding.of``.

    Parameters
    ----------
    images : (n, 3, h, w), n = 2 is enough; the network runs on them in evaluation mode, nothing of it is changed

    A pair is a convolution whose output, as it is, goes into the batch norm and nowhere else: each is called once, and
    autograd's graph has one way from the one to the other. The list is empty where the network's output with all of
    them folded is not the same to rounding, as where a detached output is read elsewhere.
    """
    if not images.is_floating_point():
        return []
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(_devices(images)), needed_activations():
        model.eval()
        try:
            pairs = _pairs(model, images)
            return pairs if pairs and _is_same(model, images, pairs) else []
        finally:
            for module, mode in modes:
                module.training = mode


def _pairs(model: nn.Module, images: Tensor) -> Pairs:
    known = {id(norm.running_mean): norm for norm in averaging_norms(model) if not _has_hooks(norm)}
    with torch.enable_grad(), folding.watch() as calls:
        readers = _readers(model(images.detach().requires_grad_()))
    n_calls = Counter(id(own) for own, _, _ in (*calls.convolutions, *calls.norms))
    parameters = {id(p) for p in model.parameters()}  # a weight that is computed is another tensor at each call
    once = [call for call in calls.convolutions if id(call[0]) in parameters and n_calls[id(call[0])] == 1]
    made = {id(output): (weight, node) for weight, output, node in once}
    pairs = []
    for mean, tensor, node in calls.norms:
        weight, maker = made.get(id(tensor), (None, None))
        alone = n_calls[id(mean)] == 1 and node is maker and readers[node] == 1
        if weight is not None and id(mean) in known and alone:
            pairs.append((weight, known[id(mean)]))
    return pairs


def _readers(output: Any) -> Counter:
    """How often each node of autograd's graph is read."""
    left = [t.grad_fn for t in tree_leaves(output) if isinstance(t, Tensor) and t.grad_fn is not None]
    readers: Counter = Counter(left)
    seen = set(left)
    while left:
        for node, _ in left.pop().next_functions:
            if node is not None:
                readers[node] += 1
                if node not in seen:
                    seen.add(node)
                    left.append(node)
    return readers


def _has_hooks(module: nn.Module) -> bool:
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))


@torch.no_grad()
def _is_same(model: nn.Module, images: Tensor, pairs: Pairs) -> bool:
    plain = model(images)
    try:
        with folding.of(pairs, fewest=0):
            folded = model(images)
    except RuntimeError:  # without gradients something else becomes of a convolution's output
        return False
    tensors = zip(tree_leaves(folded), tree_leaves(plain), strict=True)
    return all(
        bool((a - b).abs().max() <= _MOST_APART * b.abs().max())
        for a, b in tensors
        if isinstance(a, Tensor) and a.numel()
    )


def _devices(images: Tensor) -> list[torch.device]:
    return [images.device] if images.device.type == "cuda" else []
