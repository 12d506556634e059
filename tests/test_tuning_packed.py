"""Packed coefficients and the operators on a stored matrix, against dense products and autograd."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from filtersub.engine.conv.packed import pack
from filtersub.engine.conv.patches import mapped_gradient, mapped_sum, packed_gradient, packed_sum
from filtersub.kernels import layout_of
from filtersub.sparse_coding.linear import ridge_codes
from filtersub.tuning import FilterSubspaceConfig, FilterSubspaceLayer


def sparse_codes(n_rows, n_atoms, n_used, dtype=torch.float64):
    """Rows with at most n_used nonzeros, one row with none."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(n_rows, n_atoms, generator=generator, dtype=torch.float64)
    ranks = torch.rand(n_rows, n_atoms, generator=generator).argsort(1).argsort(1)
    codes[ranks >= n_used] = 0
    codes[0] = 0
    return codes.to(dtype)


def case(block, outs=16, ins=24, n_atoms=300, n_used=5, dtype=torch.float64):
    layout = layout_of("layer", nn.Linear(ins, outs), block)
    codes = sparse_codes(layout.n_rows, n_atoms, n_used, dtype)
    small = torch.randn(n_atoms, layout.patch_size, generator=torch.Generator().manual_seed(1)).to(dtype)
    weight = torch.randn(outs, ins, generator=torch.Generator().manual_seed(2)).to(dtype)
    return layout, codes, small, weight


@pytest.mark.parametrize("n_atoms", [40, 300])
@pytest.mark.parametrize("block", [1, 2, 4, 8, (4, 2), (3, 4)])
def test_packing_is_lossless_and_the_operators_are_the_dense_products(block, n_atoms):
    layout, codes, small, weight = case(block, n_atoms=n_atoms)
    packed = pack(layout, codes)
    assert packed.values.shape == packed.indices.shape == (layout.n_rows, 5)
    assert packed.indices.dtype == (torch.uint8 if n_atoms == 40 else torch.int16)
    assert torch.equal(packed.unpacked(), codes)
    total = packed_sum(weight, packed.values, packed.indices, small, *layout.block)
    torch.testing.assert_close(total, weight + layout.to_weight(codes @ small), atol=1e-12, rtol=0)
    gradient = packed_gradient(weight, packed.values, packed.indices, n_atoms, *layout.block)
    torch.testing.assert_close(gradient, codes.T @ layout.to_rows(weight), atol=1e-12, rtol=0)
    zero = packed_sum(weight, packed.values, packed.indices, torch.zeros_like(small), *layout.block)
    assert torch.equal(zero, weight)


@pytest.mark.parametrize("block", [1, 2, 4, (4, 2), (3, 4)])
def test_the_mapped_operators_are_the_dense_products(block):
    layout, _, _, weight = case(block)
    source, d = weight.flip(0).contiguous(), layout.patch_size
    small = torch.randn(d, d, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rows = layout.to_rows(source)
    total = mapped_sum(weight, source, small, *layout.block)
    torch.testing.assert_close(total, weight + layout.to_weight(rows @ small), atol=1e-12, rtol=0)
    gradient = mapped_gradient(weight, source, *layout.block)
    torch.testing.assert_close(gradient, rows.T @ layout.to_rows(weight), atol=1e-12, rtol=0)


def test_the_operators_are_whole_citizens_of_torch():
    layout, codes, small, weight = case(2, outs=4, ins=8, n_atoms=9, n_used=2)
    packed = pack(layout, codes)
    weight, small = weight.requires_grad_(), small.requires_grad_()
    torch.library.opcheck(packed_sum, (weight, packed.values, packed.indices, small, 2, 2))
    square = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(mapped_sum, (weight, weight.detach(), square, 2, 2))
    torch.autograd.gradcheck(lambda w, b: packed_sum(w, packed.values, packed.indices, b, 2, 2), (weight, small))
    torch.autograd.gradcheck(lambda w, f, b: mapped_sum(w, f, b, 2, 2), (weight, weight, square))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_do_not_depend_on_the_number_of_threads(dtype):
    layout, codes, small, weight = case(4, outs=1024, ins=1024, n_atoms=40, dtype=dtype)
    packed, square = pack(layout, codes), torch.randn(16, 16, dtype=dtype)

    def everything():
        return [
            packed_sum(weight, packed.values, packed.indices, small, 4, 4),
            packed_gradient(weight, packed.values, packed.indices, 40, 4, 4),
            mapped_sum(weight, weight, square, 4, 4),
            mapped_gradient(weight, weight, 4, 4),
        ]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = everything()
        assert packed.values.shape[0] > 32768  # more than one share
        for n_threads in (2, 3):
            torch.set_num_threads(n_threads)
            assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True))
    finally:
        torch.set_num_threads(before)


