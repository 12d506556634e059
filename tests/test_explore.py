"""Looks at a layer: quick, but about that layer; from where the last one ended; the same without widgets."""

import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import external_references, planted
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from filtersub import (
    DecompositionConfig,
    FiltersubError,
    ModelDecomposition,
    decompose_model,
    encode,
    learn_dictionary,
)
from filtersub.cli import app
from filtersub.explore import SAMPLE_ROWS, Explorer, comparison, explorer_of, export_html, kernel_html, look_html
from filtersub.explore.look import density, relative_error, same_kernels
from filtersub.percentages import percentage
from filtersub.recipe_file import layer_pattern, recipe_command, write_recipe
from filtersub.report import coding_words, other_coding


@pytest.fixture
def explorer():
    """One layer of 1,024 planted kernels over 5 atoms, and one of other sizes."""
    layer, other = nn.Conv2d(32, 32, 3), nn.Conv2d(8, 4, 5)
    with torch.no_grad():
        layer.weight.copy_(planted(1024, 5, 9, 2)[0].reshape(32, 32, 3, 3).float())
    return Explorer({"a": layer.weight.detach(), "b": other.weight.detach()})


def test_a_look_tells_what_it_shows(explorer):
    look = explorer.look("a", 5, "lasso", 1e-3)
    rows = explorer.layouts["a"].to_rows(explorer._modules["a"])
    again = float((rows - look.codes @ look.atoms).norm() / rows.norm())
    assert look.relative_error == pytest.approx(again, rel=1e-6)
    assert look.density == pytest.approx(float((look.codes != 0).float().mean()))
    assert (look.looked_at, look.rows, look.warm) == (1024, 1024, False)
    assert look.pictures.shape == (5, 3, 3)
    assert torch.equal(look.pictures.flatten(1), look.atoms)
    assert torch.equal(look.kernels, rows)
    for said in ("5 atoms", "all 1,024 kernels", percentage(look.relative_error), "from new atoms"):
        assert said in look.sentence
    assert "a: 1 atom rebuilds all" in explorer.look("a", 1, "lasso", 1e-3).sentence


@pytest.mark.parametrize("solver", SAMPLE_ROWS)
def test_as_many_atoms_as_numbers_rebuild_what_each_solver_can(explorer, solver):
    few, many = (explorer.look("a", atoms, solver, 1e-6).relative_error for atoms in (2, 9))
    assert many < few
    if solver in ("lasso", "pca", "ridge"):
        assert many < 1e-3


def test_the_next_look_starts_from_the_last_atoms(explorer):
    first = explorer.look("a", 5)
    second = explorer.look("a", 5)
    assert second.warm
    assert second.relative_error <= first.relative_error * 1.01
    fewer, more = explorer.look("a", 3), explorer.look("a", 8)
    assert [fewer.atoms.shape[0], more.atoms.shape[0]] == [3, 8]
    assert torch.allclose(more.atoms.norm(dim=1), torch.ones(8))
    assert not explorer.look("b", 4).warm  # another layer has its own


def test_a_sample_stands_for_the_layer(monkeypatch, explorer):
    monkeypatch.setitem(SAMPLE_ROWS, "lasso", 400)
    look, whole = explorer.look("a", 5), explorer.look("a", 5, every_kernel=True)
    assert (look.looked_at, whole.looked_at) == (400, 1024)
    assert "a random 400 of 1,024 kernels" in look.sentence
    model = {"a": explorer._modules["a"]}
    full = decompose_model(model, DecompositionConfig(atoms=5)).layers["a"]
    assert whole.relative_error == pytest.approx(full.relative_error, rel=1e-5)
    assert look.relative_error == pytest.approx(whole.relative_error, abs=0.1)


def test_atoms_are_limited_to_what_a_layer_allows(explorer):
    assert explorer.look("a", 30, "pca").atoms.shape[0] == 9
    assert explorer.look("b", 64, "lasso").atoms.shape[0] == 32  # of 4 x 8 kernels


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("c",), "unknown layer 'c'"),
        (("a", 0), "0"),
        (("a", 3, "laso"), "did you mean 'lasso'"),
        (("a", 3, "lasso", -1), "-1"),
    ],
)
def test_bad_looks_are_one_clear_line(explorer, arguments, said):
    with pytest.raises(FiltersubError, match=said):
        explorer.look(*arguments)


def test_a_look_is_a_page_of_its_own(explorer):
    page = look_html(explorer.look("a", 4))
    assert external_references(page) == []
    assert "<script" not in page
    assert "aria-label=" in page


