"""The explorer's widgets: they follow, stand side by side, stay right after an interrupt, and are not needed."""

import contextlib
import sys
from pathlib import Path

import pytest
import torch
from conftest import external_references, planted
from torch import nn

from filtersub import FiltersubError, decompose_model, encode, learn_dictionary
from filtersub.decomposition import DecompositionConfig
from filtersub.explore import Explorer, kernel_html, look_html
from filtersub.explore_widgets import Board, load_ipython_extension, show_explorer
from filtersub.markup import tiles_css
from filtersub.percentages import percentage
from filtersub.recipe_file import read_recipe

WIDTH = 6.4


@pytest.fixture
def explorer():
    """One layer of 1,024 planted kernels over 5 atoms, and one of other sizes."""
    layer, other = nn.Conv2d(32, 32, 3), nn.Conv2d(8, 4, 5)
    with torch.no_grad():
        layer.weight.copy_(planted(1024, 5, 9, 2)[0].reshape(32, 32, 3, 3).float())
    return Explorer({"a": layer.weight.detach(), "b": other.weight.detach()})


@pytest.fixture
def board(explorer, tmp_path):
    pytest.importorskip("ipywidgets", reason="needs ipywidgets (pip install filtersub[lab])")
    return Board([(explorer, explorer.look("a", 4))], out_dir=tmp_path / "out")


def state(panel):
    """All that a panel shows, and what its controls say."""
    parts = ("layer", "solver", "atoms", "l1_penalty", "status", "figure", "tiles", "kernels", "kernel", "recipe")
    return {name: getattr(panel, name).value for name in parts} | {"options": panel.kernels.options}


def check_is_right(panel):
    """The controls say what the figure is of, and every part is of one look."""
    look = panel.shown
    assert (panel.layer.value, panel.solver.value, panel.atoms.value) == (look.layer, look.solver, look.recipe.atoms)
    assert panel.figure.value == look_html(look, WIDTH)
    assert panel.kernel.value == kernel_html(look, panel.kernels.value, WIDTH)
    assert f"--atoms {look.recipe.atoms} --solver {look.solver}" in panel.recipe.value
    assert panel.status.value == ""


def test_a_panel_follows_its_controls(board):
    (panel,) = board.panels
    assert "4 atoms rebuild" in panel.figure.value
    panel.atoms.value = 6
    assert "6 atoms rebuild" in panel.figure.value
    panel.layer.value = "b"
    assert "b: 6 atoms" in panel.figure.value
    panel.solver.value = "pca"
    assert "Solver pca" in panel.figure.value
    panel.every.click()
    assert "all 32 kernels" in panel.figure.value
    check_is_right(panel)


def test_a_click_on_a_kernel_shows_its_codes(board):
    (panel,) = board.panels
    words, number = panel.kernels.options[7]
    panel.kernels.value = number
    assert panel.kernel.value == kernel_html(panel.shown, number, WIDTH)
    assert words in panel.kernel.value
    panel.atoms.value = 5  # the same kernel stays, its codes are those of the new atoms
    assert panel.kernels.value == number
    assert f"Kernel of {words}:" in panel.kernel.value
    assert "of 5 atoms" in panel.kernel.value
    check_is_right(panel)


def test_a_second_setting_stands_beside_the_first(board):
    assert board.compared.value == ""
    board.compare.click()
    first, second = board.panels
    assert board.row.children == (first.box, second.box)
    second.solver.value = "omp"
    second.atoms.value = 7
    check_is_right(first)
    check_is_right(second)
    assert (first.shown.solver, second.shown.solver) == ("lasso", "omp")
    for said in (">lasso<", ">omp<", ">4<", ">7<", "1,024, the same"):
        assert said in board.compared.value
    first.atoms.value = 3
    assert ">3<" in board.compared.value
    assert second.shown.codes.shape[1] == 7


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, FiltersubError])
@pytest.mark.parametrize("where", ["look", "figure", "kernel", "showing"])
def test_whatever_ends_a_move_leaves_the_last_look_whole(board, monkeypatch, stop, where):
    board.compare.click()
    panel = board.panels[0]
    before, compared, seen = state(panel), board.compared.value, []

    def stopped(*_args, **_options):
        seen.append(panel.status.value)
        raise stop("stopped")

    with monkeypatch.context() as patched:
        if where == "look":
            patched.setattr(panel.explorer, "look", stopped)
        elif where == "showing":  # half of the new look is on show already
            done = panel._set
            patched.setattr(panel, "_set", lambda look, drawn: stopped() if done(look, drawn) or not seen else None)
        else:
            name = {"figure": "look_html", "kernel": "kernel_html"}[where]
            patched.setattr(f"filtersub.explore_widgets.{name}", stopped)
        for act in (lambda: setattr(panel.atoms, "value", 9), panel.every.click):
            seen.clear()
            with contextlib.suppress(stop):  # ipywidgets shows exceptions in its own way, and passes an interrupt on
                act()
            if where == "showing":
                patched.setattr(panel, "_set", done)
            after = state(panel)
            if stop is FiltersubError:
                assert "stopped" in after.pop("status")
            assert after.items() <= before.items() if stop is FiltersubError else after == before
            assert board.compared.value == compared
            if where == "showing":
                break
    panel.atoms.value = 8
    assert "8 atoms rebuild" in panel.figure.value
    check_is_right(panel)


