"""Settings by layer, shared dictionaries, and what is refused or noted."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from filtersub.decomposition import DecompositionConfig, decompose_model, decompose_weight, plan_layers, sharing_table
from filtersub.decomposition.model import learn_shared
from filtersub.decomposition.plan import PlannedLayer
from filtersub.dictionary.starts import cosine_atoms
from filtersub.errors import FiltersubError
from filtersub.kernels import layout_of
from filtersub.sparse_coding import kkt_violation, principal_atoms


def stack(seed=0, widths=(8, 12, 16)):
    """3x3 convolutions of one patch shape, a 5x5 one apart."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"stage{i}.conv.weight": torch.randn(width, 8, 3, 3, generator=generator) for i, width in enumerate(widths)
    }
    return {**tensors, "stem.weight": torch.randn(8, 3, 5, 5, generator=generator)}


def test_overrides_reach_the_layers_they_name_and_the_last_one_wins():
    overrides = {"stage": {"atoms": 5}, "stage2": {"atoms": 7, "solver": "pca"}}
    found = decompose_model(stack(), DecompositionConfig(atoms=3), overrides=overrides)
    assert {name: layer.atoms.shape[0] for name, layer in found.layers.items()} == {
        "stage0.conv": 5,
        "stage1.conv": 5,
        "stage2.conv": 7,
        "stem": 3,
    }
    assert found.layers["stage2.conv"].solver == "pca"
    alone = decompose_model(stack(), DecompositionConfig(atoms=5), layers="stage1")
    assert torch.equal(found.layers["stage1.conv"].coefficients, alone.layers["stage1.conv"].coefficients)


def test_an_override_can_bring_a_layer_in(every_kind):
    plan = plan_layers(every_kind, DecompositionConfig(), overrides={"^mix$": {"block": [2, 4]}})
    assert plan["mix"].layout.block == (4, 2)
    assert "pointwise" not in plan


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"stage": {"atom": 3}}, "did you mean 'atoms'"),
        ({"nowhere": {"atoms": 3}}, "'nowhere' matches no layer"),
        ({"(": {"atoms": 3}}, "not a regular expression"),
        ({"stage": 3}, "must map settings to values"),
        ({"stage": {"atoms": 0}}, "positive integer, got 0"),
    ],
)
def test_bad_overrides_are_named(overrides, message):
    with pytest.raises(FiltersubError, match=message):
        plan_layers(stack(), DecompositionConfig(), overrides=overrides)


def test_layers_of_one_patch_shape_share_one_dictionary():
    tensors = stack()
    found = decompose_model(tensors, DecompositionConfig(atoms=4, l1_penalty=0.1), shared=True)
    sharing = [layer for layer in found.layers.values() if layer.dictionary is not None]
    assert [layer.layout.name for layer in sharing] == ["stage0.conv", "stage1.conv", "stage2.conv"]
    for layer in sharing:
        rows = layer.layout.to_rows(tensors[f"{layer.layout.name}.weight"])
        assert torch.equal(layer.atoms, sharing[0].atoms)
        assert kkt_violation(rows, layer.atoms, layer.coefficients, 0.1) < 1e-5
    assert found.layers["stem"].dictionary is None


def test_a_shared_dictionary_is_that_of_the_stacked_rows():
    tensors = stack()
    stacked = torch.cat([tensor.reshape(-1, 9) for name, tensor in tensors.items() if "stage" in name])
    found = decompose_model(tensors, DecompositionConfig(atoms=4, solver="pca"), shared="stage").layers["stage1.conv"]
    best = principal_atoms(stacked.double(), 4)
    torch.testing.assert_close(found.atoms.double().T @ found.atoms.double(), best.T @ best, atol=1e-5, rtol=0)
    whole = stacked.reshape(-1, 8, 3, 3)
    alone = decompose_weight(layout_of("all", whole), whole, DecompositionConfig(atoms=4))
    together = decompose_model(tensors, DecompositionConfig(atoms=4), shared="stage")
    torch.testing.assert_close(together.layers["stage0.conv"].atoms, alone.atoms)


