"""Costs: arithmetic against torch's own count of what really runs, bytes against tensors that really exist."""

from dataclasses import replace

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from filtersub.decomposition import DecompositionConfig
from filtersub.errors import FiltersubError
from filtersub.kernel_layout import coefficient_layout
from filtersub.kernels import layout_of
from filtersub.parameters import count_cost, count_parameters, load_architecture
from filtersub.parameters.cost import layer_flops, layer_positions
from filtersub.tuning import FilterSubspaceConfig
from filtersub.tuning.codes import blocked_atoms

CONVOLUTIONS = {
    "plain": lambda: nn.Conv2d(8, 12, 3, padding=1),
    "strided": lambda: nn.Conv2d(8, 12, 3, stride=2),
    "grouped": lambda: nn.Conv2d(8, 12, 3, groups=4),
    "depthwise": lambda: nn.Conv2d(8, 8, 5, groups=8),
}


def counted_flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("m", [3, 9])
def test_flops_of_both_forms_are_those_that_run(kind, m):
    """The two steps as the paper has them: each input channel with each atom, then alpha as a 1x1 convolution."""
    layer, x = CONVOLUTIONS[kind](), torch.randn(1, 8, 11, 13)
    layout, recipe = layout_of("layer", layer), DecompositionConfig(atoms=m)
    m = recipe.n_atoms(layout)  # a depthwise layer has fewer rows than 9
    atoms, alpha = torch.randn(m, 1, *layer.kernel_size), torch.randn(layout.n_rows, m)
    positions = layer(x)[0, 0].numel()

    def two_steps():
        each = conv2d(x, atoms.repeat(8, 1, 1, 1), None, layer.stride, layer.padding, layer.dilation, groups=8)
        conv2d(each, alpha.reshape(layer.out_channels, -1, 1, 1), groups=layer.groups)

    flops = layer_flops(layout, recipe, (11 * 13, positions))
    assert flops.one_step == counted_flops(lambda: layer(x))
    assert flops.two_step == counted_flops(two_steps)


@pytest.mark.parametrize(
    ("kind", "m", "one_step", "two_step"),
    [
        # 143 output positions of 12 channels, each a sum over 8 x 9; 8 channels with 3 atoms of 9, then 12 x 24 sums
        ("plain", 3, 2 * 143 * 12 * 8 * 9, 2 * 143 * (8 * 3 * 9 + 12 * 8 * 3)),
        ("strided", 3, 2 * 30 * 12 * 8 * 9, 2 * 30 * (8 * 3 * 9 + 12 * 8 * 3)),  # 5 x 6 positions
        ("grouped", 3, 2 * 99 * 12 * 2 * 9, 2 * 99 * (8 * 3 * 9 + 12 * 2 * 3)),  # 9 x 11; 2 channels of a group
        ("depthwise", 3, 2 * 63 * 8 * 25, 2 * 63 * (8 * 3 * 25 + 8 * 3)),  # 7 x 9; one channel of a group
    ],
)
def test_flops_of_both_forms_by_hand(kind, m, one_step, two_step):
    layer = CONVOLUTIONS[kind]()
    positions = layer(torch.empty(1, 8, 11, 13))[0, 0].numel()
    flops = layer_flops(layout_of("layer", layer), DecompositionConfig(atoms=m), (143, positions))
    assert (flops.one_step, flops.two_step) == (one_step, two_step)