def test_a_whole_layer_is_told_while_it_is_decomposed(board, monkeypatch):
    (panel,), seen, look = board.panels, [], board.panels[0].explorer.look
    monkeypatch.setattr(
        panel.explorer, "look", lambda *args, **given: seen.append(panel.status.value) or look(*args, **given)
    )
    panel.every.click()
    assert "is being decomposed" in seen[0]
    assert panel.status.value == ""


def test_the_recipe_on_show_is_the_one_written(board, tmp_path):
    board.compare.click()
    first, second = board.panels
    second.atoms.value = 7
    second.l1_penalty.value = 0.01
    for panel, name, atoms in ((first, "recipe.yaml", 4), (second, "recipe-2.yaml", 7)):
        panel.write.click()
        written = read_recipe(tmp_path / "out" / name)
        assert written["atoms"] == atoms
        assert written["layers"] == "^a$"
        assert written["l1_penalty"] == panel.l1_penalty.value
        assert str(tmp_path / "out" / name) in panel.written.value


def shown(monkeypatch, *args, **options):
    found = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: found.append(data))
    show_explorer(*args, **options)
    return found[0]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("beside", [None, {"solver": "omp", "atoms": 6}])
def test_without_widgets_the_figures_stand_still(explorer, monkeypatch, there, beside):
    if there:
        pytest.importorskip("ipywidgets", reason="needs ipywidgets (pip install filtersub[lab])")
    else:
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    data = shown(monkeypatch, explorer, layer="a", atoms=4, beside=beside)
    page = data["text/html"]
    assert "4 atoms rebuild" in data["text/plain"]
    assert ("6 atoms rebuild" in data["text/plain"]) == bool(beside)
    assert "filtersub decompose MODEL" in page
    assert "atoms rebuild it with a relative error" in page
    assert ("relative error</td>" in page) == bool(beside)
    assert page.count("<svg") == (4 if beside else 2)
    assert external_references(page) == []
    assert "<script" not in page
    assert ("application/vnd.jupyter.widget-view+json" in data) == there


def results():
    rows, atoms, _ = planted(200, 4, 9, 2)
    model = decompose_model(
        {"<b>": torch.randn(8, 8, 3, 3), "c": torch.randn(4, 4, 3, 3)}, DecompositionConfig(atoms=3)
    )
    return {
        "model": model,
        "layer": model.layers["c"],
        "dictionary": learn_dictionary(rows, 4, l1_penalty=0.01),
        "codes": encode(rows, atoms, "lasso", l1_penalty=0.01),
    }


def test_results_in_a_cell_show_the_explorer(monkeypatch):
    pytest.importorskip("ipywidgets", reason="needs ipywidgets (pip install filtersub[lab])")
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    load_ipython_extension(shell)
    for name, result in results().items():
        found = []
        monkeypatch.setattr("IPython.display.display", lambda data, raw, to=found: to.append(data))
        assert shell.display_formatter.ipython_display_formatter(result), name
        (data,) = found
        assert "application/vnd.jupyter.widget-view+json" in data
        assert "<svg" in data["text/html"]
        assert "<b>" not in data["text/html"]


def test_a_result_without_weights_is_clicked_through_but_not_learned_again():
    pytest.importorskip("ipywidgets", reason="needs ipywidgets (pip install filtersub[lab])")
    from filtersub.explore import explorer_of

    model = results()["model"]
    explorer = explorer_of(model)
    (panel,) = Board([(explorer, explorer.found("<b>"))]).panels
    assert panel.solver.options == ("as found",)
    assert panel.every.disabled
    panel.layer.value = "c"
    assert panel.shown.codes is model.layers["c"].coefficients
    panel.kernels.value = panel.kernels.options[2][1]
    assert "of 3 atoms" in panel.kernel.value


def test_pictures_of_kernels_are_on_the_elements_of_their_number():
    css = tiles_css(".k", torch.eye(3).repeat(4, 1, 1), side=30)
    assert "background-size:150px 30px" in css  # 4 pictures of 3 pixels and 3 blanks, 10 px a pixel
    assert ".k:nth-child(3){background-position:-80px 0}" in css
    assert external_references(css) == []


@pytest.mark.slow
def test_a_tuning_run_stands_side_by_side_before_and_after(monkeypatch, tmp_path):
    from filtersub import TuneSettings, tune
    from filtersub.explore import comparison, explorers_of_run

    small = {
        "model": "test_resnet",
        "pretrained": False,
        "n_train": 20,
        "epochs": 1,
        "image_size": 32,
        "batch_size": 10,
    }
    tune(TuneSettings(**small, atoms=4), tmp_path / "atoms")
    before, after = explorers_of_run(tmp_path / "atoms")
    layer = before.first
    left, right = before.found(layer), after.found(layer)
    assert left.codes is right.codes
    assert torch.allclose(right.kernels - left.kernels, left.codes @ (right.atoms - left.atoms), atol=1e-5)
    assert float((right.atoms - left.atoms).norm()) > 0
    told = {name: sides for name, *sides in comparison(left, right)}
    change = float((right.atoms - left.atoms).norm() / left.atoms.norm())
    assert told["change of the atoms"] == ["", percentage(change)]
    assert "test_resnet --no-pretrained --layers" in before.command(left)
    data = shown(monkeypatch, tmp_path / "atoms")
    for said in ("before tuning", "after tuning", "that tuning moved most"):
        assert said in data["text/html"]

    tune(TuneSettings(**small, method="full"), tmp_path / "full")
    before, after = explorers_of_run(Path(tmp_path / "full"))
    left, right = before.look(before.first, 4, every_kernel=True), after.look(after.first, 4, every_kernel=True)
    assert not torch.equal(left.kernels, right.kernels)
    assert not before.has_found(before.first)
