"""Operations of a training step, against closed forms written out by hand: numbers of products of each output, each
gradient of a weight, each gradient of an input."""

import json
from math import prod

import pytest
import torch
from peft import get_peft_model
from torch import nn

from filtersub.experiment.step_cost import flops_of, step_flops
from filtersub.models import load_model
from filtersub.records import Record, read_record, records_table
from filtersub.tuning import FilterSubspaceConfig

BATCH, CLASSES = 3, 4


class Convolved(nn.Module):
    """One layer, then the mean over positions as scores."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, images):
        return self.layer(images).flatten(2).mean(2)


def products(layer, size):
    """(of the output, of the weight's gradient) by the sums that each number is: they are the same products."""
    images = torch.empty(BATCH, layer.in_channels, *size)
    output, kernel = layer(images), prod(layer.kernel_size)
    if layer.transposed:  # each input number is spread over a kernel of every output channel of its group
        forward = images.numel() * (layer.out_channels // layer.groups) * kernel
        positions = images[0, 0].numel()
    else:  # each output number sums a kernel of every input channel of its group
        forward = output.numel() * (layer.in_channels // layer.groups) * kernel
        positions = output[0, 0].numel()
    return forward, layer.weight.numel() * BATCH * positions


LAYERS = {
    "plain": (nn.Conv2d(8, 4, 3), (9, 7)),
    "strided, dilated, padded": (nn.Conv2d(8, 4, 3, stride=2, dilation=2, padding=3), (12, 9)),
    "two groups": (nn.Conv2d(8, 4, 3, groups=2), (9, 7)),
    "depthwise": (nn.Conv2d(8, 8, 5, groups=8, padding=2), (9, 7)),
    "depthwise, two of each": (nn.Conv2d(4, 8, (3, 1), groups=4, stride=(2, 1)), (9, 7)),
    "one dimension, grouped": (nn.Conv1d(8, 12, 4, groups=4), (21,)),
    "three dimensions, depthwise": (nn.Conv3d(4, 4, 2, groups=4), (5, 4, 3)),
    "transposed": (nn.ConvTranspose2d(8, 4, 3, stride=2), (5, 4)),
    "transposed, grouped": (nn.ConvTranspose2d(8, 4, 3, groups=4, stride=2, output_padding=1), (5, 4)),
    "transposed, one dimension, depthwise": (nn.ConvTranspose1d(4, 4, 3, groups=4), (11,)),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("trained", ["weight", "input", "both", "bias alone"])
def test_each_gradient_that_is_needed_costs_as_much_as_the_output(kind, trained):
    layer, size = LAYERS[kind]
    layer.requires_grad_(True)
    layer.weight.requires_grad_(trained in ("weight", "both"))
    before = nn.Conv1d(1, 1, 1) if trained in ("input", "both") else None
    model = Convolved(layer)
    if before is not None:
        model = nn.Sequential(Scaled(), Convolved(layer))
    forward, of_weight = products(layer, size)
    assert forward == of_weight
    expected = 2 * forward * (1 + (trained in ("weight", "both")) + (trained in ("input", "both")))
    assert step_flops(model, (layer.in_channels, *size), BATCH, "updated") == expected


class Scaled(nn.Module):
    """Makes its output need a gradient, without a product that is counted."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return images * self.scale


def test_a_whole_depthwise_network_is_the_sum_of_its_layers():
    """EfficientNet-Lite0 at batch 50 and 64 pixels: about 9 GFLOP, where a count by groups came to 131."""
    model = load_model("efficientnet_lite0", num_classes=10, device="meta")
    seen = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda own, given, out: seen.append(out.numel() * own.weight[0].numel()))
        elif isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda own, given, out: seen.append(out.numel() * own.in_features))
    model(torch.empty(50, 3, 64, 64, device="meta"))
    by_hand = 2 * (3 * sum(seen) - seen[0])  # the images need no gradient
    assert step_flops(model, (3, 64, 64), 50, "updated") == by_hand
    assert 8.5e9 < by_hand < 9.5e9


@pytest.mark.parametrize("recompute", [False, True])
def test_layers_without_a_weight_gradient_are_counted_as_the_cpu_runs_them(recompute):
    """The input gradient, and 81 products for each input number that a position sees, in place of the weight's."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.Conv2d(16, 64, 3, stride=2, bias=False)
    config = FilterSubspaceConfig(target_modules=["1"], solver="pca", recompute_weights=recompute)
    body = [first, second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = get_peft_model(nn.Sequential(*body), config)
    first.requires_grad_(True)
    n_positions = BATCH * 4 * 3  # of an output of 4 x 3
    kernels, of_second = 2 * 9 * 3 * 16 * BATCH * 9 * 7, 2 * 9 * 16 * 64 * n_positions
    of_weight, of_sums = of_second + 2 * 9 * 9 * 16 * 64, 2 * 81 * 16 * n_positions + 2 * 9**3
    elsewhere, on_cpu = (step_flops(model, (3, 9, 7), BATCH, "updated", on_cpu=on_cpu) for on_cpu in (False, True))
    assert elsewhere - on_cpu == of_weight - of_sums
    small = 2 * 9**3 * 2 + 2 * 9 * 9 * 16 * 64 * (1 + recompute)  # V dD and its gradient, F + F B
    assert on_cpu == 2 * kernels + 2 * of_second + of_sums + small
    model, images = model.to(memory_format=torch.channels_last), torch.randn(BATCH, 3, 9, 7)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(BATCH, dtype=torch.long)
    ran = flops_of(lambda: nn.functional.cross_entropy(model(images), labels).backward())
    assert on_cpu == ran + 2 * 81 * 16 * n_positions  # those of compiled code, which torch does not see


def record(**cost):
    return Record("tuning", "atoms", {}, 0, {"test_accuracy": 0.5}, {"trainable": 1, "head": 1, "total": 3}, cost, {})


@pytest.mark.parametrize("schema", [None, 1])
def test_operations_of_records_of_before_are_set_aside(tmp_path, schema):
    record(step_flops=131e9, wall_seconds=2.0).write(tmp_path)
    assert read_record(tmp_path).cost == {"step_flops": 131e9, "wall_seconds": 2.0}
    content = json.loads((tmp_path / "record.json").read_text())
    content.pop("schema")
    (tmp_path / "record.json").write_text(json.dumps(content | ({} if schema is None else {"schema": schema})))
    old = read_record(tmp_path)
    assert old.cost == {"step_flops_overcounted": 131e9, "wall_seconds": 2.0}
    assert "step_flops" not in records_table({tmp_path: old})
    old.write(tmp_path)  # stays as it was counted
    assert read_record(tmp_path) == old
