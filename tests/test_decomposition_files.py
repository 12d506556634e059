"""Files and folders: whole, atoms only, half done, interrupted, and of something else."""

import copy
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from filtersub.decomposition import (
    DecompositionConfig,
    DecompositionInterrupted,
    ModelDecomposition,
    decompose_model,
    layer,
)
from filtersub.errors import FiltersubError

CONFIG = DecompositionConfig(atoms=3)


def same(one, other, tolerance=0.0):
    assert list(one.layers) == list(other.layers)
    for name in one.layers:
        a, b = one.layers[name], other.layers[name]
        assert torch.equal(a.atoms, b.atoms)
        torch.testing.assert_close(a.coefficients, b.coefficients, atol=tolerance, rtol=0)
        assert a.layout == b.layout
        assert (a.objective, a.iterations, a.history, a.dictionary) == (
            b.objective,
            b.iterations,
            b.history,
            b.dictionary,
        )


def counting(monkeypatch, stop_at=None):
    """Names of the layers that are decomposed; KeyboardInterrupt at the given number of them."""
    import filtersub.decomposition.model as module

    seen, real = [], module._decomposed

    def spy(model, weight, name, *rest):
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append(name)
        return real(model, weight, name, *rest)

    monkeypatch.setattr(module, "_decomposed", spy)
    return seen


@pytest.mark.parametrize("solver", ["lasso", "omp", "pca"])
def test_atoms_only_come_back_whole_with_the_model(every_kind, tmp_path, solver):
    config = DecompositionConfig(atoms=4, block=2, solver=solver)
    found = decompose_model(every_kind, config)
    path = found.save(tmp_path / "small.safetensors", coefficients=False)
    assert path.stat().st_size < found.save(tmp_path / "whole.safetensors").stat().st_size
    assert not any(key.endswith("coefficients") for key in load_file(path))
    same(ModelDecomposition.load(path, every_kind), found, tolerance=1e-4)
    with pytest.raises(FiltersubError, match="holds atoms only"):
        ModelDecomposition.load(path)


def test_atoms_only_of_other_weights_are_refused(every_kind, tmp_path):
    path = decompose_model(every_kind, CONFIG).save(tmp_path / "x.safetensors", coefficients=False)
    with torch.no_grad():
        every_kind.grouped.weight[0, 0, 0, 0] += 0.1
    with pytest.raises(FiltersubError, match=r"'grouped': these are not the weights that were decomposed"):
        ModelDecomposition.load(path, every_kind)


def test_coefficients_that_come_out_otherwise_are_refused(every_kind, tmp_path):
    path = decompose_model(every_kind, CONFIG, layers="stem").save(tmp_path / "x.safetensors", coefficients=False)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = {key: -value for key, value in load_file(path).items()}  # other atoms, other coefficients
    metadata["recipe"] = metadata["recipe"].replace('"l1_penalty": 0.001', '"l1_penalty": 0.1')
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(FiltersubError, match="are not those that were saved"):
        ModelDecomposition.load(path, every_kind)


def test_a_file_that_does_not_fit_the_model(every_kind, tmp_path):
    path = decompose_model(every_kind, CONFIG).save(tmp_path / "x.safetensors")
    with pytest.raises(FiltersubError, match="does not fit this model: it has no layer 'stem'"):
        ModelDecomposition.load(path, {"a": torch.zeros(4, 4, 3, 3)})


def test_a_shared_dictionary_is_stored_once(tmp_path):
    tensors = {name: torch.randn(6, 6, 3, 3) for name in ("a", "b")}
    found = decompose_model(tensors, CONFIG, shared=True)
    path = found.save(tmp_path / "x.safetensors")
    assert sorted(load_file(path)) == ["a.coefficients", "b.coefficients", "dictionary:1×3×3×1.atoms"]
    same(ModelDecomposition.load(path, tensors), found)
    again = ModelDecomposition.load(found.save(tmp_path / "y.safetensors", coefficients=False), tensors)
    same(again, found, tolerance=1e-5)
    assert again.shared is True


@pytest.mark.parametrize("settings", [{}, {"overrides": {"stem": {"atoms": 5}}}, {"shared": True}])
def test_a_folder_gives_the_same_result_as_memory(every_kind, tmp_path, settings):
    config = DecompositionConfig(atoms=3, expansion=2)
    found = decompose_model(every_kind, config, folder=tmp_path, **settings)
    same(found, decompose_model(every_kind, config, **settings))
    same(ModelDecomposition.load(tmp_path / "atoms.safetensors", every_kind), found)
    assert [path.name for path in tmp_path.iterdir()] == ["atoms.safetensors"]


