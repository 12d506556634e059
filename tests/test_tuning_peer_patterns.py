"""The patterns of peft's own tests for custom models (its tests/test_custom_models.py and the common tests that file
calls), run over the method for every kind of layer. Expected numbers come from the plain network with its weights
replaced by hand, not from the method.

Left out, with the reason:
- prompt learning, generation, tokenisers, resized embeddings, trainable tokens: for language models alone
- dropouts (LoRA's and its kin's): the method has none
- mixed batches of adapters (``adapter_names``): refused, as adapters change weights; tests/test_tuning_peft.py
- biases trained beside an adapter (``bias="all"``): no such setting; ``modules_to_save`` is there for whole modules
- ranks by layer, rsLoRA, DoRA, PiSSA, EVA and conversions between methods: settings of other methods
- embeddings and multi-head attention: layers that the method does not take, which is tested there as a refusal
- quantised bases: refused, tests/test_tuning_transforms.py
- device maps of several GPUs, pushing to the hub: need what the tests do not have
- tied and reused modules: tests/test_tuning_sharing.py, in more ways than peft's
- combinations by svd, ties, dare: the exact linear one alone is offered
"""

import copy

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from timm.layers import StdConv2d
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from filtersub.errors import FiltersubError
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer

KINDS = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (3, 4, 8)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1), (3, 4, 8, 8)),
    "conv2d, dilated, reflected": (
        lambda: nn.Conv2d(4, 6, 3, dilation=2, padding=2, padding_mode="reflect"),
        (3, 4, 8, 8),
    ),
    "conv2d, same": (lambda: nn.Conv2d(4, 6, (3, 2), padding="same", bias=False), (3, 4, 8, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2), (3, 2, 4, 4, 4)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), (3, 4, 8, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (3, 4, 8, 8)),
    "pointwise": (lambda: nn.Conv2d(4, 6, 1), (3, 4, 8, 8)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (3, 4, 8)),
    "transposed 2d, grouped": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (3, 4, 8, 8)),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 4, 2), (3, 2, 4, 4, 4)),
    "linear": (lambda: nn.Linear(8, 6), (3, 8)),
    "transformers' linear": (lambda: Conv1D(6, 8), (3, 8)),
    "standardised": (lambda: StdConv2d(4, 6, 3), (3, 4, 8, 8)),
}
MODES = {
    "linear codes": {"solver": "pca"},
    "held codes": {"solver": "omp", "nonzeros": 2},
    "expanded": {"solver": "pca", "expansion": 2},
}


class Net(nn.Module):
    """A layer of the kind, a frozen layer of another sort behind it, and a head that is trained whole."""

    def __init__(self, kind):
        super().__init__()
        self.layer = KINDS[kind][0]()
        self.frozen = nn.LayerNorm(self.layer(torch.zeros(KINDS[kind][1])).shape[-1])
        self.head = nn.Linear(self.frozen.normalized_shape[0], 4)

    def forward(self, x):
        return self.head(torch.tanh(self.frozen(self.layer(x))))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def base(kind):
    torch.manual_seed(0)
    return Net(kind).double().eval()


