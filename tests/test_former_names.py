"""Names of before are still taken, on the command line and in files, and mean the same."""

import json
import sys
import warnings

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from filtersub.ablation import load_spec, plan
from filtersub.cli import COMMANDS, app, main
from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.decomposition.file import load
from filtersub.errors import FiltersubError, FormerNameWarning
from filtersub.former_names import OPTIONS, RECIPE_KEYS, SETTINGS
from filtersub.recipe_file import read_for_tuning, read_override, read_recipe
from filtersub.records import Record, read_record
from filtersub.tuning import FilterSubspaceConfig


@pytest.fixture
def weights(tmp_path):
    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "w.safetensors"
    save_file({f"{name}.weight": torch.randn(6, 4, 3, 3, generator=generator) for name in "ab"}, path)
    return path


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["filtersub", *map(str, arguments)])
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # main changes it
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    return code or 0, *capsys.readouterr()


def test_options_of_before_do_what_those_of_today_do_and_say_so(capsys, monkeypatch, weights):
    common = ("decompose", weights, "--atoms", 4, "--json")
    former = run(capsys, monkeypatch, *common, "--sparsity", 0.5, "--share")
    today = run(capsys, monkeypatch, *common, "--l1-penalty=0.5", "--shared-dictionary")
    errors = [[layer["relative_error"] for layer in json.loads(out)["layers"]] for _, out, _ in (former, today)]
    assert errors[0] == errors[1]
    assert former[0] == today[0] == 0
    notes = ["--sparsity is called --l1-penalty now", "--share is called --shared-dictionary now"]
    assert former[2].splitlines() == [f"filtersub: {note}" for note in notes]
    assert today[2] == ""
    common = ("tune", "test_resnet", "--out", weights.parent / "run", "--epochs", 0)
    errors = [run(capsys, monkeypatch, *common, option)[2] for option in ("--random", "--no-pretrained")]
    assert errors[0] == f"filtersub: --random is called --no-pretrained now\n{errors[1]}"


def test_every_former_name_stands_for_one_that_is_there():
    import typer.main

    group = typer.main.get_command(app)
    options = {text for c in group.commands.values() for p in c.params for text in (*p.opts, *p.secondary_opts)}
    assert len(COMMANDS) > 5
    assert set(OPTIONS.values()) <= options
    assert not set(OPTIONS) & options
    fields = set(DecompositionConfig.__dataclass_fields__)
    assert set(SETTINGS.values()) <= fields
    assert not set(RECIPE_KEYS) & fields


def test_recipes_and_overrides(tmp_path):
    former, today = tmp_path / "former.yaml", tmp_path / "today.yaml"
    former.write_text("atoms: 4\nsparsity: 0.02\nshare: [a]\noverrides:\n  stem: {sparsity: 0.5}\n")
    today.write_text("atoms: 4\nl1_penalty: 0.02\nshared_dictionary: [a]\noverrides:\n  stem: {l1_penalty: 0.5}\n")
    with pytest.warns(FormerNameWarning) as told:
        assert read_recipe(former) == read_recipe(today)
    assert {str(each.message) for each in told} == {
        f"{former}: 'sparsity' is called 'l1_penalty' now",
        f"{former}: 'share' is called 'shared_dictionary' now",
        f"{former}: the override of 'stem': 'sparsity' is called 'l1_penalty' now",
    }
    with pytest.warns(FormerNameWarning, match="the override 'stem:sparsity=1': 'sparsity' is called 'l1_penalty' now"):
        assert read_override("stem:sparsity=1") == ("stem", {"l1_penalty": 1})
    both = tmp_path / "both.yaml"
    both.write_text("sparsity: 0.1\nl1_penalty: 0.2\n")
    with pytest.raises(FiltersubError, match=r"both\.yaml: 'sparsity' is the former name of 'l1_penalty'; give one of"):
        read_recipe(both)


def test_decompositions(tmp_path, every_kind):
    recipe = DecompositionConfig(atoms=3, solver="pca", l1_penalty=0.25)
    found = decompose_model(every_kind, recipe, overrides={"stem": {"l1_penalty": 0.5}}, layers="stem|strided")
    file = tmp_path / "found.safetensors"
    found.save(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    for name in ("recipe", "overrides"):
        assert "l1_penalty" in metadata[name]
        metadata[name] = metadata[name].replace("l1_penalty", "sparsity")
    former = tmp_path / "former.safetensors"
    save_file(tensors, former, metadata)
    again = load(former, every_kind)
    assert (again.config, again.overrides) == (found.config, found.overrides)
    assert read_for_tuning(former) == read_for_tuning(file)


def test_adapters(tmp_path):
    def base():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3))

    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    config = FilterSubspaceConfig(atoms=4, l1_penalty=0.3, overrides={"0": {"l1_penalty": 0.2}})
    tuned = get_peft_model(base(), config)
    with torch.no_grad():
        for weight in tuned.parameters():
            if weight.requires_grad:
                weight.add_(0.1)
    tuned.save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    written = json.loads(file.read_text())
    assert "sparsity" not in written
    file.write_text(file.read_text().replace("l1_penalty", "sparsity"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = PeftModel.from_pretrained(base(), tmp_path)
    loaded = again.peft_config["default"]
    assert (loaded.l1_penalty, loaded.overrides) == (0.3, {"0": {"l1_penalty": 0.2}})
    assert torch.equal(again.eval()(images), tuned.eval()(images))
    assert "sparsity" not in loaded.to_dict()


def test_records(tmp_path):
    counts = {"trainable": 1, "head": 0, "total": 2}
    record = Record("tuning", "x", {"l1_penalty": 0.1}, 0, {}, counts, {}, {})
    record.write(tmp_path)
    file = tmp_path / "record.json"
    content = json.loads(file.read_text())
    former = {**content, "schema": 2, "parameters": {"sparsity": 0.1}}
    file.write_text(json.dumps(former))
    assert read_record(tmp_path).parameters == {"l1_penalty": 0.1}
    file.write_text(json.dumps({**former, "schema": content["schema"]}))
    assert read_record(tmp_path).parameters == {"sparsity": 0.1}  # a parameter that somebody's own notebook has


def test_ablations(tmp_path):
    text = """
name: penalties
title: Penalties
question: What does the penalty do?
stages:
  - notebook: 01_decomposition.ipynb
    parameters: {atoms: 4}
    grid: {NAME: [0.1, 0.2, 0.3]}
    skip: [{NAME: 0.2}]
"""
    runs = {}
    for name in ("sparsity", "l1_penalty"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(text.replace("NAME", name))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            runs[name] = [(each.run_id, each.parameters) for each in plan(load_spec(file), tmp_path / "out")]
        assert any(issubclass(each.category, FormerNameWarning) for each in told) == (name == "sparsity")
    assert runs["sparsity"] == runs["l1_penalty"]
    assert [parameters["l1_penalty"] for _, parameters in runs["sparsity"]] == [0.1, 0.3]
