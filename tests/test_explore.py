"""Looks at a layer: quick, but about that layer; from where the last one ended; the same without widgets."""

import contextlib
import subprocess
import sys

import pytest
import torch
from conftest import planted
from torch import nn

from filtersub import DecompositionConfig, FiltersubError, decompose_model
from filtersub.ablation.notebook_html import external_references
from filtersub.explore import SAMPLE_ROWS, Explorer, look_html
from filtersub.explore_widgets import controls, show_explorer


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
    for said in ("5 atoms", "all 1,024 kernels", f"{look.relative_error:.1%}", "from new atoms"):
        assert said in look.sentence


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
        (("c",), "no layer 'c'"),
        (("a", 0), "0"),
        (("a", 3, "laso"), "did you mean 'lasso'"),
        (("a", 3, "lasso", -1), "-1"),
    ],
)
def test_bad_looks_are_one_clear_line(explorer, arguments, said):
    with pytest.raises(FiltersubError, match=said):
        explorer.look(*arguments)


def test_widgets_follow_the_sliders(explorer):
    pytest.importorskip("ipywidgets", reason="needs ipywidgets (pip install filtersub[lab])")
    box = controls(explorer, explorer.look("a", 4))
    (choices, sliders, button), figure = box.children[0].children, box.children[1]
    layer, solver, atoms = choices.children[0], choices.children[1], sliders.children[0]
    assert "4 atoms rebuild" in figure.value
    atoms.value = 6
    assert "6 atoms rebuild" in figure.value
    layer.value = "b"
    assert "b: 6 atoms" in figure.value
    solver.value = "pca"
    assert "Solver pca" in figure.value
    button.click()
    assert "all 32 kernels" in figure.value


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_the_figure_that_was_there(explorer, monkeypatch, stop):
    pytest.importorskip("ipywidgets", reason="needs ipywidgets (pip install filtersub[lab])")
    box = controls(explorer, explorer.look("a", 4))
    figure, every = box.children[1], box.children[0].children[-1]
    before, seen = figure.value, []

    def stopped(*_args, **_options):
        seen.append(figure.value)
        raise stop

    monkeypatch.setattr(explorer, "look", stopped)
    with contextlib.suppress(stop):  # ipywidgets shows exceptions in its own way, and passes an interrupt on
        every.click()
    assert "is being decomposed" in seen[0]
    assert figure.value == before


def test_without_widgets_the_figure_stands_still(explorer, monkeypatch):
    for there in (True, False):
        if not there:
            monkeypatch.setitem(sys.modules, "ipywidgets", None)
        shown = []
        monkeypatch.setattr("IPython.display.display", lambda data, raw, to=shown: to.append(data))
        show_explorer(explorer, layer="a", atoms=4)
        (data,) = shown
        assert "<svg" in data["text/html"]
        assert "4 atoms rebuild" in data["text/plain"]
        assert ("application/vnd.jupyter.widget-view+json" in data) == there


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
