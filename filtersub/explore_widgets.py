"""The widgets of the exploration notebook: they call Explorer.look and show its figure, and know nothing else."""

from __future__ import annotations

from typing import Any

from .errors import FiltersubError
from .explore import SAMPLE_ROWS, Explorer, Look, look_html

_MOST_ATOMS = 32
_WAITING = "<p>The whole layer is being decomposed …</p>"


def show_explorer(
    explorer: Explorer, *, layer: str | None = None, atoms: int = 9, solver: str = "lasso", l1_penalty: float = 1e-3
) -> None:
    """Show the widgets, or, where nothing can move them, the figure that they would begin with.

    The output holds both: a live notebook with ipywidgets shows the widgets; a page made from it, a viewer without a
    kernel and an environment without ipywidgets show the figure. Raises FiltersubError as Explorer.look does.
    """
    from IPython.display import display

    begin = explorer.look(layer or explorer.names[0], atoms, solver, l1_penalty)
    bundle = {"text/html": look_html(begin), "text/plain": begin.sentence}
    try:
        live = controls(explorer, begin)._repr_mimebundle_()
    except ImportError:
        live = {}
    display({**live, **bundle}, raw=True)


def controls(explorer: Explorer, begin: Look) -> Any:
    """An ipywidgets VBox: choices of layer, m, solver and l above the figure, which follows them.

    Raises ImportError where ipywidgets is not installed.
    """
    import ipywidgets as widgets

    wide = {"style": {"description_width": "5.5rem"}, "layout": widgets.Layout(width="26rem")}
    still = {"continuous_update": False, **wide}  # a look when the slider is let go, not one a pixel
    solvers = list(dict.fromkeys([begin.solver, *SAMPLE_ROWS]))
    most = max(_MOST_ATOMS, begin.atoms.shape[0])
    layer = widgets.Dropdown(options=explorer.names, value=begin.layer, description="Layer", **wide)
    solver = widgets.Dropdown(options=solvers, value=begin.solver, description="Solver", **wide)
    atoms = widgets.IntSlider(begin.atoms.shape[0], 1, most, description="Atoms m", **still)
    l1_penalty = widgets.FloatLogSlider(
        min(max(begin.l1_penalty, 1e-5), 1.0), min=-5, max=0, step=0.1, description="Penalty l", **still
    )
    every = widgets.Button(description="Decompose every kernel", layout=widgets.Layout(width="14rem"))
    # a height of its own keeps the page from jumping while figures change
    figure = widgets.HTML(look_html(begin), layout=widgets.Layout(min_height="480px"))

    def look(every_kernel: bool = False) -> None:
        try:
            found = explorer.look(layer.value, atoms.value, solver.value, l1_penalty.value, every_kernel=every_kernel)
        except FiltersubError as error:
            figure.value = f"<p>{error}</p>"
        else:
            figure.value = look_html(found)

    def look_at_all(_button: widgets.Button) -> None:
        before = figure.value
        figure.value = _WAITING
        try:
            look(every_kernel=True)
        finally:
            if figure.value == _WAITING:  # an interrupted kernel, or an error that is shown below the cell
                figure.value = before

    for control in (layer, solver, atoms, l1_penalty):
        control.observe(lambda _change: look(), names="value")
    every.on_click(look_at_all)
    box = widgets.HBox([widgets.VBox([layer, solver]), widgets.VBox([atoms, l1_penalty]), every])
    box.layout.flex_flow = "row wrap"
    return widgets.VBox([box, figure])
