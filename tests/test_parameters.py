"""Closed formulas against what peft really injects, over many architectures on the meta device."""

import pytest
import torch
from peft import get_peft_model
from torch import nn

from filtersub.decomposition import DecompositionConfig
from filtersub.errors import FiltersubError
from filtersub.kernels import select_layers
from filtersub.models import head_name, load_model
from filtersub.parameters import METHODS, compare_methods, count_parameters, count_trained, load_architecture
from filtersub.parameters.formulas import trained_shapes
from filtersub.parameters.result import stage_of
from filtersub.tuning import FilterSubspaceConfig

ARCHITECTURES = (
    "efficientnet_lite0",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "convnext_tiny",
    "convnext_base",
    "convnextv2_atto",
    "mobilenetv3_small_100",
    "efficientnetv2_rw_t",
    "regnety_002",
    "densenet121",
    "dpn68",
    "ghostnet_100",
    "inception_v3",
    "nf_resnet50",
    "repvgg_a0",
    "vgg11_bn",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "torchvision:resnet50",
    "torchvision:convnext_base",
    "torchvision:densenet121",
    "torchvision:googlenet",
    "torchvision:mnasnet0_5",
    "torchvision:mobilenet_v2",
    "torchvision:r3d_18",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:squeezenet1_0",
    "transformers:convnext",
    "transformers:resnet",
    "transformers:gpt2",
    "transformers:wav2vec2",
    "diffusers:UNet2DModel",
    "diffusers:AutoencoderKL",
    "diffusers:stable-diffusion-1.5",
    "diffusers:stable-diffusion-xl",
)
RECIPES = (
    {},
    {"atoms": 6, "solver": "pca"},
    {"atoms": 9, "block": 4},
    {"atoms": 3, "block": (2, 4), "block_spatial": True},
    {"atoms": 9, "expansion": 4},
    {"atoms": 6, "expansion": 3, "expansion_coefficients": "per-channel"},
    {"atoms": 6, "expansion": (4, 3, 2)},
    {"atoms": 9, "block": 4, "expansion": 4},
    {"atoms": 2, "block": 2, "block_spatial": True, "expansion": (3, 2), "expansion_coefficients": "per-channel"},
    {"atoms": 4, "block": 2, "expansion": 3, "expansion_coefficients": "per-channel", "expansion_layers": "all"},
    {"atoms": 9, "block": 1, "expansion": 2, "expansion_layers": "all", "solver": "pca", "limit_atoms": False},
    {"atoms": 3, "block": (4, 2), "block_coefficients": True},
    {"atoms": 3, "block": 2, "block_coefficients": True, "expansion": 2, "expansion_coefficients": "per-channel"},
)


def injected_count(model, head, **config):
    total = sum(p.numel() for p in model.parameters())
    saved = None if head is None else [head]
    injected = get_peft_model(model, FilterSubspaceConfig(modules_to_save=saved, **config), low_cpu_mem_usage=True)
    return count_trained(injected, head or "no head", "model", "filter-subspace", total)