@pytest.fixture
def x(kind):
    return torch.randn(KINDS[kind][1], dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def config(mode="linear codes", **options):
    return FilterSubspaceConfig(
        **{"atoms": 2, "block": 2, "target_modules": ["layer"], "modules_to_save": ["head"], **MODES[mode], **options}
    )


def moved(tuned, seed):
    """Stands for training of the active adapter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return tuned.eval()


def tuned_of(base, **options):
    return moved(get_peft_model(copy.deepcopy(base), config(**options), autocast_adapter_dtype=False), 2)


def two_of(base):
    """Adapters "default" and "other"; "default" is active."""
    tuned = tuned_of(base)
    tuned.add_adapter("other", config(), autocast_adapter_dtype=False)
    tuned.set_adapter("other")
    moved(tuned, 3)
    tuned.set_adapter("default")
    return tuned


def by_hand(base, tuned, adapters=("default",), weights=None):
    """The base with ``F + sum of alpha dD`` written into its layer, row by row, and the first adapter's head."""
    layer, plain = tuned.base_model.model.layer, copy.deepcopy(base)
    layout = layer.layouts[adapters[0]]
    rows = layout.to_rows(base.layer.weight.detach()).clone()
    for adapter, weight in zip(adapters, weights or [1.0] * len(adapters), strict=True):
        atoms = layer.filtersub_atoms[adapter].detach()
        if adapter in layer.filtersub_expansion:
            first = layer.filtersub_expansion[adapter][0].detach()
            atoms = torch.stack(
                [sum(c * a for c, a in zip(cs, many, strict=True)) for cs, many in zip(first, atoms, strict=True)]
            )
        codes = layer.coefficients(adapter)
        for number in range(len(rows)):
            for code, atom in zip(codes[number], atoms, strict=True):
                rows[number] += weight * code * atom
    with torch.no_grad():
        plain.layer.weight.copy_(layout.to_weight(rows))
    plain.head.load_state_dict(tuned.base_model.model.head.modules_to_save[adapters[0]].state_dict())
    return plain


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("mode", MODES)
def test_attaches_unchanged_and_runs_with_its_weights(base, x, mode):
    fresh = get_peft_model(copy.deepcopy(base), config(mode), autocast_adapter_dtype=False).eval()
    assert torch.equal(fresh(x), base(x))
    tuned = moved(fresh, 2)
    close(tuned(x), by_hand(base, tuned)(x))
    assert not torch.allclose(tuned(x), base(x), atol=1e-4)
    assert "default: atoms" in repr(tuned)
    assert copy.deepcopy(tuned)(x).equal(tuned(x))


@pytest.mark.parametrize("mode", MODES)
def test_only_the_adapter_and_the_head_are_trained(base, x, mode):
    tuned = tuned_of(base, mode=mode).train()
    before = {name: parameter.detach().clone() for name, parameter in tuned.named_parameters()}
    optimizer = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], 0.1)
    tuned(x).square().sum().backward()
    optimizer.step()
    for name, parameter in tuned.named_parameters():
        trained = "filtersub_" in name or ".modules_to_save.default." in name
        assert parameter.requires_grad == trained, name
        assert (parameter.grad is not None) == trained, name
        assert torch.equal(parameter, before[name]) != trained, name


def test_gradient_checkpointing_gives_the_same_gradients(base, x):
    gradients = []
    for run in (lambda net: net(x), lambda net: checkpoint(net, x, use_reentrant=False)):
        tuned = tuned_of(base).train()
        run(tuned).square().sum().backward()
        gradients.append([p.grad for p in tuned.parameters() if p.requires_grad])
    for one, other in zip(*gradients, strict=True):
        close(one, other)


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_merging(base, x, mode):
    tuned = tuned_of(base, mode=mode)
    wanted = tuned(x)
    for safe in (False, True):
        tuned.merge_adapter(safe_merge=safe)
        tuned.merge_adapter()  # again, which changes nothing
        assert torch.equal(tuned(x), wanted)
        with tuned.disable_adapter():
            assert torch.equal(tuned(x), base(x))
        tuned.unmerge_adapter()
        assert torch.equal(tuned(x), wanted)
    merged = tuned.merge_and_unload()
    close(merged(x), wanted)
    assert type(merged.layer) is type(base.layer)
    assert list(merged.state_dict()) == list(base.state_dict())


@torch.no_grad()
def test_a_merge_that_would_not_be_finite_is_refused(base, x):
    tuned = tuned_of(base)
    tuned.base_model.model.layer.filtersub_atoms["default"].fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        tuned.merge_adapter(safe_merge=True)
    with tuned.disable_adapter():
        assert torch.equal(tuned(x), base(x))


@torch.no_grad()
def test_several_adapters_are_switched_merged_disabled_and_deleted(base, x):
    tuned = two_of(base)
    hand = {name: by_hand(base, tuned, [name])(x) for name in ("default", "other")}
    for name in ("default", "other", "default"):
        tuned.set_adapter(name)
        assert tuned.active_adapter == name
        close(tuned(x), hand[name])
    tuned.merge_adapter(["default", "other"])  # both updates, and the active one's head
    close(tuned(x), by_hand(base, tuned, ["default", "other"])(x))
    tuned.unmerge_adapter()
    close(tuned(x), hand["default"])
    trained = {name for name, p in tuned.named_parameters() if p.requires_grad}
    assert trained
    assert not any("other" in name for name in trained)
    with pytest.raises(ValueError, match="nobody"):
        tuned.delete_adapter("nobody")
    tuned.delete_adapter("other")  # not the active one
    close(tuned(x), hand["default"])
    assert not any("other" in name for name in tuned.state_dict())
    with pytest.raises(ValueError, match="not found"):
        tuned.set_adapter("other")


