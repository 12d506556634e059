"""Random coefficients: drawn by the seed alone, as large as the principal ones, with atoms of least squares."""

import copy

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn

from filtersub import FilterSubspaceConfig
from filtersub.decomposition import DecompositionConfig, ModelDecomposition, choose_atoms, decompose_model
from filtersub.errors import FiltersubError
from filtersub.parameters import count_parameters


def kernels(seed=0, shape=(40, 12, 3, 3)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(weight, name="layer", **options):
    return decompose_model({name: weight}, DecompositionConfig(solver="random", **options)).layers[name]


CASES = {
    "fewer than the patch": {"atoms": 4},
    "more than the patch": {"atoms": 20},
    "blocks": {"atoms": 2, "block": 2, "block_spatial": True},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_energy_is_that_of_principal_coefficients_and_atoms_solve_least_squares(options):
    found = drawn(kernels(), **options)
    rows = found.layout.to_rows(kernels())
    squares = torch.linalg.svdvals(rows)[: found.atoms.shape[0]].square().sum()
    assert found.coefficients.square().sum().item() == pytest.approx(squares.item(), rel=1e-12)
    left = rows - found.coefficients @ found.atoms
    assert (found.coefficients.T @ left).abs().max() < 1e-10 * rows.norm() * found.coefficients.norm()
    assert found.squared_error == pytest.approx(left.square().sum().item())
    n_rows, n_atoms = found.coefficients.shape
    assert found.relative_error == pytest.approx((1 - n_atoms / n_rows) ** 0.5, abs=0.05)  # as by chance


def test_entries_are_independent_gaussians():
    codes = drawn(kernels(), atoms=20).coefficients
    assert codes.mean().item() == pytest.approx(0, abs=4 * codes.std().item() / codes.numel() ** 0.5)
    kurtosis = (codes**4).mean() / (codes**2).mean() ** 2
    assert kurtosis.item() == pytest.approx(3, abs=0.25)
    correlations = torch.corrcoef(codes.T) - torch.eye(20)
    assert correlations.abs().max() < 5 / codes.shape[0] ** 0.5


def test_the_seed_determines_them_and_neither_name_nor_weights_do():
    one = drawn(kernels(), atoms=3, seed=1).coefficients
    assert torch.equal(one, drawn(kernels(), "other", atoms=3, seed=1).coefficients)
    other_weights = drawn(3 * kernels(seed=9), atoms=3, seed=1).coefficients
    assert torch.nn.functional.cosine_similarity(one.flatten(), other_weights.flatten(), 0) == pytest.approx(1)
    for changed in (drawn(kernels(), atoms=3, seed=2), drawn(kernels(shape=(12, 40, 3, 3)), atoms=4, seed=1)):
        cosine = torch.nn.functional.cosine_similarity(one.flatten(), changed.coefficients[:, :3].flatten(), 0)
        assert abs(cosine) < 0.15


def test_a_kernel_of_zeros_stays_one():
    assert not drawn(torch.zeros(6, 5, 3, 3), atoms=2).coefficients.any()


def test_a_file_without_coefficients_draws_them_again(tmp_path):
    weights = {"one": kernels(), "two": kernels(1)}
    found = decompose_model(weights, DecompositionConfig(solver="random", atoms=3, seed=4))
    found.save(tmp_path / "atoms.safetensors", coefficients=False)
    loaded = ModelDecomposition.load(tmp_path / "atoms.safetensors", weights)
    for name, layer in found.layers.items():
        assert torch.equal(loaded.layers[name].coefficients, layer.coefficients)


def test_an_adapter_holds_the_seed_and_draws_them_again(tmp_path):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1))
    twin, untuned = copy.deepcopy(base), copy.deepcopy(base)
    config = FilterSubspaceConfig(solver="random", atoms=3, block=2, seed=11, target_modules=["0", "1"])
    model = get_peft_model(base, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    images = torch.randn(2, 3, 6, 6)
    wanted = model(images)
    assert not torch.allclose(wanted, untuned(images))
    model.save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(twin, tmp_path)(images), wanted)
    assert not any("coefficients" in name for name in load_file(tmp_path / "adapter_model.safetensors"))


@pytest.mark.parametrize("block", [None, 4])
def test_they_train_as_many_parameters_as_sparse_ones(block):
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.Conv2d(16, 32, 1))
    counts = {
        solver: count_parameters(model, recipe=DecompositionConfig(atoms=6, block=block, solver=solver))
        for solver in ("random", "lasso")
    }
    assert counts["random"].trainable == counts["lasso"].trainable > 0


REFUSED = {
    "nonnegative": (
        lambda: DecompositionConfig(solver="random", nonnegative=True),
        "'random' has random codes, which cannot be kept nonnegative",
    ),
    "a shared dictionary": (
        lambda: decompose_model({"a": kernels(), "b": kernels(1)}, DecompositionConfig(solver="random"), shared=True),
        "'a' has random coefficients, whose atoms are its own",
    ),
    "an error to meet": (
        lambda: choose_atoms({"a": kernels()}, DecompositionConfig(solver="random"), max_error=0.5),
        "no m meets an error",
    ),
    "a near name": (lambda: DecompositionConfig(solver="randon"), "did you mean 'random'"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_they_cannot_do_is_said(call, message):
    with pytest.raises(FiltersubError) as raised:
        call()
    assert message in str(raised.value)
