"""The command decompose, run in this process: files, JSON, settings from YAML, interruption, bad input."""

import json
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from filtersub import cli
from filtersub.decomposition import ModelDecomposition, decompose_model


@pytest.fixture
def run(capsys, monkeypatch):
    """run(*arguments) -> (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["filtersub", "decompose", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        shown = capsys.readouterr()
        return left.value.code or 0, shown.out, shown.err

    return call


@pytest.fixture
def weights(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {f"stage{i}.conv.weight": torch.randn(12, 8, 3, 3, generator=generator) for i in range(3)}
    save_file(tensors, tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_levels_and_notes_as_json(run, weights):
    code, out, _ = run(weights, "--atoms", 3, "--expansion", "2,2", "--expansion-coefficients", "per-channel", "--json")
    assert code == 0
    (first, *_) = json.loads(out)["layers"]
    assert [level["atoms"] for level in first["levels"]] == [[3, 2], [3, 2, 2]]
    assert first["levels"][0]["coefficients"] == [8, 3, 2]
    assert first["levels"][1]["weight_error"] == pytest.approx(first["levels"][0]["weight_error"], abs=1e-4)
    assert first["note"] == ""
    assert first["stopped"]


def test_a_yaml_file_and_options_that_win_over_it(run, weights, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("atoms: 4\nsolver: pca\nl1_penalty: 2e-3\nlayers: stage[01]\noverrides:\n  stage1: {atoms: 6}\n")
    code, out, _ = run(weights, "--config", recipe, "--json")
    assert code == 0
    assert [(layer["name"], layer["atoms"], layer["solver"]) for layer in json.loads(out)["layers"]] == [
        ("stage0.conv", 4, "pca"),
        ("stage1.conv", 6, "pca"),
    ]
    code, out, _ = run(weights, "--config", recipe, "--atoms", 2, "--override", "stage1:atoms=5,solver=omp", "--json")
    assert [(layer["atoms"], layer["solver"]) for layer in json.loads(out)["layers"]] == [(2, "pca"), (5, "omp")]


def test_sharing_and_what_it_costs(run, weights, tmp_path):
    code, out, _ = run(weights, "--atoms", 4, "--shared-dictionary", "--compare-own", "--out", tmp_path / "o", "--json")
    assert code == 0
    value = json.loads(out)
    assert len(value["sharing"]) == 3
    assert value["relative_error"] >= value["relative_error_own"]
    assert set(pd.read_csv(tmp_path / "o" / "sharing.csv")["dictionary"]) == {"1×3×3×1"}
    stored = load_file(tmp_path / "o" / "atoms.safetensors")
    assert [key for key in stored if key.endswith("atoms")] == ["dictionary:1×3×3×1.atoms"]


def test_the_smallest_m_for_an_error(run, weights, tmp_path):
    code, out, _ = run(weights, "--max-error", 0.5, "--solver", "pca", "--out", tmp_path / "o", "--json")
    assert code == 0
    value = json.loads(out)
    assert all(layer["relative_error"] <= 0.5 for layer in value["layers"])
    assert [layer["atoms"] for layer in value["layers"]] == list(value["chosen_atoms"].values())
    assert len(pd.read_csv(tmp_path / "o" / "curve.csv")) == len(value["curve"])


@pytest.mark.parametrize("kept", [False, True])
def test_the_answer_to_an_error_is_the_last_line(run, weights, tmp_path, kept):
    """The chosen m of each layer and the next smaller one come before it; the whole curve goes into the folder."""
    code, out, _ = run(weights, "--max-error", 0.5, "--solver", "pca", *(("--out", tmp_path / "o") if kept else ()))
    assert code == 0
    chosen = json.loads(run(weights, "--max-error", 0.5, "--solver", "pca", "--json")[1])["chosen_atoms"].values()
    last = out.splitlines()[-1]
    found = f"m from {min(chosen)} to {max(chosen)}, layer by layer" if len({*chosen}) > 1 else f"m = {min(chosen)}"
    assert f"the error is met by {found}" in last
    assert last.startswith(f"{weights}: relative error ")
    assert ("relative error by m" in out) is not kept
    if kept:
        assert str(tmp_path / "o" / "curve.csv") in last
    else:
        assert out.index("relative error by m") < out.index(last)
        rows = out.partition("relative error by m")[2].partition("layer by layer")[0].count("\n│ ")
        assert rows == sum(1 if m == 1 else 2 for m in chosen)


def test_blocks_of_two_sides_have_the_input_side_first(run, weights):
    code, out, _ = run(weights, "--block", "2,4", "--block-spatial", "--atoms", 1, "--solver", "pca", "--json")
    assert code == 0
    assert {tuple(layer["block"]) for layer in json.loads(out)["layers"]} == {(4, 2)}
    assert run(weights, "--block", "2,2,2")[0] == 2


def test_csv_is_the_table(run, weights, tmp_path):
    code, out, _ = run(weights, "--atoms", 3, "--csv", "--out", tmp_path / "o")
    assert code == 0
    assert out == (tmp_path / "o" / "layers.csv").read_text()


def test_atoms_only_and_a_rerun(run, weights, tmp_path):
    arguments = (weights, "--atoms", 3, "--atoms-only", "--out", tmp_path / "o", "--json")
    first = json.loads(run(*arguments)[1])
    path = tmp_path / "o" / "atoms.safetensors"
    written = path.read_bytes()
    assert not any(key.endswith("coefficients") for key in load_file(path))
    assert json.loads(run(*arguments)[1]) == first
    assert path.read_bytes() == written
    loaded = ModelDecomposition.load(path, load_file(weights))
    assert loaded.layers["stage1.conv"].density == pytest.approx(first["layers"][1]["density"])


def test_an_interrupted_command_says_how_to_go_on(run, weights, tmp_path, monkeypatch):
    import filtersub.decomposition.model as module

    real = module._decomposed

    def stop(model, weight, name, *rest):
        if name == "stage2.conv":
            raise KeyboardInterrupt
        return real(model, weight, name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(module, "_decomposed", stop)
        code, out, err = run(weights, "--atoms", 3, "--out", tmp_path / "o")
    assert (code, out) == (130, "")
    assert "2 of 3 layers are kept in" in err
    assert err.count("\n") == 1
    code, out, _ = run(weights, "--atoms", 3, "--out", tmp_path / "o", "--json")
    assert code == 0
    whole = decompose_model(load_file(weights), module.DecompositionConfig(atoms=3))
    assert json.loads(out)["relative_error"] == pytest.approx(whole.relative_error)


BAD = {
    "other recipe": (("--atoms", 4, "--out", "{done}"), "has atoms 3 there, not 4"),
    "zero error": (("--max-error", 0), "between 0 and 1, got 0.0"),
    "error out of reach": (("--max-error", 0.01, "--l1-penalty", 2.0), "stands in the way"),
    "error of shared dictionaries": (
        ("--max-error", 0.5, "--shared-dictionary"),
        "but this shares dictionaries; leave one away",
    ),
    "error and atoms": (("--max-error", 0.5, "--atoms", 4), "but this has --atoms; leave one away"),
    "error of what": (("--max-error", 0.1, "--max-error-per", "row"), "got 'row'"),
    "a pattern twice": (
        ("--override", "stem:atoms=3", "--override", "stem:block=2"),
        "override of 'stem' is given twice",
    ),
    "negative seed": (("--seed", -1), "seed must be an integer >= 0, got -1"),
    "support of nothing": (("--solver", "omp", "--nonzeros", 0), "must be a positive integer, got 0"),
    "support without a pursuit": (("--nonzeros", 2), "for pursuits (mp, omp, ormp, spams-omp); solver 'lasso'"),
    "everything zero": (("--l1-penalty", 100), "every coefficient would be zero"),
    "too many atoms": (("--atoms", 97), "97 atoms are more than any layer has rows"),
    "initialisation": (("--init", "row"), "did you mean 'rows'"),
    "atoms of another model": (("--init", "{done}/atoms.safetensors"), "are 3 x 9, and 9 of 9 numbers are wanted"),
    "no file of atoms": (("--init", "{missing}.safetensors"), "no file of atoms at"),
    "learner": (("--learner", "k-svd"), "did you mean 'ksvd'"),
    "no such learner for it": (("--learner", "ksvd"), "ksvd"),
    "expansion": (("--expansion", "four"), "--expansion takes numbers such as 4 or 4,3; got 'four'"),
    "expansion of nothing": (("--expansion", "0"), "expansion must be"),
    "alpha_1": (("--expansion-coefficients", "own"), "unknown expansion_coefficients 'own'"),
    "linear and nonnegative": (("--solver", "pca", "--nonnegative"), "cannot be kept nonnegative"),
    "override": (("--override", "stage1=3"), "PATTERN:setting=value"),
    "override of nothing": (("--override", "head:atoms=3"), "'head' matches no layer"),
    "override of an unknown setting": (("--override", "stage1:atom=3"), "did you mean 'atoms'"),
    "sharing of nothing": (("--shared-layers", "head"), "'head' matches no layer"),
    "cost without sharing": (("--compare-own",), "needs --shared-dictionary"),
    "atoms only, nowhere": (("--atoms-only",), "give --out"),
    "afresh, nowhere": (("--fresh",), "give --out"),
    "no YAML": (("--config", "{missing}"), "cannot read"),
    "bad YAML": (("--config", "{broken}"), "is not valid YAML"),
    "unknown setting": (("--config", "{unknown}"), "unknown setting in"),
    "sharing a number": (("--config", "{share}"), "shared_dictionary must be bool or str or list[str] or None, got 5"),
    "a list of overrides": (("--config", "{overrides}"), "must be dict[str, dict[str, Any]] or None, got ['a']"),
    "no name of a start": (("--config", "{start}"), "init must be str, got 3"),
    "no number": (("--config", "{nothing}"), "l1_penalty must be float, got None"),
    "neither true nor false": (("--config", "{maybe}"), "nonnegative must be bool, got 'maybe'"),
    "a list": (("--config", "{list}"), "must map settings to values"),
}


@pytest.mark.parametrize(
    "arguments", [("--layers", "nowhere"), ("--block", 7), ("--max-error", 1e-9, "--solver", "omp")]
)
def test_a_refused_decomposition_leaves_no_folder(run, weights, arguments, tmp_path):
    before = {*tmp_path.iterdir()}
    code, _, err = run(weights, *arguments, "--out", tmp_path / "deep" / "run")
    assert (code, err.count("\n")) == (2, 1)
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, run, weights, tmp_path):
    texts = {
        "broken": "atoms: [",
        "unknown": "atom: 3",
        "list": "- 3",
        "share": "shared_dictionary: 5",
        "start": "init: 3",
    }
    texts |= {"overrides": "overrides: [a]", "nothing": "l1_penalty: null", "maybe": "nonnegative: maybe"}
    paths = {name: tmp_path / f"{name}.yaml" for name in ("missing", *texts)} | {"done": tmp_path / "done"}
    for name, text in texts.items():
        paths[name].write_text(text)
    arguments, message = BAD[case]
    if any("{done}" in str(part) for part in arguments):
        assert run(weights, "--atoms", 3, "--out", paths["done"])[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, out, err = run(weights, *(str(part).format(**paths) for part in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_terminal_sees_how_far_it_is(run, weights, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard error for a terminal
    code, out, err = run(weights, "--atoms", 2, "--solver", "pca", "--csv")
    assert code == 0
    assert "2/3" in err
    assert "stage2.conv" in err
    assert "stage2.conv" in out
