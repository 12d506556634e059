"""The explorer in JupyterLab: widgets that call filtersub.explore and show its figures, and know nothing else.

Without ipywidgets, or without a running kernel, the figures that the widgets would begin with stand still.
"""

import html
import os
from collections.abc import Callable, Mapping
from itertools import count
from math import prod
from pathlib import Path
from typing import Any

from .errors import FiltersubError
from .explore import SAMPLE_ROWS, Explorer, Look, comparison_html, explorer_of, export_html, kernel_html, look_html
from .markup import tiles_css, unfold_html
from .processes import keep_to_quota
from .recipe_file import RECIPE_FILE, layer_pattern, write_recipe

_MOST_ATOMS = 32
_WAITING = "<p>The whole layer is being decomposed …</p>"
_FOUND = "as found"  # beside the names of solvers: the result that is there already
_WIDTH = 6.4  # of a figure, in inches: two stand side by side on a wide screen
_numbers = count(1)


def show_explorer(
    what: Any,
    *,
    beside: Explorer | Mapping[str, Any] | None = None,
    layer: str | None = None,
    atoms: int = 9,
    solver: str = "lasso",
    l1_penalty: float = 1e-3,
    out_dir: str | os.PathLike[str] = ".",
) -> None:
    """Show the widgets, or, where nothing can move them, the figures that they would begin with.

    The output holds both: a live notebook with ipywidgets shows the widgets; a page made from it, a viewer without a
    kernel and an environment without ipywidgets show the figures. Raises FiltersubError as Explorer.look does.

    Parameters
    ----------
    what : an Explorer; a result of decompose_model, decompose_weight, learn_dictionary or encode (explorer_of joins it
        with its model); or the folder of a tuning run, whose layers then stand side by side before and after tuning
    beside : a second Explorer, or settings (``{"solver": "omp"}``, ``{"atoms": 18}``) of a second look
    layer, atoms, solver, l1_penalty : to begin with; default the first layer. A result begins as it was found
    out_dir : folder where the recipe is written when asked for
    """
    from IPython.display import display

    keep_to_quota()
    if isinstance(what, (str, os.PathLike)):
        from .explore import explorers_of_run

        explorer, beside = explorers_of_run(what)
    else:
        explorer = explorer_of(what)
    setting = {"layer": layer or explorer.first, "atoms": atoms, "solver": solver, "l1_penalty": l1_penalty}
    begin = [(explorer, _first_look(explorer, **setting))]
    if beside is not None:
        other, changed = (beside, {}) if isinstance(beside, Explorer) else (explorer.beside(), dict(beside))
        second = _first_look if not changed else Explorer.look
        begin.append((other, second(other, **{**setting, **changed})))
    drawn = [_draw(*side) for side in begin]
    parts = []  # figures, one kernel's codes, the comparison and the recipes, without widgets
    for (side, _look), shown in zip(begin, drawn, strict=True):
        title = f"<p><strong>{html.escape(side.title)}</strong></p>" if side.title else ""
        recipe = unfold_html("Recipe", shown["recipe"])
        parts.append(f"<div>{title}{shown['figure']}{shown['kernel']}{recipe}</div>")
    if len(begin) == 2:
        parts.append(comparison_html(*(look for _, look in begin)))
    bundle = {"text/html": "".join(parts), "text/plain": "\n".join(look.sentence for _, look in begin)}
    try:
        live = Board(begin, drawn, out_dir=out_dir).box._repr_mimebundle_()
    except ImportError:
        live = {}
    display({**live, **bundle}, raw=True)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext filtersub.explore_widgets``: a result at the end of a cell then shows the explorer."""
    from .decomposition import Decomposition, ModelDecomposition
    from .dictionary import DictionaryResult
    from .sparse_coding import CodingResult

    for kind in (Decomposition, ModelDecomposition, DictionaryResult, CodingResult):
        shell.display_formatter.ipython_display_formatter.for_type(kind, show_explorer)


def _first_look(explorer: Explorer, layer: str, atoms: int, solver: str, l1_penalty: float) -> Look:
    return explorer.found(layer) if explorer.has_found(layer) else explorer.look(layer, atoms, solver, l1_penalty)


def _draw(explorer: Explorer, look: Look, before: str | None = None) -> dict[str, Any]:
    """All that a look shows, made before any of it is shown; of kernels the one of these words, else the first."""
    numbers = look.shown.tolist()
    names = [look.kernel_words(number) for number in numbers]
    picked = numbers[names.index(before)] if before in names else next(iter(numbers), None)
    return {
        "figure": look_html(look, _WIDTH),
        "names": dict(zip(numbers, names, strict=True)),
        "picked": picked,
        "kernel": "" if picked is None else kernel_html(look, picked, _WIDTH),
        "recipe": export_html(explorer, look),
    }


class Board:
    """Panels side by side, and what differs between them: ``box`` is the widget.

    Raises ImportError where ipywidgets is not installed.
    """

    def __init__(
        self,
        sides: list[tuple[Explorer, Look]],
        drawn: list[dict[str, Any]] | None = None,
        *,
        out_dir: str | os.PathLike[str] = ".",
    ) -> None:
        import ipywidgets as widgets

        self.out_dir = out_dir
        self.compare = widgets.Button(description="Compare with another setting", layout={"width": "16rem"})
        self.compared = widgets.HTML()
        self.row = widgets.HBox(layout={"flex_flow": "row wrap"})
        self.panels: list[Panel] = []
        for (explorer, look), shown in zip(sides, drawn or [_draw(*side) for side in sides], strict=True):
            self._add(explorer, look, shown)
        self.compare.on_click(lambda _button: self.add())
        self.box = widgets.VBox([self.row, self.compare, self.compared])

    def add(self) -> None:
        """A second panel, which begins with the setting of the first."""
        first = self.panels[0]
        self._add(first.explorer.beside(), first.shown, first.drawn)

    def _add(self, explorer: Explorer, look: Look, drawn: dict[str, Any]) -> None:
        name = RECIPE_FILE if not self.panels else f"recipe-{len(self.panels) + 1}.yaml"
        self.panels.append(Panel(explorer, look, drawn, self._changed, Path(self.out_dir) / name))
        self.row.children = [panel.box for panel in self.panels]
        self.compare.layout.display = "none" if len(self.panels) > 1 else None
        self._changed()

    def _changed(self) -> None:
        if len(self.panels) == 2:
            self.compared.value = comparison_html(*(panel.shown for panel in self.panels))


class Panel:
    """One setting: its controls, the figure of its look, the kernels to click on, the codes of one, the recipe.

    What a move shows is made whole before any of it is shown. Where a move ends early, by an interrupt or an error, the
    last look stays on show and the controls go back to it.
    """

    def __init__(
        self,
        explorer: Explorer,
        begin: Look,
        drawn: dict[str, Any],
        changed: Callable[[], None],
        recipe_file: Path,
    ) -> None:
        import ipywidgets as widgets

        self.explorer, self.shown, self.drawn, self.recipe_file = explorer, begin, drawn, recipe_file
        self._changed, self._quiet = changed, True
        wide = {"style": {"description_width": "5.5rem"}, "layout": {"width": "22rem"}}
        still = {"continuous_update": False, **wide}  # a look when the slider is let go, not one a pixel
        self.layer = widgets.Dropdown(options=explorer.names, value=begin.layer, description="Layer", **wide)
        self.solver = widgets.Dropdown(options=self._solvers(begin), description="Solver", **wide)
        most = max(_MOST_ATOMS, _asked(begin))
        self.atoms = widgets.IntSlider(_asked(begin), 1, most, description="Atoms m", **still)
        self.l1_penalty = widgets.FloatLogSlider(1e-3, min=-5, max=0, step=0.1, description="Penalty l", **still)
        self.every = widgets.Button(description="Decompose every kernel", layout={"width": "14rem"})
        self.status = widgets.HTML()
        # a height of its own keeps the page from jumping while figures change
        self.figure = widgets.HTML(layout={"min_height": "380px"})
        self.tiles = widgets.HTML()
        self.kernels = widgets.ToggleButtons(description="")
        self.tiles_class = f"filtersub-kernels-{next(_numbers)}"
        self.kernels.add_class(self.tiles_class)
        self.kernel = widgets.HTML()
        self.recipe = widgets.HTML()
        self.write = widgets.Button(description=f"Write {recipe_file.name}", layout={"width": "14rem"})
        self.written = widgets.HTML()
        export = widgets.Accordion([widgets.VBox([self.recipe, self.write, self.written])], titles=("Recipe",))
        title = widgets.HTML(f"<strong>{html.escape(explorer.title)}</strong>")
        words = widgets.HTML("<p>Kernels of largest norm: click on one for its codes.</p>")
        controls = [title, self.layer, self.solver, self.atoms, self.l1_penalty, self.every, self.status]
        parts = [*controls, self.figure, self.tiles, words, self.kernels, self.kernel, export]
        self.box = widgets.VBox(parts, layout={"flex": "1 1 400px", "min_width": "0", "max_width": "660px"})
        self._put(begin, drawn)
        for control in (self.layer, self.solver, self.atoms, self.l1_penalty):
            control.observe(lambda _change: self._move(), names="value")
        self.kernels.observe(lambda _change: self._pick(), names="value")
        self.every.on_click(lambda _button: self._move(every_kernel=True))
        self.write.on_click(lambda _button: self._write())
        self._quiet = False

    def _solvers(self, look: Look) -> list[str]:
        """What there is to choose from for a layer: the result that is there, and solvers where weights are."""
        found = [_FOUND] if self.explorer.has_found(look.layer) else []
        named = [] if look.found_by else [look.solver]
        return list(dict.fromkeys([*found, *named, *SAMPLE_ROWS])) if look.layer in self.explorer.layouts else found

    def _look(self, every_kernel: bool) -> Look:
        layer, solver = self.layer.value, self.solver.value
        found_only = layer not in self.explorer.layouts
        if found_only or (solver == _FOUND and not every_kernel and self.explorer.has_found(layer)):
            return self.explorer.found(layer)
        solver = self.shown.solver if solver == _FOUND else solver
        setting = (self.atoms.value, solver if solver in SAMPLE_ROWS else "lasso", self.l1_penalty.value)
        return self.explorer.look(layer, *setting, every_kernel=every_kernel)

    def _move(self, every_kernel: bool = False) -> None:
        """Show the look that the controls ask for, or leave all as it was."""
        if self._quiet:
            return
        before = self.shown, self.drawn
        try:
            self.status.value = _WAITING if every_kernel else ""
            look = self._look(every_kernel)
            drawn = _draw(self.explorer, look, self.drawn["names"].get(self.kernels.value))
            self._put(look, drawn)
            self._changed()
        except BaseException as error:  # an interrupt too: the last look whole, not half of this one
            self._put(*before)
            if not isinstance(error, FiltersubError):
                self._changed()
                raise
            self.status.value = f"<p>{html.escape(str(error))}</p>"

    def _put(self, look: Look, drawn: dict[str, Any]) -> None:
        """Show a look whole; its controls say what it is of. Moves nothing."""
        self._quiet = True
        try:
            self._set(look, drawn)
        finally:
            self._quiet = False

    def _set(self, look: Look, drawn: dict[str, Any]) -> None:
        found = bool(look.found_by)
        self.layer.value = look.layer
        if list(self.solver.options) != self._solvers(look):
            self.solver.options = self._solvers(look)
        self.solver.value = _FOUND if found else look.solver
        self.atoms.max = max(self.atoms.max, _asked(look))
        self.atoms.value = _asked(look)
        if look.l1_penalty:
            self.l1_penalty.value = min(max(look.l1_penalty, 1e-5), 1.0)
        for slider in (self.atoms, self.l1_penalty):
            slider.disabled = found
        self.every.disabled = look.layer not in self.explorer.layouts
        self.write.disabled = look.recipe is None
        buttons = f".{self.tiles_class} .widget-toggle-button"
        self.tiles.value = tiles_css(buttons, look.tiles()) if len(look.shown) else ""
        self.figure.value = drawn["figure"]
        options = [(name, number) for number, name in drawn["names"].items()]
        if list(self.kernels.options) != options:
            self.kernels.options = options
            self.kernels.tooltips = [name for name, _ in options]
        if drawn["picked"] is not None:
            self.kernels.value = drawn["picked"]
        self.kernel.value, self.recipe.value = drawn["kernel"], drawn["recipe"]
        self.status.value = self.written.value = ""
        self.shown, self.drawn = look, drawn

    def _pick(self) -> None:
        """Show the codes of the kernel that was clicked on."""
        if self._quiet or self.kernels.value is None:
            return
        try:
            words = kernel_html(self.shown, self.kernels.value, _WIDTH)
        except BaseException:
            self._put(self.shown, self.drawn)
            raise
        self.drawn = {**self.drawn, "picked": self.kernels.value, "kernel": words}
        self.kernel.value = words

    def _write(self) -> None:
        look = self.shown
        try:
            write_recipe(self.recipe_file, look.recipe, layers=layer_pattern(look.layer))
        except FiltersubError as error:
            self.written.value = f"<p>{html.escape(str(error))}</p>"
        else:
            self.written.value = f"<p>Written to {html.escape(str(self.recipe_file.resolve()))}</p>"


def _asked(look: Look) -> int:
    """m of a look: that of its recipe, else as many as give its atoms."""
    if look.recipe is not None:
        return look.recipe.atoms
    return max(1, look.codes.shape[1] // (1 if look.layout is None else prod(look.layout.block)))
