"""What an adapter holds, and what a forward pass takes at its peak, counted storage by storage."""

import copy
import weakref

import pytest
import torch
from peft import get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer


class Peak(TorchDispatchMode):
    """Most bytes alive at once of the storages that operators make; views and what was there before cost nothing."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = [t.untyped_storage() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        for storage in before:
            self.known.add(storage)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self.known:
                self._count(tensor.untyped_storage())
        self.most = max(self.most, self.now)
        return out

    def _count(self, storage):
        self.known.add(storage)
        self.now += storage.nbytes()
        weakref.finalize(storage, self._drop, storage.nbytes())

    def _drop(self, size):
        self.now -= size


def held_bytes(model):
    tensors = [*model.parameters(), *model.buffers()]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def peak_bytes(model, x):
    with torch.no_grad(), Peak() as peak:
        model(x)
    return peak.most


@pytest.fixture
def network():
    torch.manual_seed(0)
    wide = [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 128, 1), nn.ReLU(), nn.Conv2d(128, 128, 3)]
    return nn.Sequential(*wide).eval()


def tuned(network, **options):
    config = FilterSubspaceConfig(target_modules=".*", block=4, solver="pca", **options)
    return get_peft_model(copy.deepcopy(network), config).eval()


def test_linear_codes_hold_the_base_and_small_matrices_alone(network):
    model = tuned(network)
    layers = [layer for layer in model.modules() if isinstance(layer, FilterSubspaceLayer)]
    small = 0
    for layer in layers:
        m, d = layer.filtersub_atoms["default"].shape
        small += 4 * (m * d) + 4 * (d * m) + 8 * m  # dD, V, the fingerprint
    assert held_bytes(model) == held_bytes(network) + small
    assert small < 0.01 * held_bytes(network)
    stored = tuned(network, hold_coefficients=True)
    coefficients = sum(4 * layer.coefficients("default").numel() for layer in layers)
    mappings = sum(4 * layer.filtersub_mapping["default"].numel() for layer in layers)
    assert held_bytes(stored) == held_bytes(model) + coefficients - mappings


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_forward_pass_takes_one_layer_more(network, channels_last):
    """One summed weight lives at a time, with the blocked copies that one layer needs to form it."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model, plain = tuned(network).to(memory_format=memory_format), network.to(memory_format=memory_format)
    x = torch.randn(1, 64, 6, 6).to(memory_format=memory_format)
    weights = [4 * module.weight.numel() for module in network if isinstance(module, nn.Conv2d)]
    base = peak_bytes(plain, x)
    taken = peak_bytes(model, x)
    assert base < taken <= base + 3 * max(weights)  # the product, its sum with the weight, a reordered copy
    assert taken < base + sum(weights) + 2 * max(weights)
    merged = model.merge_and_unload()
    assert peak_bytes(merged, x) == base