def test_sampled_rows_come_from_every_layer():
    """With one row of energy a layer the dictionary can only have seen all layers if it holds every direction."""
    members, tensors = {}, {}
    for i in range(3):
        rows = torch.zeros(400, 3)
        rows[:, i] = 1.0
        tensors[f"l{i}"] = rows.reshape(20, 20, 3)
        members[f"l{i}"] = PlannedLayer(layout_of(f"l{i}", tensors[f"l{i}"]), DecompositionConfig(atoms=3), "g")
    learned = learn_shared(tensors, members, most_rows=60)
    assert learned.codes.shape[0] == 60
    assert sorted(atom.argmax().item() for atom in learned.atoms) == [0, 1, 2]


def test_what_sharing_costs():
    tensors, config = stack(), DecompositionConfig(atoms=4, solver="pca")
    shared, own = decompose_model(tensors, config, shared=True), decompose_model(tensors, config)
    table = sharing_table(shared, own)
    assert table["name"].tolist() == ["stage0.conv", "stage1.conv", "stage2.conv"]
    assert bool((table["relative_error_shared"] >= table["relative_error_own"]).all())  # each layer's own are its best
    with pytest.raises(FiltersubError, match="not of one model"):
        sharing_table(shared, decompose_model(stack(seed=1), config))
    with pytest.raises(FiltersubError, match="no layers share"):
        sharing_table(own, own)


def test_bad_sharing_is_named():
    with pytest.raises(FiltersubError, match="'nowhere' matches no layer"):
        decompose_model(stack(), shared=["nowhere"])
    with pytest.raises(FiltersubError, match=r"'stage1\.conv' matches two sharing patterns"):
        decompose_model(stack(), shared=["stage", "stage1"])


def test_a_kernel_of_zeros_is_fine_and_noted(every_kind):
    every_kind.stem.weight.data.zero_()
    found = decompose_model(every_kind, DecompositionConfig(atoms=4)).layers
    assert found["stem"].note == "the kernel is zero"
    assert found["stem"].relative_error == 0.0
    assert not found["stem"].weight().any()
    assert found["strided"].note == ""
    zeros = {"a": torch.zeros(4, 4, 3, 3), "b": torch.zeros(4, 4, 3, 3)}
    for shared in (False, True):
        for solver in ("lasso", "pca", "omp"):
            found = decompose_model(zeros, DecompositionConfig(atoms=3, solver=solver), shared=shared)
            assert found.relative_error == 0.0


def test_a_penalty_that_leaves_nothing_says_from_which_value_on():
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    largest = float(weight.reshape(-1, 9).norm(dim=1).max())
    with pytest.raises(FiltersubError, match=f"from l1_penalty {largest:.4g} on"):
        decompose_model({"a": weight}, DecompositionConfig(l1_penalty=largest * 1.001))
    found = decompose_model({"a": weight}, DecompositionConfig(l1_penalty=largest * 0.99)).layers["a"]
    assert found.density > 0
    small = {"a": weight, "b": 1e-3 * weight}
    found = decompose_model(small, DecompositionConfig(l1_penalty=0.1))
    assert "every coefficient is zero" in found.layers["b"].note
    assert found.layers["b"].relative_error == pytest.approx(1.0)


def test_more_atoms_than_rows():
    with pytest.raises(FiltersubError, match="9 atoms are more than any layer has rows: 'a' has most, 8"):
        decompose_model({"a": torch.randn(4, 2, 3, 3)}, DecompositionConfig(atoms=9))
    found = decompose_model({"a": torch.randn(4, 2, 3, 3), "b": torch.randn(4, 4, 3, 3)}, DecompositionConfig(atoms=9))
    assert found.layers["a"].note == "8 atoms instead of 9: there are only 8 rows"
    assert found.layers["a"].relative_error < 0.02


def test_what_is_not_covered_is_said():
    with pytest.raises(FiltersubError, match=r"Bilinear and MultiheadAttention weights are not covered"):
        plan_layers(nn.ModuleDict({"a": nn.Bilinear(2, 3, 4), "b": nn.MultiheadAttention(4, 2)}), DecompositionConfig())


def test_rebuilding_another_model_is_refused_before_anything_changes(every_kind):
    found = decompose_model(every_kind, DecompositionConfig(atoms=4))
    other = nn.ModuleDict({"stem": nn.Conv2d(3, 8, 3)})
    before = other.stem.weight.detach().clone()
    with pytest.raises(FiltersubError, match="it has no layer 'strided'"):
        found.rebuild_(other)
    assert torch.equal(other.stem.weight, before)
    every_kind.stem = nn.Conv2d(3, 9, 3)
    with pytest.raises(FiltersubError, match="'stem' is conv2d of shape"):
        found.rebuild_(every_kind)


