"""The baselines' formulas against peft's own injection, layer kind by layer kind, and over whole models."""

import warnings

import pytest
import torch
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    HiraConfig,
    HRAConfig,
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    inject_adapter_in_model,
)
from torch import nn
from transformers.pytorch_utils import Conv1D

from filtersub.errors import FiltersubError
from filtersub.kernels import layout_of
from filtersub.models import head_name
from filtersub.parameters import BaselineOptions, compare_methods, comparison_table, count_parameters, load_architecture
from filtersub.parameters.baselines import LAYER_RULES

LAYERS = {
    "convolution": lambda: nn.Conv2d(8, 12, 3),
    "grouped": lambda: nn.Conv2d(8, 12, 3, groups=4),
    "depthwise": lambda: nn.Conv2d(8, 8, 5, groups=8),
    "dilated": lambda: nn.Conv2d(8, 8, 3, dilation=2),
    "not square": lambda: nn.Conv2d(8, 8, (1, 7)),
    "pointwise": lambda: nn.Conv2d(8, 16, 1),
    "large": lambda: nn.Conv2d(96, 60, 3),
    "one dimension": lambda: nn.Conv1d(8, 12, 3),
    "three dimensions": lambda: nn.Conv3d(8, 12, 3),
    "transposed": lambda: nn.ConvTranspose2d(8, 12, 3),
    "linear": lambda: nn.Linear(8, 12),
    "odd": lambda: nn.Linear(9, 15),
    "prime": lambda: nn.Linear(31, 37),
    "wide": lambda: nn.Linear(256, 1024),
    "Conv1D": lambda: Conv1D(12, 8),
}
CONFIGS = {
    "lora": lambda rank: LoraConfig(r=rank, target_modules=["layer"]),
    "dora": lambda rank: LoraConfig(r=rank, use_dora=True, target_modules=["layer"]),
    "loha": lambda rank: LoHaConfig(r=rank, target_modules=["layer"]),
    "lokr": lambda rank: LoKrConfig(r=rank, target_modules=["layer"]),
    "oft": lambda size: OFTConfig(oft_block_size=size, target_modules=["layer"]),
    "boft": lambda size: BOFTConfig(boft_block_size=size, target_modules=["layer"]),
    "adalora": lambda rank: AdaLoraConfig(init_r=-(-3 * rank // 2), total_step=1, target_modules=["layer"]),
    "hra": lambda rank: HRAConfig(r=rank, target_modules=["layer"]),
    "hira": lambda rank: HiraConfig(r=rank, target_modules=["layer"]),
    "ia3": lambda _: IA3Config(target_modules=["layer"], feedforward_modules=[]),
}


def by_peft(method, size, layer):
    """Trained parameters of peft's adapter, 0 where it refuses the layer."""
    model = nn.ModuleDict({"layer": layer})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            injected = inject_adapter_in_model(CONFIGS[method](size), model)
    except (ValueError, TypeError, NotImplementedError):
        return 0
    return sum(p.numel() for p in injected.parameters() if p.requires_grad)


@pytest.mark.parametrize("size", [2, 4, 16])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("method", CONFIGS)
def test_formulas_equal_peft(method, kind, size):
    layer = LAYERS[kind]()
    layout = layout_of("layer", layer, block=1)
    options = BaselineOptions(rank=size, oft_block=size, boft_block=size)
    ours, theirs = LAYER_RULES[method](layout, layer, options), by_peft(method, size, layer)
    assert ours == theirs


def test_the_grid_holds_layers_that_peft_takes_and_layers_that_it_refuses():
    taken = {m: sum(by_peft(m, 4, LAYERS[kind]()) > 0 for kind in LAYERS) for m in CONFIGS}
    assert all(0 < n < len(LAYERS) for n in taken.values()), taken


@pytest.mark.parametrize("kind", ["convolution", "grouped", "depthwise", "pointwise", "linear"])
def test_loralib_shapes(kind):
    """microsoft/LoRA: A (r k, c_in k), B (c_out / g k, r k), whose product is viewed as the weight."""
    layer, rank = LAYERS[kind](), 3
    if kind == "linear":
        a, b = torch.ones(rank, layer.in_features), torch.ones(layer.out_features, rank)
    else:
        k, groups = layer.kernel_size[0], layer.groups
        a = torch.ones(rank * k, layer.in_channels * k)
        b = torch.ones(layer.out_channels // groups * k, rank * k)
    assert (b @ a).view(layer.weight.shape).shape == layer.weight.shape
    layout = layout_of("layer", layer, block=1)
    assert LAYER_RULES["lora-loralib"](layout, layer, BaselineOptions(rank=rank)) == a.numel() + b.numel()


@pytest.mark.parametrize("kind", ["convolution", "grouped", "pointwise", "linear"])
def test_the_kernel_as_a_matrix(kind):
    layer, rank = LAYERS[kind](), 3
    matrix = layer.weight.flatten(1)
    left, right = torch.ones(matrix.shape[0], rank), torch.ones(rank, matrix.shape[1])
    layout = layout_of("layer", layer, block=1)
    assert LAYER_RULES["lora-matrix"](layout, layer, BaselineOptions(rank=rank)) == left.numel() + right.numel()


@pytest.mark.parametrize("method", ["lora", "dora", "loha", "lokr", "oft", "hira", "ia3", "adalora"])
@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnext50_32x4d", "efficientnet_lite0", "convnext_tiny", "nf_resnet26", "transformers:convnext"],
)
def test_whole_models_equal_peft(name, method):
    counted = count_parameters(name, method, options=BaselineOptions(rank=4))
    model, config = load_architecture(name), CONFIGS[method](32 if method == "oft" else 4)
    config.target_modules = {layer.name for layer in counted.layers}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        injected = inject_adapter_in_model(config, model, low_cpu_mem_usage=True)
    # AdaLoRA's ranknum is a constant, which peft forgets to freeze on the meta device
    trained = [p for name, p in injected.named_parameters() if p.requires_grad and ".ranknum." not in name]
    assert counted.trainable == sum(p.numel() for p in trained) > 0


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny", "transformers:resnet", "diffusers:UNet2DModel"])
def test_bitfit_is_every_bias(name):
    model = load_architecture(name)
    head = head_name(model) or "no head"
    biases = [p for n, p in model.named_parameters() if n.endswith("bias") and not n.startswith(head)]
    assert count_parameters(model, "bitfit").trainable == sum(p.numel() for p in biases) > 0


def test_norm_tuning_is_every_normalisation_layer():
    model = load_architecture("convnext_tiny")
    norms = [m for m in model.modules() if isinstance(m, (nn.LayerNorm, nn.GroupNorm))]
    assert count_parameters(model, "norm").trainable == sum(p.numel() for m in norms for p in m.parameters()) > 0


def test_ssf_has_a_scale_and_a_shift_a_channel(every_kind, images):
    """Channels are read off the features that each layer really puts out; the head is trained whole."""
    counted, seen = count_parameters(every_kind, "ssf"), {}
    for name, layer in every_kind.named_modules():
        if name and name != "classifier":
            layer.register_forward_hook(lambda m, _, out, name=name: seen.update({name: (m, out.shape)}))
    every_kind(images)
    channels = {name: shape[-1] if isinstance(m, nn.Linear) else shape[1] for name, (m, shape) in seen.items()}
    assert {layer.name: layer.trainable for layer in counted.layers} == {n: 2 * c for n, c in channels.items()}


def test_methods_side_by_side():
    counts = compare_methods("resnet18", num_classes=10)
    table = comparison_table(counts).set_index("method")
    assert {count.model for count in counts} == {"resnet18"}
    assert table.loc["linear", "trainable"] == 0
    assert table.loc["full", "trainable"] == max(table["trainable"])
    assert (table["head"] == 5130).all()
    assert (table["adam_bytes"] == 2 * table["adapter_bytes"]).all()
    with pytest.raises(FiltersubError, match="unknown method 'lorra'"):
        compare_methods("resnet18", ["lora", "lorra"])


def test_block_sizes_are_checked():
    with pytest.raises(FiltersubError, match="block size of oft must be a positive integer, got 0"):
        BaselineOptions(oft_block=0)