def test_a_first_look_waits_for_no_table_or_training_library():
    code = (
        "import sys, torch; from filtersub.explore import Explorer, look_html\n"
        "look_html(Explorer({'a': torch.randn(4, 4, 3, 3)}).look('a', 2, 'pca'))\n"
        "print(*{'pandas', 'peft', 'timm', 'torchvision', 'sklearn'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_a_block_has_as_many_atoms_as_its_recipe_says():
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    look = Explorer({"b": weight}, block=2).look("b", 2, "lasso", every_kernel=True)
    assert look.codes.shape == (16, 8)  # 2 x 2 x 2 atoms
    full = decompose_model({"b": weight}, DecompositionConfig(atoms=2, block=2)).layers["b"]
    assert torch.equal(look.atoms, full.atoms)


def test_the_codes_of_a_kernel_are_those_that_rebuild_it(explorer):
    look = explorer.look("a", 5)
    norms = look.kernels[look.shown].norm(dim=1)
    assert len(norms) == 48
    assert torch.equal(norms, norms.sort(descending=True).values)
    place = int(look.shown[3])
    out, into = divmod(place, 32)
    assert look.kernel_words(place) == f"output channel {out}, input channel {into}"
    assert torch.equal(look.tiles()[3].flatten(), look.kernels[place])
    assert torch.equal(explorer._modules["a"][out, into].flatten(), look.kernels[place])
    error = float((look.kernels[place] - look.codes[place] @ look.atoms).norm() / look.kernels[place].norm())
    shown = kernel_html(look, place)
    assert (
        f"{int((look.codes[place] != 0).sum())} of 5 atoms rebuild it with a relative error of {percentage(error)}"
        in shown
    )
    assert external_references(shown) == []


def test_two_settings_are_compared_on_the_same_kernels(monkeypatch, explorer):
    monkeypatch.setitem(SAMPLE_ROWS, "lasso", 600)
    monkeypatch.setitem(SAMPLE_ROWS, "omp", 900)
    left, right = explorer.look("a", 3), explorer.beside().look("a", 6, "omp")
    whole = explorer.beside().look("a", 3, every_kernel=True)
    for one, other, count in ((left, right, 600), (right, left, 600), (left, whole, 600), (whole, right, 900)):
        mine, theirs = same_kernels(one, other)
        assert len(mine) == len(theirs) == count
        assert torch.equal(one.kernels[mine], other.kernels[theirs])
        assert torch.equal(one.kernels[one.shown], other.kernels[other.shown])  # and show the same ones
    told = {name: sides for name, *sides in comparison(left, right)}
    common = right.kernels[:600], right.codes[:600]
    assert told["relative error"] == [
        percentage(left.relative_error),
        percentage(relative_error(*common, right.atoms)),
    ]
    assert told["nonzero coefficients"][1] == percentage(density(common[1]))
    assert told["atoms"] == ["3", "6"]
    assert told["kernels"] == ["600, the same"] * 2
    assert same_kernels(left, explorer.look("b", 3)) is None


def test_a_setting_beside_another_starts_from_its_own_atoms(explorer):
    alone = explorer.beside()
    expected = [alone.look("a", 5), alone.look("a", 6)][-1]
    explorer.look("a", 5)
    other = explorer.beside()
    assert not other.look("a", 8, "omp").warm
    assert torch.equal(explorer.look("a", 6).atoms, expected.atoms)
    assert other.look("a", 4, "omp").warm


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("layer", "setting", "block"),
    [
        ("a.conv", (3, "lasso", 0.02), None),
        ("a.conv", (4, "omp", 1e-3), None),
        ("a.conv", (4, "pca", 1e-3), None),
        ("b", (2, "lasso", 0.05), 2),
    ],
)
def test_the_exported_recipe_gives_the_same_decomposition(tmp_path, layer, setting, block):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "a.conv.weight": torch.randn(8, 6, 3, 3, generator=generator),
        "axconv.weight": torch.randn(8, 6, 3, 3, generator=generator),  # a dot in a name is no regular expression
        "b.weight": torch.randn(8, 8, generator=generator),
    }
    file = tmp_path / "some weights.safetensors"
    save_file(tensors, file)
    explorer = Explorer(tensors, block=block, seed=3, name=str(file))
    look = explorer.look(layer, *setting, every_kernel=True)
    write_recipe(tmp_path / "recipe.yaml", look.recipe, layers=layer_pattern(layer))
    run("decompose", file, "--config", tmp_path / "recipe.yaml", "--out", tmp_path / "yaml")
    program, *arguments = shlex.split(explorer.command(look))
    assert program == "filtersub"
    run(*arguments, "--out", tmp_path / "command")
    for way in ("yaml", "command"):
        (found,) = ModelDecomposition.load(tmp_path / way / "atoms.safetensors").layers.values()
        assert found.layout.name == layer
        assert torch.equal(found.atoms, look.atoms)
        assert torch.equal(found.coefficients, look.codes)
        assert found.relative_error == pytest.approx(look.relative_error, rel=1e-4)
    shown = export_html(explorer, look)
    assert "l1_penalty" in shown
    assert "decompose" in shown


