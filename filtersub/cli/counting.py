"""The commands count and suggest: parse, call one function, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FiltersubError, check_name
from ..percentages import percentage
from ..setting_fields import TuneFields
from ..settings import MOST, MOST_PIXELS, check_whole, select_fields
from .console import json_rows, print_csv, print_json, print_table, say
from .options import AsCsv, AsJson, PaperRun, Reading, WeightLayout, read_settings, stated, with_settings

if TYPE_CHECKING:
    import pandas as pd

    from ..parameters import ParameterCount

_LARGE = 10**12  # parameters
_MODEL = typer.Argument(
    metavar="MODEL",
    help="A timm name, timm:NAME, torchvision:NAME, diffusers:FOLDER, diffusers:stable-diffusion-1.5 (-2.1, -xl), "
    "transformers:TYPE, or a file of weights.",
)
Model = Annotated[str, _MODEL]
ModelOrPreset = Annotated[str | None, _MODEL]
COUNTED = (
    *("method", "atoms", "expansion", "expansion_coefficients", "expansion_layers", "block", "block_spatial"),
    *("block_coefficients", "limit_atoms", "overrides", "solver", "rank", "layers"),
)


@with_settings(TuneFields, only=COUNTED)
def count(
    context: typer.Context,
    model: ModelOrPreset = None,
    paper: PaperRun = None,
    reading: Reading = None,
    classes: Annotated[int | None, typer.Option(help="Classes of a new head.")] = None,
    weight_layout: WeightLayout = "auto",
    preset: Annotated[str | None, typer.Option(help="A printed figure of the paper by name, or all.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Every method side by side.")] = False,
    cost: Annotated[bool, typer.Option("--cost", help="Memory, files and FLOPs too.")] = False,
    image_size: Annotated[int | None, typer.Option(help="Pixels, for FLOPs; default the model's own.")] = None,
    every_layer: Annotated[bool, typer.Option("--every-layer", help="A row a layer, not a stage.")] = False,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    **options: Any,
) -> None:
    """Count what a method would train, from the architecture alone (no weights are loaded)."""
    from ..decomposition.recipe import DecompositionConfig
    from ..parameters.baselines import METHODS
    from ..progress import waiting

    check_name("method", options["method"], METHODS)
    select_fields(read_settings(options), DecompositionConfig)
    if classes is not None:
        check_whole("classes", classes, 1, MOST)
    if image_size is not None:
        check_whole("image_size", image_size, 1, MOST_PIXELS)
    with waiting("loading"):  # after these checks: the imports take seconds
        from .. import paper as of_paper
        from .. import parameters
        from ..data import n_classes
    if preset is not None:
        return _count_preset(model, preset, every_layer, as_json, as_csv)
    values = read_settings(options)
    overrides = values.pop("overrides") or {}
    chosen = None
    if paper is not None or reading is not None:
        # the user's sizes first, then the reading's rules
        given = {name: values[name] for name in stated(context) if name in values}
        chosen = of_paper.choose(reading, paper, model=model, given=given)
        of_paper.check_free(chosen, given)
        model = model or chosen.part.model
        of_paper.check_fits(chosen, model, given)
        values |= of_paper.method_settings(chosen.part, chosen.run, chosen.reading, **given)
        if classes is None and chosen.part.name != "table3":  # whose network has no head
            classes = n_classes(chosen.part.data[0])
    if model is None:
        raise FiltersubError("count needs a MODEL, a run of the paper by --paper, or a printed figure by --preset")
    recipe, method = select_fields(values, DecompositionConfig), values["method"]
    sizes = select_fields(values, parameters.BaselineOptions)
    module = parameters.load_architecture(model, num_classes=classes, layout=weight_layout)
    settings = {"recipe": recipe, "options": sizes, "layers": values["layers"], "name": model, "overrides": overrides}
    if compare:
        counts = parameters.compare_methods(module, **settings)
        value, title = [found.to_json() for found in counts], f"{model}, {counts[0].total:,} in all"
        return _show(parameters.comparison_table(counts), value, title, as_json, as_csv)
    found = parameters.count_parameters(module, method, **settings)
    value = found.to_json() | ({} if chosen is None else {"paper": chosen.name, "reading": chosen.reading})
    if cost and found.method != "filter-subspace":
        raise FiltersubError(f"costs are known of filter-subspace, not of {found.method}")
    if cost:
        spent, note = parameters.count_cost(module, found, recipe, image_size, overrides)
        value["cost"] = spent.to_json()
        if note:
            say(f"filtersub: no FLOPs of the convolutions: {note}", err=True)
    _show_count(found, value, every_layer, as_json, as_csv)
    if as_json or as_csv:
        return
    if cost:
        known = {name.replace("_", " "): number for name, number in value["cost"].items() if number is not None}
        print_table({"cost": [*known], "value": [*known.values()]}, "memory in bytes, arithmetic in FLOPs")
    if chosen is not None:
        say(f"{chosen.name} ({chosen.part.title}) by the reading {chosen.reading!r}")


@with_settings(TuneFields, only=("weights", "layers"))
def suggest(
    model: Model,
    budget: Annotated[str, typer.Option(help="Most trained parameters beside the head: 300000, 300k, or 0.5% of all.")],
    data: Annotated[str, typer.Option(help="Data set whose gradient ranks, where weights are there.")] = "digits",
    weight_layout: WeightLayout = "auto",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Fetch the pretrained weights.")] = False,
    image_size: Annotated[int, typer.Option(help="Images are enlarged to this many pixels.")] = 48,
    images: Annotated[int, typer.Option(help="Training images that the gradient is taken on.")] = 200,
    solver: Annotated[str, typer.Option(help="Codes that are scored; pca needs no coding.")] = "pca",
    top: Annotated[int, typer.Option(help="Settings to show at most.")] = 10,
    by_layer: Annotated[
        bool, typer.Option("--by-layer", help="Allot the budget layer by layer, each with its own m and k_c.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="YAML file for the first choice, for `tune --decomposition`.")
    ] = None,
    check: Annotated[
        list[Path] | None, typer.Option(help="Folder of tuning records to compare the ranking with; may be repeated.")
    ] = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    **options: Any,
) -> None:
    """Propose settings of (m, m_1, k_c, layers) within a budget, ranked without training, and say why."""
    from ..decomposition.recipe import DecompositionConfig
    from ..progress import waiting

    DecompositionConfig(solver=solver)  # whether there is one of that name
    check_whole("image_size", image_size, 1, MOST_PIXELS)
    check_whole("images", images, 1, MOST)
    with waiting("loading"):  # after these checks: the imports take seconds
        from ..parameters import allot, load_architecture, parse_budget, suggest_settings, suggestions_table
        from ..parameters.budget import check_top
        from ..ranking import agreement, gradient_energy
        from ..recipe_file import write_recipe

    weights, layers = options["weights"], options["layers"]
    has_weights = model == "efficientnet_lite0" or weights is not None or pretrained
    if check and not has_weights:
        raise FiltersubError("the ranking can be checked only where weights are there: --weights FILE or --pretrained")
    check_top(top)
    parse_budget(budget, _LARGE)  # of no model yet: whether it is a budget at all
    module, energy = load_architecture(model, layout=weight_layout), None
    tensors = module.parameters() if hasattr(module, "parameters") else module.values()
    limit = parse_budget(budget, sum(tensor.numel() for tensor in tensors))
    if has_weights:
        with waiting(f"taking the gradient on {images} images"):
            energy = gradient_energy(model, data, weights=weights, image_size=image_size, n_images=images)
        module = energy.model
    if by_layer:
        if energy is None:
            words = "a budget is allotted by the gradient, which needs weights: --weights FILE or --pretrained"
            raise FiltersubError(words)
        if check:
            raise FiltersubError("--check compares settings for all layers; leave it or --by-layer out")
        with waiting("allotting the budget"):
            found = allot(energy, limit, solver=solver, layers=layers)
        if out is not None:
            write_recipe(out, found.base, layers=found.layers, overrides=found.overrides)
        value = {"model": model, "budget": limit, "trainable": found.trainable, "score": found.score}
        value |= {"layers": found.layers, "overrides": found.overrides, "allotted": json_rows(found.table)}
        shown = found.table if as_csv else found.table[found.table["trainable"] > 0]
        title = f"{model}: {found.trainable:,} of {limit:,} trained parameters, allotted by layer"
        return _show(shown, value, title, as_json, as_csv)
    score = None if energy is None else energy.score
    with waiting("ranking the settings"):
        found = suggest_settings(module, limit, score=score, solver=solver, layers=layers, top=top)
    if out is not None:
        write_recipe(out, found[0].recipe, layers=found[0].layers)
    table = suggestions_table(found)
    criterion = "gradient energy" if energy is not None else "count"
    value: dict[str, Any] = {"model": model, "budget": limit, "criterion": criterion}
    value["suggestions"] = [suggestion.row() for suggestion in found]
    checked = agreement(energy, check, model) if check else None
    if checked is not None:
        value["check"] = checked.to_json()
    title = f"{model}: at most {limit:,} trained parameters, ranked by {criterion}"
    _show(table.drop(columns=["layers", "why"]) if not as_csv else table, value, title, as_json, as_csv)
    if as_json or as_csv:
        return
    say(f"first choice: {found[0].why}")
    if checked is not None:
        print_table(checked.table, f"measured in {', '.join(map(str, check))}")
        say(checked.sentence)


def _count_preset(model: str | None, name: str, every_layer: bool, as_json: bool, as_csv: bool) -> None:
    from ..parameters import compute, readings_table

    if model is not None:
        raise FiltersubError(f"the preset {name!r} names its own model; leave {model!r} away")
    if name == "all":
        table = readings_table()
        return _show(table, table.to_dict("records"), "printed counts of arXiv:2403.00269", as_json, as_csv)
    found = compute(name)
    _show_count(found.count, found.to_json(), every_layer, as_json, as_csv)
    if not (as_json or as_csv):
        say(found.sentence)


def _show_count(found: ParameterCount, value: dict[str, Any], every_layer: bool, as_json: bool, as_csv: bool) -> None:
    if found.layers or as_json or as_csv:
        table = found.table() if every_layer or as_csv else found.stages()
        _show(table, value, f"{found.model}, {found.method}", as_json, as_csv)
    if not (as_json or as_csv):
        say(
            f"{found.model}, {found.method}: {found.trainable:,} trained + {found.head:,} in the head, "
            f"of {found.total:,} ({percentage(found.fraction, 3)} without the head)"
        )


def _show(table: pd.DataFrame, value: Any, title: str, as_json: bool, as_csv: bool) -> None:
    if as_json:
        print_json(value)
    elif as_csv:
        print_csv(table)
    else:
        print_table(table, title)