@pytest.mark.parametrize("recipe", [{"atoms": 9, "block": 4}], ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_atoms_equal_the_injected_model(name, recipe):
    model = load_architecture(name)
    head = head_name(model)
    counted = count_parameters(model, recipe=DecompositionConfig(**recipe))
    really = injected_count(model, head, **recipe)
    assert (counted.trainable, counted.head, counted.total) == (really.trainable, really.head, really.total)
    assert counted.trainable == sum(layer.trainable for layer in counted.layers) > 0


def test_the_grid_is_broad():
    assert len(ARCHITECTURES) >= 25


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnext50_32x4d", "torchvision:r3d_18"])
def test_every_setting_equals_the_injected_model(name, recipe):
    model = load_architecture(name)
    counted = count_parameters(model, recipe=DecompositionConfig(**recipe))
    assert counted.trainable == injected_count(model, head_name(model), **recipe).trainable


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_setting_on_every_layer_kind(recipe, every_kind):
    every_kind.to("meta")
    counted = count_parameters(every_kind, recipe=DecompositionConfig(**recipe))
    assert counted.trainable == injected_count(every_kind, "classifier", **recipe).trainable


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_shapes_are_those_of_the_definition(recipe, every_kind):
    """alpha x (alpha_1 x (... x D_n)) of tensors of the stated shapes has the shape of the kernel matrix."""
    config = DecompositionConfig(**recipe)
    layouts = select_layers(every_kind, **config.kernel_blocks)
    for layout in layouts.values():
        shapes = trained_shapes(layout, config)
        if config.block_coefficients:
            _check_block_atoms(shapes.pop("block_atoms"), layout, config)
        atoms, alphas = torch.ones(shapes.pop("atoms")), [torch.ones(shape) for shape in shapes.values()]
        for alpha in reversed(alphas):
            atoms = (alpha[..., None] * atoms).sum(-2)
        codes = torch.ones(layout.n_rows, config.n_atoms(layout))
        own = config.expansion_coefficients == "per-channel" and bool(alphas)
        assert atoms.shape[:-2] == ((layout.input_channels,) if own else ())
        if own:
            rows = torch.einsum("ocm,cmd->ocd", codes.reshape(-1, layout.input_channels, codes.shape[1]), atoms)
        else:
            rows = codes @ atoms
        assert layout.to_weight(rows.reshape(layout.n_rows, -1)).shape == layout.shape


def _check_block_atoms(shape, layout, config):
    """D_c cuts alpha (c, c', m) into blocks of channels with all their m coefficients."""
    m_c, d_c = shape
    (outs, ins), m = layout.channels, config.n_atoms(layout)
    k_in, k_out = config.block if isinstance(config.block, tuple) else (config.block, config.block)
    p, q = (k_out if outs % k_out == 0 else 1), (k_in if ins % k_in == 0 else 1)
    assert d_c == p * m * q
    assert m_c == min(m * p * q, (outs // p) * (ins // q))


@pytest.mark.parametrize("expanded_layers", ["spatial", "all"])
def test_which_layers_are_expanded(every_kind, expanded_layers):
    recipe = DecompositionConfig(block=4, expansion=5, expansion_layers=expanded_layers)
    counted = count_parameters(every_kind, recipe=recipe)
    plain = count_parameters(every_kind, recipe=DecompositionConfig(block=4))
    for ours, theirs in zip(counted.layers, plain.layers, strict=True):
        spatial = len(ours.shape) > 2 and max(ours.shape[2:]) > 1
        assert (ours.trainable > theirs.trainable) == (spatial or expanded_layers == "all")


def test_recipes_by_layer():
    """12 atoms in the stem, 4 over 3 each in the last stage, blocks in the shortcuts alone."""
    overrides = {"layer4": {"atoms": 4, "expansion": 3}, "downsample": {"block": 2}, "^conv1$": {"atoms": 12}}
    model = load_architecture("resnet18")
    counted = count_parameters(model, recipe=DecompositionConfig(), overrides=overrides)
    stages = 12 * 81 + 4 * (4 * 3 + 4 * 3 * 9)
    shortcuts = 2 * (9 * 4) * 4 + (4 * 4) * 4
    assert counted.trainable == 12 * 49 + stages + shortcuts
    assert injected_count(model, "fc", overrides=overrides).trainable == counted.trainable


def test_training_alpha_counts_alpha_and_atoms():
    counted = count_parameters("resnet18", "coefficients")
    atoms = count_parameters("resnet18")
    assert counted.trainable == atoms.trainable + atoms.coefficients
    assert atoms.coefficients == sum(9 * layer.shape[0] * layer.shape[1] for layer in atoms.layers)


def test_linear_and_full_share_the_model_between_them():
    linear, full = (count_parameters("resnet18", method, num_classes=10) for method in ("linear", "full"))
    assert linear.trainable == 0
    assert linear.head == full.head == 512 * 10 + 10
    assert full.trainable + full.head == full.total


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("resnet50", 25_557_032),
        ("diffusers:stable-diffusion-1.5", 859_520_964),
        ("diffusers:stable-diffusion-xl", 2_567_463_684),
    ],
)
def test_published_totals(name, total):
    """As their authors and libraries print them."""
    assert sum(p.numel() for p in load_architecture(name).parameters()) == total


def test_no_memory_is_taken():
    """A model of 1.4 GB is counted; its tensors have no storage."""
    found = count_parameters("convnext_xlarge", recipe=DecompositionConfig(block=4))
    assert found.total > 340_000_000
    assert found.fraction < 0.01
    assert all(p.device == torch.device("meta") for p in load_model("convnext_xlarge", device="meta").parameters())


def test_a_bare_file_of_weights(tmp_path):
    from safetensors.torch import save_file

    save_file({"a.weight": torch.ones(8, 4, 3, 3), "a.bias": torch.ones(8)}, tmp_path / "w.safetensors")
    found = count_parameters(str(tmp_path / "w.safetensors"))
    assert (found.trainable, found.head, found.total) == (81, 0, 296)
    with pytest.raises(FiltersubError, match="no architecture to count ssf in"):
        count_parameters(str(tmp_path / "w.safetensors"), "ssf")
    with pytest.raises(FiltersubError, match="no head whose classes"):
        count_parameters(str(tmp_path / "w.safetensors"), num_classes=3)
    methods = {count.method for count in compare_methods(str(tmp_path / "w.safetensors"))}
    assert {"filter-subspace", "lora", "full"} <= methods < set(METHODS)


def test_json_has_what_the_design_promises():
    value = count_parameters("resnet18").to_json()
    assert {"model", "method", "trainable", "head", "total", "fraction", "layers"} <= set(value)
    assert {"name", "kind", "shape", "atoms", "trainable"} <= set(value["layers"][0])


def test_stages_sum_to_the_whole():
    found = count_parameters("convnext_tiny", recipe=DecompositionConfig(block=4))
    stages = found.stages()
    assert stages["trainable"].sum() == found.trainable
    assert stages["layers"].sum() == len(found.layers)
    assert stages["share"].sum() == pytest.approx(1)
    assert stages["stage"].tolist() == ["stem", "stages.0", "stages.1", "stages.2", "stages.3"]
    assert stage_of("down_blocks.0.resnets.1.conv1") == "down_blocks.0"


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)


def test_bad_input():
    with pytest.raises(FiltersubError, match="unknown method 'lorra'"):
        count_parameters("resnet18", "lorra")
    with pytest.raises(FiltersubError, match="rank must be"):
        count_parameters("resnet18", "lora", rank=0)
    with pytest.raises(FiltersubError, match="block 7 divides the channels of no layer"):
        count_parameters("resnet18", recipe=DecompositionConfig(block=7))
    with pytest.raises(FiltersubError, match="sides that do: 3, 5"):
        count_parameters(Named(), recipe=DecompositionConfig(block=(2, 2), block_spatial=True))
    with pytest.raises(FiltersubError, match="did you mean 'stable-diffusion"):
        load_architecture("diffusers:stable-difusion-1.5")
    with pytest.raises(FiltersubError, match="did you mean 'convnext"):
        load_architecture("transformers:convnxt")