@torch.no_grad()
def test_requires_grad_follows_the_active_adapter(base):
    tuned = two_of(base)
    for active in ("other", "default"):
        tuned.set_adapter(active)
        for name, parameter in tuned.named_parameters():
            assert parameter.requires_grad == (
                f".{active}" in name and ("filtersub" in name or "modules_to" in name)
            ), name
    tuned.set_adapter("default", inference_mode=True)
    assert not any(parameter.requires_grad for parameter in tuned.parameters())
    tuned.base_model.set_requires_grad("other", True)
    assert tuned.base_model.model.layer.filtersub_atoms["other"].requires_grad
    assert not tuned.base_model.model.layer.filtersub_atoms["default"].requires_grad


@torch.no_grad()
def test_weighted_adapters_are_the_weighted_sum(base, x):
    tuned = two_of(base)
    tuned.add_weighted_adapter(["default", "other"], [0.5, -2.0], "both")
    tuned.set_adapter("both")
    expected = by_hand(base, tuned, ["default", "other"], [0.5, -2.0])
    expected.head.load_state_dict(base.head.state_dict())  # the head of a combination is the base model's
    close(tuned(x), expected(x))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("low_memory", [False, True])
@torch.no_grad()
def test_saves_and_loads(base, x, mode, low_memory, tmp_path):
    tuned = tuned_of(base, mode=mode)
    tuned.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    read = PeftConfig.from_pretrained(tmp_path)
    assert read.recipe == config(mode).recipe
    options = {"low_cpu_mem_usage": low_memory, "autocast_adapter_dtype": False}
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path, **options).eval()
    assert torch.equal(loaded(x), tuned(x))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    trainable = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path, is_trainable=True, **options)
    assert any(parameter.requires_grad for parameter in trainable.parameters())
    loaded.load_adapter(tmp_path, adapter_name="again", **options)
    loaded.set_adapter("again")
    assert torch.equal(loaded(x), tuned(x))


@torch.no_grad()
def test_several_adapters_are_saved_apart(base, x, tmp_path):
    tuned = two_of(base)
    tuned.save_pretrained(tmp_path)
    options = {"autocast_adapter_dtype": False}
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "other", adapter_name="one", **options).eval()
    loaded.load_adapter(tmp_path, adapter_name="two", **options)
    for ours, theirs in (("other", "one"), ("default", "two")):
        tuned.set_adapter(ours)
        loaded.set_adapter(theirs)
        assert torch.equal(loaded(x), tuned(x))


@torch.no_grad()
def test_unloading_gives_the_base_back(base, x):
    tuned = tuned_of(base)
    head = tuned.base_model.model.head.modules_to_save["default"]
    unloaded = tuned.unload()
    assert torch.equal(unloaded.layer(x), base.layer(x))
    assert not any(isinstance(module, FilterSubspaceLayer) for module in unloaded.modules())
    close(unloaded(x), head(torch.tanh(base.frozen(base.layer(x)))))  # peft leaves the trained head in place


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_bases_of_other_dtypes_run_and_merge_in_them(base, x, dtype):
    low = copy.deepcopy(base).to(dtype)
    tuned = moved(get_peft_model(low, config()), 2)
    found = tuned(x.to(dtype))
    assert found.dtype == dtype
    assert found.isfinite().all()
    assert tuned.base_model.model.layer.filtersub_atoms["default"].dtype == torch.float32
    merged = tuned.merge_and_unload()
    assert merged.layer.weight.dtype == dtype
    assert torch.equal(merged(x.to(dtype)), found)


def test_what_is_left_out_is_refused_in_words(base, x):
    tuned = tuned_of(base)
    with pytest.raises(FiltersubError, match="adapter_names is for methods that add outputs"):
        tuned(x, adapter_names=["default"] * len(x))
    with pytest.raises(FiltersubError, match="must be 'linear'"):
        tuned.add_weighted_adapter(["default"], [1.0], "both", combination_type="svd")
    for layer in (nn.Embedding(4, 4), nn.MultiheadAttention(4, 2), nn.Bilinear(4, 4, 4)):
        with pytest.raises(FiltersubError, match="no layer that can be tuned"):
            get_peft_model(nn.Sequential(layer), FilterSubspaceConfig(atoms=2, block=2, target_modules=["0"]))