@pytest.mark.parametrize("init", ["rows", "pca", "kmeans++", "dct", "fourier-bessel"])
def test_every_initialisation_reaches_the_learner(init):
    config = DecompositionConfig(atoms=4, init=init, max_rounds=0)
    weight = stack()["stage0.conv.weight"]
    usual = decompose_weight(layout_of("a", weight), weight, DecompositionConfig(atoms=4, max_rounds=0))
    found = decompose_weight(layout_of("a", weight), weight, config)
    assert torch.equal(found.atoms, usual.atoms) == (init == "rows")


def test_a_decomposition_goes_on_from_the_atoms_of_another(tmp_path):
    begun = decompose_model(stack(), DecompositionConfig(atoms=4, max_rounds=4))
    path = begun.save(tmp_path / "begun.safetensors", coefficients=False)
    resumed = decompose_model(stack(), DecompositionConfig(atoms=4, init=str(path)))
    for name, layer in resumed.layers.items():
        assert layer.history[0] == pytest.approx(begun.layers[name].objective, rel=1e-6)
        assert layer.objective < begun.layers[name].objective


def test_atoms_of_a_file_are_kept_without_rounds(tmp_path):
    dct, stem = cosine_atoms((1, 3, 3, 1), 4), cosine_atoms((1, 5, 5, 1), 4)
    save_file({"atoms": 3 * dct, "stem.atoms": -stem}, tmp_path / "given.safetensors")
    config = DecompositionConfig(atoms=4, init=str(tmp_path / "given.safetensors"), max_rounds=0)
    for shared in (False, True):
        found = decompose_model(stack(), config, shared=shared)
        for name, layer in found.layers.items():
            given = stem if name == "stem" else dct
            alike = (layer.atoms.double() @ given.T).abs()
            torch.testing.assert_close(alike.amax(1), torch.ones(4, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_shared_dictionary_goes_on_from_a_shared_one(tmp_path):
    begun = decompose_model(stack(), DecompositionConfig(atoms=4, max_rounds=4), shared="stage")
    path = begun.save(tmp_path / "begun.safetensors")
    alone = decompose_model(stack(), DecompositionConfig(atoms=4, init=str(path), max_rounds=0), layers="stage")
    for name, layer in alone.layers.items():
        alike = (layer.atoms @ begun.layers[name].atoms.T).abs().amax(1)
        torch.testing.assert_close(alike, torch.ones(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"stage0.conv.atoms": torch.eye(9)[:4]}, "has none for layer 'stage1.conv'"),
        ({"atoms": torch.eye(9)[:4]}, "do not fit layer 'stem': they are 4 x 9, and 4 of 25 numbers are wanted"),
        ({"atoms": torch.eye(9)[:5]}, "they are 5 x 9, and 4 of 9 numbers"),
        ({"atoms": torch.zeros(4, 9)}, "an atom of zeros"),
        (None, "cannot be read as a file of atoms"),
        ("missing", "no file of atoms at"),
    ],
)
def test_a_file_of_atoms_that_does_not_fit_is_refused_before_any_work(tmp_path, tensors, message):
    path = tmp_path / "given.safetensors"
    if tensors is None:
        path.write_bytes(b"nothing")
    elif tensors != "missing":
        save_file(tensors, path)
    with pytest.raises(FiltersubError, match=message):
        decompose_model(stack(), DecompositionConfig(atoms=4, init=str(path)), on_layer=pytest.fail)


def test_nonnegative_codes_and_other_learners():
    weight = stack()["stage1.conv.weight"]
    layout = layout_of("a", weight)
    found = decompose_weight(layout, weight, DecompositionConfig(atoms=6, solver="fista", nonnegative=True))
    assert float(found.coefficients.min()) == 0.0
    assert float(found.coefficients.max()) > 0.0
    for learner, solver in (("ksvd", "omp"), ("online", "lasso")):
        found = decompose_weight(layout, weight, DecompositionConfig(atoms=6, learner=learner, solver=solver))
        assert found.relative_error < 0.9
        assert found.stopped
