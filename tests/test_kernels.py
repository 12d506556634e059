"""The blocked-kernel-matrix rule, for every layer kind."""

import pytest
import torch
from conftest import POINTWISE, SPATIAL
from torch import nn

from filtersub.errors import FiltersubError
from filtersub.kernel_layout import check_block
from filtersub.kernels import kernel_matrix, layout_of, select_layers

KINDS = {
    "conv1d": nn.Conv1d(8, 12, 5),
    "conv2d": nn.Conv2d(8, 12, 3),
    "conv3d": nn.Conv3d(4, 8, (3, 1, 2)),
    "grouped": nn.Conv2d(8, 12, 3, groups=4),
    "depthwise": nn.Conv2d(8, 8, 3, groups=8),
    "transposed": nn.ConvTranspose2d(8, 12, 3, groups=2),
    "transposed depthwise": nn.ConvTranspose1d(8, 8, 5, groups=8),
    "transposed volume": nn.ConvTranspose3d(8, 12, (1, 3, 2), groups=4),
    "linear": nn.Linear(8, 12),
    "pointwise": nn.Conv2d(8, 12, 1),
}


@pytest.mark.parametrize("block", [1, 2, 3, 4, (2, 4), (4, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_weight_are_inverse(kind, block):
    layer = KINDS[kind]
    layout = layout_of(kind, layer, block, block_spatial=True)
    rows = layout.to_rows(layer.weight)
    assert rows.shape == (layout.n_rows, layout.patch_size)
    assert torch.equal(layout.to_weight(rows), layer.weight)


def test_rows_follow_the_rule_entry_by_entry():
    """(o p) (i q) *k -> (o i) (p *k q), written out with loops."""
    weight = torch.arange(4 * 6 * 2 * 3, dtype=torch.float64).reshape(4, 6, 2, 3)
    layout = layout_of("x", weight, block=(3, 2), block_spatial=True)  # k_c' = 3 inputs, k_c = 2 outputs
    assert layout.block == (2, 3)
    rows = layout.to_rows(weight)
    for o in range(2):
        for i in range(2):
            patch = [
                weight[2 * o + p, 3 * i + q, y, x]
                for p in range(2)
                for y in range(2)
                for x in range(3)
                for q in range(3)
            ]
            assert rows[2 * o + i].tolist() == [float(v) for v in patch]


def test_transposed_kernels_share_rows_with_their_plain_twin():
    """Transposed kernels store (c_in, c_out / groups, *k); their rows are those of (c_out, c_in / groups, *k)."""
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)
    twin = torch.cat([group.transpose(0, 1) for group in layer.weight.chunk(2)])
    transposed = layout_of("t", layer, block=(2, 3), block_spatial=True)
    plain = layout_of("p", twin, block=(2, 3), block_spatial=True)
    assert transposed.channels == plain.channels == (6, 2)
    assert torch.equal(transposed.to_rows(layer.weight), plain.to_rows(twin))


def test_rows_of_an_input_channel_are_every_one_in_turn():
    """Row (o, i) belongs to input channel i, as atoms per input channel take it."""
    layer = nn.ConvTranspose2d(8, 12, 3, groups=2)
    layout = layout_of("t", layer, block=2, block_spatial=True)
    assert layout.input_channels == 2
    assert layout.patch_shape == (2, 3, 3, 2)
    marked = torch.arange(8.0)[:, None, None, None].expand_as(layer.weight)  # each entry its own input channel
    patches = layout.to_rows(marked).reshape(-1, *layout.patch_shape)
    for row, patch in enumerate(patches):
        first = (row % layout.input_channels) * 2
        assert {int(value) % 4 for value in patch.flatten()} == {first, first + 1}  # 4 input channels a group


def test_side_that_does_not_divide_becomes_one():
    assert layout_of("x", nn.Linear(10, 12), block=4).block == (4, 1)
    assert layout_of("x", nn.Conv2d(3, 8, 3), block=4, block_spatial=True).block == (4, 1)


def test_transformers_conv1d_is_a_transposed_linear_layer():
    from transformers.pytorch_utils import Conv1D

    layer, linear = Conv1D(12, 8), nn.Linear(8, 12)
    linear.weight.data = layer.weight.data.T.contiguous()
    ours, plain = layout_of("a", layer, block=4), layout_of("b", linear, block=4)
    assert torch.equal(ours.to_rows(layer.weight), plain.to_rows(linear.weight))
    assert torch.equal(ours.to_weight(ours.to_rows(layer.weight)), layer.weight)


def test_which_layers_take_part(every_kind):
    assert tuple(select_layers(every_kind, exclude=("classifier",))) == SPATIAL
    with_blocks = select_layers(every_kind, block=4, exclude=("classifier",))
    assert set(with_blocks) == set(SPATIAL + POINTWISE)
    assert with_blocks["stem"].block == (1, 1)
    assert tuple(select_layers(every_kind, layers="^(stem|mix)$", block=4)) == ("stem", "mix")


def test_bare_tensors_are_layers():
    tensors = {"a.weight": torch.zeros(4, 4, 3, 3), "a.bias": torch.zeros(4), "b": torch.zeros(4, 4)}
    assert tuple(select_layers(tensors)) == ("a",)
    assert tuple(select_layers(tensors, block=2)) == ("a", "b")


@pytest.mark.parametrize("block", [0, -1, 2.0, (2, 0), (1, 2, 3), True])
def test_bad_blocks_are_named(block):
    with pytest.raises(FiltersubError, match="block must be"):
        check_block(block)


def test_nothing_selected_says_what_there_is(every_kind):
    with pytest.raises(FiltersubError, match="'classifier' is left out"):
        select_layers(every_kind, layers="classifier", block=2, exclude=("classifier",))
    with pytest.raises(FiltersubError, match="no convolution or linear layer of floating-point numbers"):
        select_layers({"a.weight": torch.ones(3, 3, dtype=torch.int64)}, block=1)
    with pytest.raises(FiltersubError, match=r"'nowhere'.*stem"):
        select_layers(every_kind, layers="nowhere")
    with pytest.raises(FiltersubError, match="only with a block"):
        select_layers(every_kind, layers="pointwise")
    with pytest.raises(FiltersubError, match="not a regular expression"):
        select_layers(every_kind, layers="(")


def test_weights_that_are_not_finite_are_named(every_kind):
    every_kind.stem.weight.data[0, 0, 0, 0] = float("nan")
    layout = layout_of("stem", every_kind.stem)
    with pytest.raises(FiltersubError, match="'stem' has 1 weights"):
        kernel_matrix(layout, every_kind.stem)
