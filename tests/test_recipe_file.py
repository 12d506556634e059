"""What decompose and suggest choose can be tuned: the files they write, and what is refused."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from filtersub.cli import app
from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.errors import FiltersubError
from filtersub.experiment.settings import TuneSettings
from filtersub.parameters import count_parameters
from filtersub.recipe_file import read_for_tuning, read_recipe, write_recipe
from filtersub.records import read_record


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture
def weights(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {"a.conv.weight": torch.randn(8, 6, 3, 3, generator=generator), "b.weight": torch.randn(8, 8)}
    save_file(tensors, tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_the_smallest_m_of_each_layer_is_tuned(tmp_path):
    run(
        "decompose",
        "test_resnet",
        "--no-pretrained",
        "--solver",
        "pca",
        "--max-error",
        "0.4",
        "--out",
        tmp_path / "found",
    )
    tiny = ["--no-pretrained", "--n-train", "20", "--epochs", "1", "--batch-size", "10", "--image-size", "32"]
    decomposition = ["--decomposition", tmp_path / "found"]
    run("tune", "test_resnet", *tiny, *decomposition, "--expansion", "2", "--out", tmp_path / "run", "--json")
    record, choice = read_record(tmp_path / "run"), read_recipe(tmp_path / "found" / "recipe.yaml")
    chosen = [settings["atoms"] for settings in choice["overrides"].values()]
    assert record.parameters["overrides"] == choice["overrides"]
    assert record.parameters["solver"] == "pca"
    assert len(set(chosen)) > 1
    assert record.counts["trainable"] == sum(m * 2 + m * 2 * 9 for m in chosen)
    assert record.label == "atoms m=9 over m₁=2, pca codes, recipe by layer"


def test_a_suggestion_is_a_recipe(tmp_path):
    found = json.loads(run("suggest", "resnet18", "--budget", "3k", "--out", tmp_path / "choice.yaml", "--json").stdout)
    settings = TuneSettings(**read_for_tuning(tmp_path / "choice.yaml"))
    first = found["suggestions"][0]
    counted = count_parameters("resnet18", recipe=settings.recipe, layers=settings.layers)
    assert counted.trainable == first["trainable"] <= 3_000


def test_folder_file_and_yaml_say_the_same(weights, tmp_path):
    options = ["--atoms", 4, "--block", "2,4", "--solver", "pca", "--override", "conv:atoms=3", "--layers", "conv|b"]
    run("decompose", weights, *options, "--out", tmp_path / "found")
    of_folder, of_yaml = read_for_tuning(tmp_path / "found"), read_for_tuning(tmp_path / "found" / "recipe.yaml")
    of_file = read_for_tuning(tmp_path / "found" / "atoms.safetensors")  # a folder of before has no YAML
    assert of_folder == of_yaml
    assert of_yaml["overrides"] == of_file["overrides"] == {"conv": {"atoms": 3}}
    recipes = {TuneSettings(**settings).recipe for settings in (of_yaml, of_file)}
    assert recipes == {DecompositionConfig(atoms=4, block=(2, 4), solver="pca")}
    assert re.search(of_file["layers"], "a.conv")
    assert not re.search(of_file["layers"], "a.conv.other")


def test_a_written_recipe_is_read_as_it_was(tmp_path):
    recipe = DecompositionConfig(atoms=3, expansion=(2, 3), block=(2, 4), tol=1e-7, limit_atoms=False)
    overrides = {"a|b": {"block": (4, 4)}}
    found = read_recipe(write_recipe(tmp_path / "recipe.yaml", recipe, overrides=overrides, shared=("a",)))
    assert found.pop("overrides") == {"a|b": {"block": [4, 4]}}
    assert found.pop("shared_dictionary") == ["a"]
    assert DecompositionConfig(**found) == recipe


def test_what_cannot_be_tuned_is_refused(weights, tmp_path):
    tensors = {"a.weight": torch.randn(8, 6, 3, 3), "b.weight": torch.randn(8, 6, 3, 3)}
    shared = decompose_model(tensors, DecompositionConfig(atoms=3, solver="pca"), shared=True)
    shared.save(tmp_path / "shared.safetensors")
    (tmp_path / "chosen.yaml").write_text("solver: pca\nmax_error: 0.1\n")
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "shared.safetensors", "share dictionaries"),
        (tmp_path / "chosen.yaml", "leaves m to be chosen by max_error; run `filtersub decompose"),
        (tmp_path / "empty", "holds no decomposition"),
        (tmp_path / "missing.yaml", "cannot read"),
        (weights, "is not a decomposition that filtersub saved"),
    ):
        with pytest.raises(FiltersubError, match=message):
            read_for_tuning(path)
