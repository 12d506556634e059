"""Errors seen from the network's side, and from other formats of the same size."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from filtersub import diagnostics
from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.diagnostics.tensor_formats import cp_rank_bound, stored_numbers, tucker_ranks
from filtersub.errors import FiltersubError
from filtersub.photographs import PHOTOGRAPHS, centre_crops, load_photograph, photograph_batches

RECIPE = DecompositionConfig(atoms=2, block=2, solver="pca")


@pytest.fixture
def found(every_kind):
    return decompose_model(every_kind, RECIPE, exclude=("classifier",))


def test_output_errors_are_those_of_the_layers_alone(every_kind, found, images):
    """Against a plain computation: catch each layer's input, run it with both kernels, take the bias off."""
    caught = {}
    hooks = [
        every_kind.get_submodule(name).register_forward_hook(lambda _m, x, _y, name=name: caught.update({name: x[0]}))
        for name in found.layers
    ]
    with torch.no_grad():
        every_kind(images)
    for hook in hooks:
        hook.remove()
    table = diagnostics.output_table(every_kind, found, images.split(3)).set_index("name")
    assert set(table["images"]) == {len(images)}
    rebuilt = found.rebuild_(copy.deepcopy(every_kind))
    for name, row in table.iterrows():
        with torch.no_grad():
            before, after = (model.get_submodule(name)(caught[name]) for model in (every_kind, rebuilt))
            zero = every_kind.get_submodule(name)(torch.zeros_like(caught[name]))  # the bias alone
        assert row["output_norm"] == pytest.approx(float((before - zero).norm()), rel=1e-4)
        expected = float((before - after).norm() / (before - zero).norm())
        assert row["output_error"] == pytest.approx(expected, rel=1e-3, abs=1e-6)  # exact layers leave float32 rounding


