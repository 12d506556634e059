"""The patterns of peft's own test-suite for custom models, over the method's settings and every layer kind.

After huggingface/peft, tests/test_custom_models.py and tests/testing_common.py (Apache-2.0): the checks by their names.
"""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from torch.nn.functional import relu
from transformers.pytorch_utils import Conv1D

from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

KINDS = {
    "Linear": (lambda: nn.Linear(8, 8), (4, 8)),
    "transformers Conv1D": (lambda: Conv1D(8, 8), (4, 8)),
    "Conv1d": (lambda: nn.Conv1d(8, 8, 3, padding=1), (4, 8, 7)),
    "Conv2d": (lambda: nn.Conv2d(8, 8, 3, padding=1), (4, 8, 7, 7)),
    "Conv2d 1x1": (lambda: nn.Conv2d(8, 8, 1), (4, 8, 7, 7)),
    "Conv2d grouped": (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2), (4, 8, 7, 7)),
    "Conv2d depthwise": (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8), (4, 8, 7, 7)),
    "Conv3d": (lambda: nn.Conv3d(8, 8, 3, padding=1), (2, 8, 4, 4, 4)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(8, 8, 3, padding=1), (4, 8, 7)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(8, 8, 3, padding=1, groups=2), (4, 8, 7, 7)),
}
SETTINGS = {
    "setting 1 or 3": {"block": 2, "hold_coefficients": True},
    "setting 2 or 4": {"block": 2, "expansion": 3, "hold_coefficients": True},
    "per channel": {"block": 2, "block_spatial": True, "expansion": 3, "expansion_coefficients": "per-channel"},
    "coefficients too": {"block": 2, "train_coefficients": True},
    "memory-free": {"block": 2},
}
every_pair = pytest.mark.parametrize(("kind", "setting"), [(k, s) for k in KINDS for s in SETTINGS])


class TwoLayers(nn.Module):
    """One targeted layer, one trained whole, as peft's custom models."""

    def __init__(self, make):
        super().__init__()
        self.first, self.second = make(), nn.Linear(8, 3)

    def forward(self, x):
        hidden = relu(self.first(x))
        return self.second(hidden.flatten(2).mean(2) if hidden.ndim > 2 else hidden)


def made(kind, setting, *, moved=True, dtype=torch.float32):
    torch.manual_seed(0)
    make, shape = KINDS[kind]
    base, x = TwoLayers(make).to(dtype).eval(), torch.randn(shape, dtype=dtype)
    options = {"target_modules": ["first"], "modules_to_save": ["second"], "atoms": 3, "solver": "pca"}
    model = get_peft_model(copy.deepcopy(base), FilterSubspaceConfig(**options, **SETTINGS[setting])).eval()
    if moved:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in model.parameters():
                if p.requires_grad:
                    p.add_(0.2 * torch.randn(p.shape, generator=generator).to(p))
    return base, model, x


@every_pair
def test_forward_merge_unmerge_unload(kind, setting):
    base, model, x = made(kind, setting)
    with torch.no_grad():
        tuned, plain = model(x), base(x)
        assert not torch.allclose(tuned, plain, atol=1e-4)
        with model.disable_adapter():
            assert torch.equal(model(x), plain)
        model.merge_adapter(safe_merge=True)
        assert torch.equal(model(x), tuned)
        with model.disable_adapter():  # disabling unmerges, as in peft
            assert torch.equal(model(x), plain)
        assert torch.equal(model(x), tuned)
        merged = copy.deepcopy(model).merge_and_unload(safe_merge=True)
        assert torch.equal(merged(x), tuned)
        assert {n for n, _ in merged.named_parameters()} == {n for n, _ in base.named_parameters()}
        unloaded = model.unload()
        assert torch.equal(unloaded.first(x), base.first(x))


@every_pair
def test_save_load_under_another_name(kind, setting, tmp_path):
    base, model, x = made(kind, setting)
    model.save_pretrained(tmp_path)
    again = copy.deepcopy(base)
    loaded = PeftModel.from_pretrained(again, tmp_path, adapter_name="mine").eval()
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    assert not any(p.requires_grad for p in loaded.parameters())  # loaded for inference
    trainable = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path, is_trainable=True)
    mine, theirs = ({n for n, p in m.named_parameters() if p.requires_grad} for m in (trainable, model))
    assert mine == theirs


@every_pair
def test_only_adapters_move_when_trained(kind, setting):
    _, model, x = made(kind, setting)
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) != p.requires_grad, name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_pair
def test_half_precision(kind, setting, dtype):
    base, model, x = made(kind, setting, moved=False, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(model(x), base(x))
        assert model(x).dtype == dtype
    layer = next(module for module in model.modules() if isinstance(module, FilterSubspaceLayer))
    assert all(p.dtype == torch.float32 for n, p in layer.named_parameters() if "filtersub" in n)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_pair
def test_half_precision_merges_into_what_it_computes(kind, setting, dtype):
    """peft's checks of merging in half precision, and that merging twice is merging once."""
    base, model, x = made(kind, setting, dtype=dtype)
    with torch.no_grad():
        tuned = model(x)
        assert not torch.equal(tuned, base(x))
        for _ in range(2):
            model.merge_adapter(safe_merge=True)
            assert torch.equal(model(x), tuned)
        for _ in range(2):
            model.unmerge_adapter()
            assert torch.equal(model.base_model.model.first.get_base_layer().weight, base.first.weight)
        assert torch.equal(model.merge_and_unload()(x), tuned)


@every_pair
def test_a_second_adapter_does_not_touch_the_first(kind, setting):
    _, model, x = made(kind, setting)
    with torch.no_grad():
        first = model(x)
        options = {"target_modules": ["first"], "modules_to_save": ["second"], "atoms": 2, "solver": "pca"}
        model.add_adapter("other", FilterSubspaceConfig(**options, **SETTINGS[setting]))
        assert torch.equal(model(x), first)
        model.set_adapter("other")
        assert not torch.equal(model(x), first)
        model.delete_adapter("default")
        assert list(model.peft_config) == ["other"]
