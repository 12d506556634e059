"""A layer's and a model's decomposition: reconstruct, save, load, rebuild."""

import copy

import pytest
import torch
from conftest import POINTWISE, SPATIAL
from torch import nn

from filtersub.decomposition import DecompositionConfig, ModelDecomposition, decompose_model, decompose_weight
from filtersub.diagnostics import convergence_table, error_curve, layer_table
from filtersub.errors import FiltersubError
from filtersub.kernels import layout_of
from filtersub.sparse_coding import SOLVERS


@pytest.mark.parametrize("solver", ["lasso", "omp", "pca", "fista"])
def test_enough_atoms_and_no_penalty_reconstruct_exactly(every_kind, solver):
    """d independent atoms span every patch."""
    config = DecompositionConfig(atoms=9, solver=solver, l1_penalty=0.0, nonzeros=9)
    layout = layout_of("stem", every_kind.stem)
    found = decompose_weight(layout, every_kind.stem.double(), config)
    # FISTA approaches an ill-conditioned least-squares problem only as far as its tolerance
    tolerance = 1e-3 if solver == "fista" else 1e-7
    torch.testing.assert_close(found.weight(), every_kind.stem.weight, atol=tolerance, rtol=0)


def test_relative_error_is_the_residual(every_kind):
    found = decompose_weight(layout_of("stem", every_kind.stem), every_kind.stem, DecompositionConfig(atoms=4))
    weight = every_kind.stem.weight.detach()
    expected = float((weight - found.weight()).norm() / weight.norm())
    assert found.relative_error == pytest.approx(expected, rel=1e-4)
    assert 0 < found.density <= 1
    assert found.atom_pictures().shape == (4, 1, 3, 3, 1)


def test_every_layer_kind_of_a_model(every_kind):
    found = decompose_model(every_kind, DecompositionConfig(atoms=4, block=2, max_rounds=1000), exclude=("classifier",))
    assert set(found.layers) == set(SPATIAL + POINTWISE)
    table = layer_table(found).set_index("name")
    assert table.loc["mix", "atoms"] == 16  # m p q
    assert table.loc["stem", "atoms"] == 4
    assert bool((table["relative_error"] < 1).all())
    assert bool(table["converged"].all())


def test_linear_codes_have_at_most_d_atoms(every_kind):
    config = DecompositionConfig(atoms=9, block=2, solver="pca")
    found = decompose_model(every_kind, config, layers="^(mix|sequence)$")
    assert found.layers["mix"].atoms.shape == (4, 4)
    assert found.layers["sequence"].atoms.shape == (3, 3)
    assert found.relative_error < 1e-6


def test_never_more_atoms_than_rows():
    layout = layout_of("tiny", torch.randn(1, 4, 3, 3))
    assert DecompositionConfig(atoms=9).n_atoms(layout) == 4


def test_error_falls_with_atoms(every_kind):
    curve = error_curve(every_kind, DecompositionConfig(solver="pca"), [1, 3, 6, 9], layers="stem|grouped")
    for _, layer in curve.groupby("name"):
        assert layer.sort_values("m")["relative_error"].is_monotonic_decreasing
    assert curve["m"].tolist() == [1, 1, 3, 3, 6, 6, 9, 9]


def test_convergence_never_rises(every_kind):
    table = convergence_table(decompose_model(every_kind, DecompositionConfig(atoms=4)))
    for _, layer in table.groupby("name"):
        assert layer["objective"].is_monotonic_decreasing
        assert layer["relative_to_start"].iloc[0] == 1.0


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_decomposes_a_layer_and_its_objective_is_the_last_of_its_history(every_kind, solver):
    config = DecompositionConfig(atoms=6, solver=solver, l1_penalty=0.02, max_rounds=20)
    found = decompose_weight(layout_of("stem", every_kind.stem), every_kind.stem.double(), config)
    assert found.objective == pytest.approx(found.history[-1], rel=1e-9)
    assert 0 < found.relative_error < 0.9


def test_save_and_load_is_identity(every_kind, tmp_path):
    found = decompose_model(every_kind, DecompositionConfig(atoms=4, block=(2, 4)))
    again = ModelDecomposition.load(found.save(tmp_path / "atoms.safetensors"))
    assert again.config == found.config
    for name, layer in found.layers.items():
        assert torch.equal(again.layers[name].atoms, layer.atoms)
        assert torch.equal(again.layers[name].coefficients, layer.coefficients)
        assert again.layers[name].layout == layer.layout
        assert again.layers[name].history == layer.history
    assert [p.name for p in tmp_path.iterdir()] == ["atoms.safetensors"]


