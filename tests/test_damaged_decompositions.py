"""Files of decompositions that were cut, mixed or changed by hand: one line that names file, field and value."""

import copy
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from filtersub.decomposition import DecompositionConfig, ModelDecomposition, decompose_model
from filtersub.errors import FiltersubError

FORMS = {
    "whole": {},
    "atoms only": {"saving": {"coefficients": False}},
    "expanded": {"expansion": (2, 3)},
    "expanded per channel": {"expansion": (2,), "expansion_coefficients": "per-channel"},
    "blocked": {"block": 2},
    "alpha in blocks": {"block": 2, "block_coefficients": True},
    "alpha in blocks, atoms only": {"block": 2, "block_coefficients": True, "saving": {"coefficients": False}},
    "one dictionary": {"shared": True},
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 4, 3), nn.ConvTranspose2d(4, 4, 3, groups=2))


def saved(form, path):
    settings = dict(FORMS[form])
    saving, shared = settings.pop("saving", {}), settings.pop("shared", False)
    decompose_model(network(), DecompositionConfig(atoms=3, solver="pca", **settings), shared=shared).save(
        path, **saving
    )
    with safe_open(path, framework="pt") as file:
        header = {key: json.loads(value) for key, value in file.metadata().items()}
        return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def written(header, tensors, path):
    save_file(tensors, path, metadata={key: json.dumps(value) for key, value in header.items()})
    return path


def refusal(path):
    with pytest.raises(FiltersubError) as raised:
        ModelDecomposition.load(path, network())
    said = str(raised.value)
    assert str(path) in said or said.startswith("layer '0': the fingerprint")
    assert "\n" not in said
    return said


