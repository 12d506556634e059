"""Closed formulas against what peft really injects."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from filtersub.decomposition import DecompositionConfig
from filtersub.errors import FiltersubError
from filtersub.models import head_name, load_model
from filtersub.parameters import count_parameters, count_trained
from filtersub.tuning import FilterSubspaceConfig

ARCHITECTURES = (
    "efficientnet_lite0",
    "resnet18",
    "resnext50_32x4d",
    "convnext_tiny",
    "mobilenetv3_small_100",
    "regnety_002",
    "torchvision:densenet121",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:mobilenet_v2",
)
RECIPES = (
    {},
    {"atoms": 6, "solver": "pca"},
    {"atoms": 9, "block": 4},
    {"atoms": 3, "block": (2, 4), "block_spatial": True},
)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_atoms_equal_the_injected_model(name, recipe):
    model = load_model(name, device="meta")
    head, total = head_name(model), sum(p.numel() for p in model.parameters())
    counted = count_parameters(name, recipe=DecompositionConfig(**recipe))
    injected = get_peft_model(model, FilterSubspaceConfig(modules_to_save=[head], **recipe))
    really = count_trained(injected, head, name, "filter-subspace", total)
    assert (counted.trainable, counted.head, counted.total) == (really.trainable, really.head, really.total)
    assert counted.trainable == sum(layer.trainable for layer in counted.layers) > 0


@pytest.mark.parametrize("rank", [4, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "efficientnet_lite0", "convnext_tiny"])
def test_lora_equals_the_injected_model(name, rank):
    counted = count_parameters(name, "lora", rank=rank)
    model = load_model(name, device="meta")
    config = LoraConfig(r=rank, target_modules=[layer.name for layer in counted.layers])
    injected = get_peft_model(model, config)
    assert counted.trainable == sum(p.numel() for p in injected.parameters() if p.requires_grad)


def test_linear_and_full_share_the_model_between_them():
    linear, full = (count_parameters("resnet18", method, num_classes=10) for method in ("linear", "full"))
    assert linear.trainable == 0
    assert linear.head == full.head == 512 * 10 + 10
    assert full.trainable + full.head == full.total


def test_a_published_total():
    """25,557,032: ResNet50's parameters as its authors and libraries print them."""
    assert count_parameters("resnet50").total == 25_557_032


def test_no_memory_is_taken():
    """A model of 1.4 GB is counted; its tensors have no storage."""
    found = count_parameters("convnext_xlarge", recipe=DecompositionConfig(block=4))
    assert found.total > 340_000_000
    assert found.fraction < 0.01
    assert all(p.device == torch.device("meta") for p in load_model("convnext_xlarge", device="meta").parameters())


def test_json_has_what_the_design_promises():
    value = count_parameters("resnet18").to_json()
    assert {"model", "method", "trainable", "head", "total", "fraction", "layers"} <= set(value)
    assert {"name", "kind", "shape", "atoms", "trainable"} == set(value["layers"][0])


def test_bad_input():
    with pytest.raises(FiltersubError, match="unknown method 'lorra'"):
        count_parameters("resnet18", "lorra")
    with pytest.raises(FiltersubError, match="rank must be"):
        count_parameters("resnet18", "lora", rank=0)