@pytest.mark.parametrize("settings", [{}, {"shared": True}, {"atoms_only": True}])
def test_an_interrupted_run_goes_on_with_the_rest(every_kind, tmp_path, monkeypatch, settings):
    expected = decompose_model(every_kind, CONFIG, shared=settings.get("shared", False))
    with monkeypatch.context() as patched:
        first = counting(patched, stop_at=3)
        with pytest.raises(DecompositionInterrupted, match="3 of 7 layers are kept") as caught:
            decompose_model(every_kind, CONFIG, folder=tmp_path, **settings)
    assert list(caught.value.finished.layers) == first
    with monkeypatch.context() as patched:
        second = counting(patched)
        found = decompose_model(every_kind, CONFIG, folder=tmp_path, **settings)
    assert first + second == list(expected.layers)
    for name, one in expected.layers.items():
        torch.testing.assert_close(found.layers[name].atoms, one.atoms)
        torch.testing.assert_close(found.layers[name].coefficients, one.coefficients, atol=1e-6, rtol=0)
    with monkeypatch.context() as patched:
        third = counting(patched)
        again = decompose_model(every_kind, CONFIG, folder=tmp_path, **settings)
    assert third == []
    same(again, found, tolerance=1e-5)


def test_finished_layers_go_on_without_a_folder(every_kind, monkeypatch):
    with monkeypatch.context() as patched:
        counting(patched, stop_at=2)
        with pytest.raises(DecompositionInterrupted, match="after 2 of 7 layers") as caught:
            decompose_model(every_kind, CONFIG)
    seen = counting(monkeypatch)
    found = decompose_model(every_kind, CONFIG, finished=caught.value.finished)
    assert len(seen) == 5
    same(found, decompose_model(every_kind, CONFIG))


def test_a_folder_takes_more_layers_of_the_same_recipe(every_kind, tmp_path, monkeypatch):
    decompose_model(every_kind, CONFIG, layers="stem", folder=tmp_path)
    seen = counting(monkeypatch)
    found = decompose_model(every_kind, CONFIG, layers="stem|strided", folder=tmp_path)
    assert seen == ["strided"]
    same(ModelDecomposition.load(tmp_path / "atoms.safetensors"), found)


def test_a_folder_of_something_else_is_refused(every_kind, tmp_path):
    decompose_model(every_kind, CONFIG, folder=tmp_path)
    before = (tmp_path / "atoms.safetensors").read_bytes()
    with pytest.raises(FiltersubError, match=r"holds another decomposition: layer 'stem' has atoms 3 there, not 4"):
        decompose_model(every_kind, DecompositionConfig(atoms=4), folder=tmp_path)
    with pytest.raises(FiltersubError, match="'strided', which takes no part now"):
        decompose_model(every_kind, CONFIG, layers="stem", folder=tmp_path)
    with pytest.raises(FiltersubError, match="other layers share"):
        decompose_model(every_kind, CONFIG, shared=True, folder=tmp_path)
    changed = copy.deepcopy(every_kind)
    changed.stem.weight.data *= 1.01
    with pytest.raises(FiltersubError, match="not the weights that were decomposed"):
        decompose_model(changed, CONFIG, folder=tmp_path)
    assert (tmp_path / "atoms.safetensors").read_bytes() == before
    found = decompose_model(changed, CONFIG, folder=tmp_path, fresh=True)
    same(ModelDecomposition.load(tmp_path / "atoms.safetensors"), found)


def test_starting_over_does_not_remove_what_it_starts_from(every_kind, tmp_path):
    decompose_model(every_kind, CONFIG, layers="stem", folder=tmp_path)
    path = tmp_path / "atoms.safetensors"
    before = path.read_bytes()
    with pytest.raises(FiltersubError, match="take another folder"):
        decompose_model(every_kind, replace(CONFIG, init=str(path)), layers="stem", folder=tmp_path, fresh=True)
    assert path.read_bytes() == before


def test_half_a_file_in_the_folder_is_one_clear_error(every_kind, tmp_path):
    path = decompose_model(every_kind, CONFIG).save(tmp_path / "atoms.safetensors")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(FiltersubError, match="is not a decomposition"):
        decompose_model(every_kind, CONFIG, folder=tmp_path)


def test_low_precision_weights_are_decomposed_in_float32():
    weight = torch.randn(4, 4, 3, 3).to(torch.bfloat16)
    assert layer.decomposable_rows(layer.KernelLayout("a", "conv2d", (4, 4, 3, 3)), weight).dtype == torch.float32


def test_a_model_without_numbers_is_refused():
    with torch.device("meta"):
        model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3))
    with pytest.raises(FiltersubError, match=r"layer '0' has a shape but no numbers \(meta device\)"):
        decompose_model(model, CONFIG)