TENSORS = {
    "gone": (lambda found, key: found.pop(key), "the tensor {key} is missing"),
    "NaN": (
        lambda found, key: found[key].view(-1)[:1].fill_(float("nan")),
        "{key} must hold finite fractions, in 16 bits or more",
    ),
    "whole numbers": (
        lambda found, key: found.update({key: found[key].int()}),
        "{key} must hold finite fractions",
    ),
    "flat": (lambda found, key: found.update({key: found[key].flatten()}), "{key} is {length}, and "),
    "a single number": (
        lambda found, key: found.update({key: found[key].sum()}),
        "{key} is a single number, and ",
    ),
    "a side more": (lambda found, key: found.update({key: found[key][None]}), "{key} is 1 x "),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_was_saved_comes_back_and_each_tensor_is_looked_at(form, tmp_path):
    header, tensors = saved(form, tmp_path / "whole.safetensors")
    whole = ModelDecomposition.load(tmp_path / "whole.safetensors", network())
    again = ModelDecomposition.load(written(header, tensors, tmp_path / "again.safetensors"), network())
    for name, layer in whole.layers.items():
        assert torch.equal(layer.weight(len(layer.levels)), again.layers[name].weight(len(layer.levels)))
    for key, tensor in tensors.items():
        for damage, message in TENSORS.values():
            damaged = {name: each.clone() for name, each in tensors.items()}
            damage(damaged, key)
            said = refusal(written(header, damaged, tmp_path / "damaged.safetensors"))
            assert message.format(key=key, length=tensor.numel()) in said


def layer_of(header):
    return next(iter(header["layers"].values()))


def twice(layer):
    inner = copy.deepcopy(layer)
    return {**inner, "blocks": inner}


HEADERS = {
    "no recipe": (lambda it: it.pop("recipe"), "recipe is missing"),
    "a recipe of a list": (lambda it: it.update(recipe=[]), "recipe should be a mapping, got []"),
    "an unknown setting": (lambda it: it["recipe"].update(atms=3), "unknown setting in the recipe"),
    "a setting of another type": (lambda it: it["recipe"].update(atoms="3"), "atoms must be int"),
    "an override that is none": (lambda it: it.update(overrides={"a": 3}), "overrides.a should be a mapping"),
    "a broken pattern": (lambda it: it.update(overrides={"(": {"atoms": 3}}), "("),
    "a setting of an override": (lambda it: it.update(overrides={"a": {"atoms": "x"}}), "atoms must be int"),
    "sharing by number": (lambda it: it.update(shared=3), "shared"),
    "no layers": (lambda it: it.pop("layers"), "layers is missing"),
    "layers of a list": (lambda it: it.update(layers=[1]), "layers should be a mapping, got [1]"),
    "a layer of text": (lambda it: it["layers"].update({"0": "x"}), "layers.0 should be a mapping, got 'x'"),
    "no layout": (lambda it: layer_of(it).pop("layout"), "layers.0.layout is missing"),
    "a side of text": (
        lambda it: layer_of(it)["layout"].update(shape=[6, "4", 3, 3]),
        "layers.0.layout.shape[1]",
    ),
    "a side of 0": (lambda it: layer_of(it)["layout"].update(shape=[6, 0, 3, 3]), "layers.0.layout.shape[1]"),
    "no error": (lambda it: layer_of(it).pop("squared_error"), "layers.0.squared_error is missing"),
    "an error below 0": (lambda it: layer_of(it).update(squared_error=-1.0), "layers.0.squared_error"),
    "rounds of text": (lambda it: layer_of(it).update(iterations="9"), "layers.0.iterations should be a whole"),
    "converged by number": (lambda it: layer_of(it).update(converged=1), "layers.0.converged should be true"),
    "an error without end": (lambda it: layer_of(it).update(squared_norm=float("inf")), "layers.0.squared_norm"),
    "seconds below 0": (lambda it: layer_of(it).update(seconds=-1.0), "layers.0.seconds"),
    "no layer": (lambda it: it.update(layers={}), "layers"),
    "a fingerprint of NaN": (
        lambda it: layer_of(it).update(weight_fingerprint=[float("nan")] * 9),
        "weight_fingerprint[0]",
    ),
    "a short fingerprint": (lambda it: layer_of(it).update(weight_fingerprint=[1.0, 2.0]), "must have 9 numbers"),
    "a recipe that is none": (
        lambda it: it["recipe"].update(atoms=-1),
        "the number of atoms must be a positive integer",
    ),
    "an override that is no recipe": (lambda it: it.update(overrides={"0": {"solver": "x"}}), "unknown solver 'x'"),
    "blocks of blocks": (lambda it: layer_of(it).update(blocks=twice(layer_of(it))), "has blocks of blocks"),
    "sharing by a list of numbers": (lambda it: it.update(shared=[1]), "shared should be true, false or a list of"),
    "another shape": (lambda it: layer_of(it)["layout"].update(shape=[6, 5, 3, 3]), "0.coefficients is 24 x 3"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_the_header_is_held_against_its_schema(kind, tmp_path):
    header, tensors = saved("whole", tmp_path / "whole.safetensors")
    damage, message = HEADERS[kind]
    damaged = copy.deepcopy(header)
    damage(damaged)
    assert message in refusal(written(damaged, tensors, tmp_path / "damaged.safetensors"))


def test_fingerprints_stand_for_all_coefficients_or_for_none(tmp_path):
    header, tensors = saved("alpha in blocks, atoms only", tmp_path / "small.safetensors")
    damaged = copy.deepcopy(header)
    layer_of(damaged)["blocks"]["fingerprint"] = None
    said = refusal(written(damaged, tensors, tmp_path / "damaged.safetensors"))
    assert "layers.0 has the fingerprint of one part" in said
    layer_of(header)["fingerprint"].pop()
    assert "fingerprint of 0.coefficients must have 3 numbers" in refusal(
        written(header, tensors, tmp_path / "short.safetensors")
    )


@pytest.mark.parametrize("part", [0, 7, 100, -1])
def test_files_that_break_off_are_refused(part, tmp_path):
    path = tmp_path / "cut.safetensors"
    saved("whole", path)
    path.write_bytes(path.read_bytes()[:part])
    assert "is not a decomposition that filtersub saved: " in refusal(path)