def test_a_truncated_file_is_one_clear_error(every_kind, tmp_path):
    path = decompose_model(every_kind, DecompositionConfig(atoms=4)).save(tmp_path / "atoms.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FiltersubError, match=r"atoms\.safetensors is not a decomposition"):
        ModelDecomposition.load(path)


def test_rebuilding_replaces_each_kernel(every_kind, images):
    found = decompose_model(every_kind, DecompositionConfig(atoms=4, l1_penalty=0.02))
    rebuilt = found.rebuild_(copy.deepcopy(every_kind))
    assert torch.equal(rebuilt.stem.weight, found.layers["stem"].weight())
    assert not torch.equal(rebuilt(images), every_kind(images))


@pytest.mark.parametrize("blocks", [{"block": 1}, {"block": (2, 4)}, {"block": (2, 1), "block_spatial": True}])
def test_as_many_atoms_as_numbers_in_a_patch_rebuild_every_kind_from_its_file(tmp_path, blocks):
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    kinds = {
        "conv1d": nn.Conv1d(8, 12, 5),
        "conv2d": nn.Conv2d(8, 12, 3, stride=2),
        "conv3d": nn.Conv3d(4, 8, (3, 1, 2)),
        "grouped": nn.Conv2d(8, 12, 3, groups=4),
        "depthwise": nn.Conv2d(16, 16, 3, groups=16),
        "transposed1d": nn.ConvTranspose1d(16, 16, 5, groups=16),
        "transposed2d": nn.ConvTranspose2d(8, 12, 3, groups=2),
        "transposed3d": nn.ConvTranspose3d(8, 12, (1, 3, 2), groups=4),
        "pointwise": nn.Conv2d(8, 12, 1),
        "linear": nn.Linear(8, 12),
        "transformers": Conv1D(8, 12),
    }
    model = nn.ModuleDict(kinds).double()
    found = decompose_model(model, DecompositionConfig(atoms=16, solver="pca", **blocks))
    assert set(found.layers) == set(kinds)
    emptied = copy.deepcopy(model)
    for layer in emptied.values():
        nn.init.zeros_(layer.weight)
    rebuilt = ModelDecomposition.load(found.save(tmp_path / "whole.safetensors")).rebuild_(emptied)
    for name, layer in model.items():
        torch.testing.assert_close(rebuilt[name].weight, layer.weight, atol=1e-12, rtol=0)


def test_damaged_weights_stop_before_any_work(every_kind):
    every_kind.volume.weight.data[0] = float("inf")
    seen = []
    with pytest.raises(FiltersubError, match="'volume'"):
        decompose_model(every_kind, DecompositionConfig(atoms=4), on_layer=lambda *args: seen.append(args))
    assert seen == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"atoms": 0}, "atoms must be a positive integer, got 0"),
        ({"atoms": -2}, "got -2"),
        ({"block": 0}, "block must be"),
        ({"solver": "magic"}, "unknown solver 'magic'"),
        ({"l1_penalty": -1.0}, "l1_penalty must be"),
        ({"l1_penalty": float("nan")}, "l1_penalty must be"),
        ({"l1_penalty": "none"}, "l1_penalty must be a finite number, got 'none'"),
        ({"tol": float("inf")}, "tol must be a finite number >= 0, got inf"),
        ({"max_rounds": -1}, "max_rounds must be an integer >= 0, got -1"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": 0.5}, "seed must be a whole number, got 0.5"),
        ({"nonzeros": 0}, "nonzeros must be a positive integer, got 0"),
        ({"init": "row"}, "did you mean 'rows'"),
        ({"learner": "magic"}, "unknown learner 'magic'"),
        ({"expansion": 0}, "expansion must be a positive integer"),
        ({"expansion": (3, -1)}, "expansion must be a positive integer"),
        ({"expansion": ()}, "at least one level"),
        ({"expansion_coefficients": "perchannel"}, "did you mean 'per-channel'"),
        ({"nonnegative": True, "solver": "pca"}, "cannot be kept nonnegative"),
    ],
)
def test_bad_recipes_are_named(bad, message):
    with pytest.raises(FiltersubError, match=message):
        DecompositionConfig(**bad)