def test_flops_of_two_steps_in_blocks():
    """A pointwise layer: atoms are k_c x k_c' convolutions of the blocks of channels, then alpha sums them."""
    layer, x = nn.Conv2d(8, 12, 1), torch.randn(1, 8, 5, 7)
    recipe = DecompositionConfig(atoms=1, block=(4, 2))
    layout = layout_of("layer", layer, recipe.block)
    m, (p, q), blocks = recipe.n_atoms(layout), layout.block, layout.input_channels
    atoms, alpha = torch.randn(m * p, q, 1, 1), torch.randn(12 // p, blocks * m)

    def two_steps():
        each = conv2d(x, atoms.repeat(blocks, 1, 1, 1), groups=blocks).reshape(blocks * m, p * 5 * 7)
        alpha @ each

    assert layer_flops(layout, recipe, (35, 35)).two_step == counted_flops(two_steps)


def test_flops_of_expanded_atoms():
    layer, x = nn.Conv2d(8, 12, 3), torch.randn(1, 8, 9, 9)
    recipe = DecompositionConfig(atoms=3, expansion=4)
    layout = layout_of("layer", layer)
    below, alpha_1, alpha = torch.randn(12, 1, 3, 3), torch.randn(1, 4), torch.randn(12, 24, 1, 1)

    def three_steps():
        finest = conv2d(x, below.repeat(8, 1, 1, 1), groups=8)
        each = torch.stack([alpha_1 @ part.reshape(4, 49) for part in finest[0].split(4)])
        conv2d(each.reshape(1, 24, 7, 7), alpha)

    assert layer_flops(layout, recipe, (81, 49)).two_step == counted_flops(three_steps)


def test_flops_of_the_update_do_not_grow_with_the_batch():
    layout = layout_of("layer", nn.Conv2d(8, 12, 3))
    recipe = DecompositionConfig(atoms=6)
    alpha, atoms = torch.randn(96, 6), torch.randn(6, 9)
    flops = layer_flops(layout, recipe)
    assert flops.update == counted_flops(lambda: alpha @ atoms)
    assert flops.update_gradient == counted_flops(lambda: alpha.T @ torch.randn(96, 9))
    assert layer_flops(layout, recipe, (4, 4)).update == flops.update


@pytest.mark.parametrize("own", [False, True])
def test_flops_of_blocks_of_alpha(own):
    """dD_c with the atoms (of each input channel, where they are its own), then alpha_c with the patches that gives."""
    options = {"expansion": 2, "expansion_coefficients": "per-channel"} if own else {}
    recipe = DecompositionConfig(atoms=3, block=(2, 4), block_coefficients=True, **options)
    layout = layout_of("layer", nn.Conv2d(8, 12, 3))
    plain = layer_flops(layout, replace(recipe, block_coefficients=False, block=None))
    (p, q), rows, m_c = (4, 2), 12 * 8 // 8, 12
    atoms, block_atoms = torch.randn(*((8,) if own else ()), 3, 9), torch.randn(m_c, p * 3 * q)
    of_alpha = coefficient_layout(layout, 3, recipe.block)
    alpha_c = torch.randn(rows // 4, m_c, 4)

    def patches():
        return blocked_atoms(block_atoms, atoms, of_alpha)

    def with_codes():
        made = patches()
        return torch.einsum("oai,iad->oid" if own else "oai,ad->oid", alpha_c, made)

    assert layer_flops(layout, recipe).update - plain.update == counted_flops(with_codes)


def test_positions_are_those_of_the_features(every_kind):
    seen = layer_positions(every_kind, 12)
    assert seen["stem"] == (144, 144)
    assert seen["strided"] == (144, 36)
    assert seen["mix"] == (1, 1)
    assert seen["classifier"] == (1, 1)
    assert layer_positions(every_kind.to("meta"), 12) == seen


def test_model_flops_are_those_that_run():
    """All kernels take part with blocks, so that one step is the model's own forward pass, its head apart."""
    model = load_architecture("resnet18")
    recipe = DecompositionConfig(block=4)
    count = count_parameters(model, recipe=recipe)
    cost, note = count_cost(model, count, recipe, 64)
    whole = counted_flops(lambda: model(torch.empty(1, 3, 64, 64, device="meta")))
    assert note == ""
    assert cost.one_step_flops == whole - 2 * 512 * 1000
    assert cost.merged_flops == 0


@pytest.mark.parametrize("name", ["diffusers:stable-diffusion-xl", "diffusers:UNet2DModel", "transformers:convnext"])
def test_models_of_other_libraries_run_on_the_meta_device(name):
    model = load_architecture(name)
    recipe = DecompositionConfig()
    cost, note = count_cost(model, count_parameters(model), recipe)
    assert note == ""
    assert cost.one_step_flops > 10**6


def test_bytes_are_those_of_the_tensors(every_kind, tmp_path):
    recipe = DecompositionConfig(solver="pca", block=2)
    count = count_parameters(every_kind, recipe=recipe)
    cost, _ = count_cost(every_kind, count, recipe, 12)
    tuned = get_peft_model(
        every_kind, FilterSubspaceConfig(solver="pca", block=2, modules_to_save=["classifier"], save_coefficients=True)
    )
    trained = [p for p in tuned.parameters() if p.requires_grad]
    assert cost.gradient_bytes == sum(p.numel() * p.element_size() for p in trained)
    optimizer = torch.optim.Adam(trained)
    for p in trained:
        p.grad = torch.ones_like(p)
    optimizer.step()
    states = [s for state in optimizer.state.values() for s in state.values() if s.dim()]
    assert cost.optimizer_bytes == sum(s.numel() * s.element_size() for s in states)
    tuned.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    held = {"atoms": [], "coefficients": [], "classifier": []}
    for name, tensor in saved.items():
        for part, tensors in held.items():
            if f"_{part}" in name or f".{part}" in name:
                tensors.append(tensor.numel() * tensor.element_size())
    assert cost.adapter_bytes == sum(held["atoms"]) + sum(held["classifier"])
    assert cost.coefficient_bytes == sum(held["coefficients"])


def test_linear_codes_need_one_small_matrix_a_layer():
    recipe = DecompositionConfig(solver="pca")
    count = count_parameters("resnet18", recipe=recipe)
    cost, _ = count_cost(load_architecture("resnet18"), count, recipe)
    sizes = [layer.atoms * layer.shape[2] * layer.shape[3] for layer in count.layers]
    assert cost.linear_code_entries == sum(sizes) < cost.stored_coefficients


def test_a_bare_file_has_no_flops_and_says_so():
    weights = {"a": torch.ones(8, 4, 3, 3)}
    recipe = DecompositionConfig()
    cost, note = count_cost(weights, count_parameters(weights, recipe=recipe), recipe)
    assert cost.one_step_flops is None
    assert cost.update_flops == 2 * 32 * 9 * 9
    assert "no architecture" in note


def test_sizes_that_a_model_refuses():
    model = load_architecture("vit_tiny_patch16_224")
    with pytest.raises(FiltersubError, match="does not run on images of 100 pixels"):
        layer_positions(model, 100)