@pytest.mark.parametrize(
    "changed",
    [
        {"nonzeros": 2, "solver": "omp", "block": (2, 1)},
        {"block": 4, "block_coefficients": True, "limit_atoms": False, "max_rounds": 7},
        {"block": 2, "block_spatial": True, "nonnegative": True, "tol": 1e-7, "init": "pca"},
        {"expansion": (3, 2), "expansion_layers": "all", "learner": "online"},
    ],
)
def test_every_setting_of_a_recipe_is_said_on_the_command_line(tmp_path, changed):
    """Read back by the command itself, from the recipe that it writes beside its result."""
    save_file({"a.weight": torch.randn(8, 8, 3, 3)}, tmp_path / "w.safetensors")
    recipe = replace(DecompositionConfig(atoms=3, l1_penalty=0.0123456789), **changed)
    command = recipe_command(str(tmp_path / "w.safetensors"), recipe, layer="a")
    run(*shlex.split(command)[1:], "--out", tmp_path / "out")
    assert ModelDecomposition.load(tmp_path / "out" / "atoms.safetensors").config == recipe


def test_a_result_is_explored_as_it_was_found(explorer):
    model = {"a": explorer._modules["a"]}
    result = decompose_model(model, DecompositionConfig(atoms=4))
    layer = result.layers["a"]
    look = explorer_of(result, model=model).found("a")
    assert torch.equal(look.codes, layer.coefficients)
    assert look.relative_error == pytest.approx(layer.relative_error, rel=1e-4)
    assert look.recipe == result.config
    for alone in (explorer_of(result), explorer_of(layer)):
        shown = alone.found("a")
        assert shown.relative_error == layer.relative_error
        assert shown.kernels is None
        assert torch.equal(shown.atoms, layer.atoms)
        assert shown.tiles().shape == (48, 3, 3)
        with pytest.raises(FiltersubError, match="unknown layer 'a'"):
            alone.look("a")
    assert explorer_of(layer).found("a").recipe is None  # a layer alone does not hold it
    assert explorer_of(layer, model=model).look("a", 4).kernels is not None


def test_dictionaries_and_codes_are_explored_with_and_without_their_rows():
    rows, atoms, _ = planted(200, 4, 9, 2)
    learned, coded = learn_dictionary(rows, 4, l1_penalty=0.01), encode(rows, atoms, "lasso", l1_penalty=0.01)
    bare, whole = explorer_of(learned).found("dictionary"), explorer_of(learned, rows=rows).found("dictionary")
    assert bare.relative_error is None
    assert whole.relative_error == pytest.approx(float((rows - learned.codes @ learned.atoms).norm() / rows.norm()))
    alone = explorer_of(coded).found("codes")
    assert alone.atoms is None
    assert alone.tiles().shape == (48, 1, 4)
    for look in (bare, whole, alone, explorer_of(coded, rows=rows, atoms=atoms).found("codes")):
        for page in (look_html(look), kernel_html(look, int(look.shown[0]))):
            assert "<svg" in page
            assert external_references(page) == []
    with pytest.raises(FiltersubError, match="a dict cannot be explored"):
        explorer_of({})


def test_solvers_of_one_problem_meet_in_a_look(explorer):
    """The exact solver learns the atoms, the named one codes them: all of a look's codes are its solver's own."""
    exact, other = (explorer.beside().look("a", 5, solver, 1e-3) for solver in ("lasso", "fista"))
    assert (exact.learned_by, other.learned_by) == ("", "lasso")
    assert torch.equal(other.codes, encode(other.kernels, other.atoms, "fista", l1_penalty=1e-3).codes)
    same = encode(other.kernels, other.atoms, "lasso", l1_penalty=1e-3).codes
    assert torch.allclose(other.codes, same, atol=2e-2 * float(same.abs().max()))
    assert "atoms learned with lasso" in other.sentence
    assert "learned with" not in exact.sentence
    assert explorer.look("a", 5, "fista", 1e-3, every_kernel=True).learned_by == ""


@pytest.mark.parametrize("solver", ["lasso", "fista", "omp", "pca", "ridge"])
def test_a_penalty_is_told_where_the_solver_pays_one(explorer, solver):
    look, recipe = explorer.look("a", 3, solver, 0.0123), DecompositionConfig(atoms=3, solver=solver, l1_penalty=0.0123)
    paid = solver in ("lasso", "fista")
    assert ("l = 0.0123" in look.sentence) == paid
    assert look.row()["l1_penalty"] == (0.0123 if paid else None)
    assert coding_words(recipe) == (f"{solver} at l = 0.0123" if paid else solver)
    assert ("a penalty other than l = 0.0123" in other_coding(recipe)) == paid
    assert (f"another solver than {solver}, which pays no penalty" in other_coding(recipe)) == (not paid)