def test_packing_is_chosen_by_density_and_kind():
    layout = layout_of("layer", nn.Linear(24, 16), 4)
    assert pack(layout, sparse_codes(24, 40, 20)) is not None
    assert pack(layout, sparse_codes(24, 40, 21)) is None  # more than half of the columns
    spatial = layout_of("layer", nn.Conv2d(24, 16, 3), None)
    assert pack(spatial, sparse_codes(spatial.n_rows, 9, 1)) is None
    transposed = layout_of("layer", nn.ConvTranspose2d(24, 16, 1), 4)
    assert pack(transposed, sparse_codes(transposed.n_rows, 40, 5)) is None


def tuned(base, **options):
    model = get_peft_model(base, FilterSubspaceConfig(target_modules=".*", atoms=9, block=4, max_rounds=2, **options))
    with torch.no_grad():
        for i, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(i))
    return model


def layer_of(model):
    return next(module for module in model.modules() if isinstance(module, FilterSubspaceLayer))


@pytest.mark.parametrize("channels_last", [False, True])
def test_sparse_codes_of_blocks_are_packed_and_run_as_dense_ones(channels_last):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(32, 64, 1))
    if channels_last:
        base = base.to(memory_format=torch.channels_last)
    model = tuned(base)
    layer, x = layer_of(model), torch.randn(2, 32, 5, 5)
    assert "default" not in layer.filtersub_coefficients
    values, indices = layer.filtersub_packed_values["default"], layer.filtersub_packed_indices["default"]
    assert values.nbytes + indices.nbytes < 0.2 * 4 * layer.coefficients("default").numel()
    out = model(x)
    (gradient,) = torch.autograd.grad(out.square().sum(), layer.filtersub_atoms["default"])
    atoms = layer.filtersub_atoms["default"].detach().requires_grad_()
    update = layer.layouts["default"].to_weight(layer.coefficients("default") @ atoms)
    expected = nn.functional.conv2d(x, layer.base_layer.weight + update, layer.base_layer.bias)
    torch.testing.assert_close(out, expected)
    (wanted,) = torch.autograd.grad(expected.square().sum(), atoms)
    torch.testing.assert_close(gradient, wanted, atol=1e-3, rtol=1e-4)


def test_saved_coefficients_keep_the_form_of_the_file(tmp_path):
    """The file's rows may be longer or denser than what this base gives: it is loaded as it is."""
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(32, 64, 1))
    other, same = copy.deepcopy(base), copy.deepcopy(base)
    with torch.no_grad():
        other[0].weight.zero_()  # needs no atom at all
    model = tuned(base, save_coefficients=True)
    model.save_pretrained(tmp_path / "packed")
    loaded = PeftModel.from_pretrained(copy.deepcopy(other), tmp_path / "packed")
    assert torch.equal(layer_of(loaded).coefficients("default"), layer_of(model).coefficients("default"))
    dense = tuned(same, save_coefficients=True, solver="pca", hold_coefficients=True)
    assert "default" in layer_of(dense).filtersub_coefficients
    dense.save_pretrained(tmp_path / "dense")
    loaded = PeftModel.from_pretrained(copy.deepcopy(other), tmp_path / "dense")
    assert torch.equal(layer_of(loaded).coefficients("default"), layer_of(dense).coefficients("default"))
    assert "default" not in layer_of(loaded).filtersub_packed_values


@pytest.mark.parametrize("kind", [nn.Conv2d(8, 16, 3), nn.Conv2d(16, 8, 1), nn.Linear(16, 8)], ids=lambda k: str(k)[:6])
def test_ridge_codes_need_no_memory_either(kind):
    """alpha = F V is the ridge solution over the dictionary, is not held, and gives the update of its definition."""
    model = tuned(nn.Sequential(kind).double(), solver="ridge", l1_penalty=0.1, train_coefficients=False)
    layer = layer_of(model)
    layout, weight = layer.layouts["default"], kind.weight
    m, d = layer.filtersub_atoms["default"].shape[0], layout.patch_size
    assert not len(layer.filtersub_coefficients)
    assert not len(layer.filtersub_packed_values)
    assert sum(b.numel() for b in layer.buffers()) == d * m + m
    alpha, rows = layer.coefficients("default"), layout.to_rows(weight.detach())
    mapping = layer.filtersub_mapping["default"]
    # V of ridge over orthonormal atoms: D^T / (1 + l2)
    atoms = mapping.T * 1.1
    torch.testing.assert_close(atoms @ atoms.T, torch.eye(m, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(alpha, ridge_codes(rows, atoms, 0.1).codes, atol=1e-9, rtol=0)
    delta = layout.to_weight(alpha @ layer.filtersub_atoms["default"])
    torch.testing.assert_close(layer.get_delta_weight("default"), delta, atol=1e-9, rtol=0)