def test_an_orthonormal_input_sees_the_weights_own_error():
    """Inputs that are the unit vectors make the output the kernel itself: both errors agree."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6))
    found = decompose_model(model, DecompositionConfig(atoms=1, block=2))
    (row,) = diagnostics.output_table(model, found, [torch.eye(8)]).itertuples()
    assert row.output_error == pytest.approx(row.weight_error, rel=1e-5)


def test_looking_leaves_the_model_as_it_was(every_kind, found, images):
    every_kind.train()
    before = copy.deepcopy(every_kind.state_dict())
    diagnostics.output_table(every_kind, found, [images])
    diagnostics.prediction_table(every_kind, found, [images])
    assert every_kind.training
    assert all(torch.equal(value, before[name]) for name, value in every_kind.state_dict().items())
    assert not any(module._forward_hooks for module in every_kind.modules())


def test_no_images_are_an_error(every_kind, found):
    for table in (diagnostics.output_table, diagnostics.prediction_table):
        with pytest.raises(FiltersubError, match="no images"):
            table(every_kind, found, [])


def test_enough_atoms_predict_the_same(every_kind, images):
    exact = decompose_model(every_kind, DecompositionConfig(atoms=25, block=2, solver="pca"), exclude=("classifier",))
    labels = torch.tensor([0, 1, 2, 3])
    table = diagnostics.prediction_table(every_kind, exact, [(images[:3], labels[:3]), (images[3:], labels[3:])])
    assert table["image"].tolist() == [0, 1, 2, 3]
    assert table["agrees"].all()
    assert table["logit_error"].max() < 1e-5
    summary = diagnostics.agreement(table)
    assert summary.loc[0, ["agreement", "accuracy_change"]].tolist() == [1.0, 0.0]
    assert summary.loc[0, "accuracy"] == (table["predicted"] == table["label"]).mean()


def test_predictions_are_those_of_the_rebuilt_model(every_kind, found, images):
    table = diagnostics.prediction_table(every_kind, found, [images])
    with torch.no_grad():
        logits = found.rebuild_(copy.deepcopy(every_kind))(images)
    assert table["predicted_rebuilt"].tolist() == logits.argmax(1).tolist()
    assert table["logit_error"].min() > 1e-3
    assert "label" not in table


def test_formats_stay_within_the_budget(every_kind, found):
    table = diagnostics.storage_table(every_kind, found, max_iter=20)
    assert set(table["method"]) == {"atoms", "cp", "tucker"}
    assert len(table) == 2 * 3 * len(found.layers)
    assert (table["stored"] <= table["budget"]).all()
    assert table["relative_error"].between(0, 1 + 1e-9).all()
    ours = table[(table["method"] == "atoms") & (table["counting"] == "dense")].set_index("name")
    for name, layer in found.layers.items():
        assert ours.loc[name, "stored"] == layer.atoms.numel() + layer.coefficients.numel()
        assert ours.loc[name, "relative_error"] == layer.relative_error


def test_cp_and_tucker_return_what_was_planted():
    """A kernel of CP rank 2 needs no more than rank 2, and Tucker ranks of 2, to be exact."""
    random = np.random.default_rng(0)
    factors = [random.standard_normal((size, 2)) for size in (12, 10, 3, 3)]
    weight = torch.from_numpy(np.einsum("ar,br,cr,dr->abcd", *factors)).float()
    found = decompose_model({"a": weight}, DecompositionConfig(atoms=1, solver="pca"))
    assert stored_numbers(found.layers["a"], "dense") > 2 * (12 + 10 + 3 + 3)
    table = diagnostics.storage_table({"a": weight}, found, max_iter=500).set_index(["counting", "method"])
    assert table.loc[("dense", "cp"), "relative_error"] < 1e-3
    assert table.loc[("dense", "tucker"), "relative_error"] < 1e-5
    assert table.loc[("dense", "atoms"), "relative_error"] > 0.05


ODD_KERNELS = {
    "all zero": lambda w: w.zero_(),
    "constant": lambda w: w.fill_(0.3),
    "tiny": lambda w: w.mul_(1e-12),
    "one filter left": lambda w: w[1:].zero_(),
    "one channel left": lambda w: w[:, 1:].zero_(),
    "equal filters": lambda w: w.copy_(w[:1].clone().expand_as(w)),
    "one number": lambda w: w.zero_().view(-1)[0].fill_(2.0),
    "one position": lambda w: w[..., 1:].zero_(),
}


@pytest.mark.parametrize("kernel", ODD_KERNELS)
@pytest.mark.parametrize("layer", [nn.Conv1d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.ConvTranspose2d(6, 4, 3)])
def test_formats_take_kernels_of_few_directions(kernel, layer):
    torch.manual_seed(0)
    net = nn.Sequential(copy.deepcopy(layer), nn.ReLU(), nn.Conv2d(8, 8, 3))
    with torch.no_grad():
        net[0].weight.normal_()
        ODD_KERNELS[kernel](net[0].weight)
    table = diagnostics.storage_table(net, decompose_model(net, DecompositionConfig(atoms=3, solver="pca")))
    assert set(table["name"]) == {"0", "2"}
    assert table["relative_error"].between(0, 1 + 1e-9).all()
    mine = table[(table["name"] == "0") & (table["method"] == "cp")]
    assert (mine["stored"] <= mine["budget"]).all()
    mine = mine[mine["counting"] == "dense"]
    if kernel in ("all zero", "constant", "one number"):
        assert mine["relative_error"].max() < 1e-6
        assert set(mine["ranks"]) == {"0" if kernel == "all zero" else "1"}


def test_tucker_ranks_are_the_best_that_fit():
    tensor = np.random.default_rng(1).standard_normal((6, 4, 3)) * np.array([5, 1, 0.1])
    budget = 60
    chosen = tucker_ranks(tensor, budget)
    storage = lambda ranks: int(np.prod(ranks) + np.dot(ranks, tensor.shape))  # noqa: E731
    assert storage(chosen) <= budget

    def kept(ranks):
        core = tensor
        for mode, rank in enumerate(ranks):
            unfolded = np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)
            basis = np.linalg.svd(unfolded, full_matrices=False)[0][:, :rank]
            core = np.moveaxis(np.tensordot(basis.T, core, axes=(1, mode)), 0, mode)
        return float((core**2).sum())

    best = max(kept(r) for r in np.ndindex(7, 5, 4) if min(r) > 0 and storage(r) <= budget)
    assert kept(chosen) == pytest.approx(best)
    assert tucker_ranks(tensor, sum(tensor.shape)) is None


def test_cp_never_needs_more_than_its_bound():
    weight = torch.randn(20, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert cp_rank_bound((20, 3, 3)) == 9
    found = decompose_model({"a": weight}, DecompositionConfig(atoms=20, solver="lasso", max_rounds=1))
    table = diagnostics.storage_table({"a": weight}, found, formats=["cp"]).set_index(["counting", "method"])
    assert table.loc[("dense", "cp"), "ranks"] == "9"
    with pytest.raises(FiltersubError, match="unknown tensor format 'tt'"):
        diagnostics.storage_table({"a": weight}, found, formats=["tt"])


def test_photographs_are_real_and_repeatable():
    for name in PHOTOGRAPHS:
        photograph = load_photograph(name)
        assert photograph.shape[0] == 3
        assert 0 <= photograph.min() < 0.1 < 0.9 < photograph.max() <= 1
    first, again, other = (torch.cat(list(photograph_batches(5, size=16, batch_size=2, seed=s))) for s in (0, 0, 1))
    assert first.shape == (5, 3, 16, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    mean = (0.4, 0.5, 0.6)
    plain, moved = centre_crops(8, mean=(0, 0, 0), std=(1, 1, 1)), centre_crops(8, mean=mean, std=(2, 2, 2))
    torch.testing.assert_close(moved, (plain - torch.tensor(mean).view(1, 3, 1, 1)) / 2)
    with pytest.raises(FiltersubError, match="unknown photograph 'cat'"):
        load_photograph("cat")
    with pytest.raises(FiltersubError, match="n_images must be at least 1, got 0"):
        photograph_batches(0)
