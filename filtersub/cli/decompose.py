"""``filtersub decompose``, and ``compile-kernels`` for what it takes: parse, call one function, print."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FiltersubError
from ..percentages import percentage
from ..setting_fields import RecipeFields, TuneFields
from .console import json_rows, print_csv, print_json, print_table, say
from .options import AsCsv, AsJson, Model, WeightLayout, read_settings, stated, with_settings

if TYPE_CHECKING:
    import pandas as pd

    from ..decomposition import AtomChoice, ModelDecomposition

_SHOWN = ("name", "shape", "rows", "atoms", "relative_error", "density", "objective", "iterations", "seconds")


@with_settings(TuneFields, only=[*RecipeFields.__dataclass_fields__, "overrides", "layers", "weights", "pretrained"])
def decompose(
    context: typer.Context,
    model: Model,
    shared_dictionary: Annotated[
        bool, typer.Option("--shared-dictionary", help="One dictionary for all layers of a patch shape.")
    ] = False,
    shared_layers: Annotated[
        list[str] | None, typer.Option(metavar="REGEX", help="The same among layers that match; may be repeated.")
    ] = None,
    compare_own: Annotated[
        bool, typer.Option("--compare-own", help="What sharing costs: own dictionaries too (sharing.csv).")
    ] = False,
    max_error: Annotated[
        float | None, typer.Option(help="Relative error to meet with as few atoms as possible (curve.csv).")
    ] = None,
    max_error_per: Annotated[str, typer.Option(help="Who meets it: each layer, or the whole model.")] = "layer",
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML of settings and overrides; options given here win.")
    ] = None,
    weight_layout: WeightLayout = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for atoms.safetensors, recipe.yaml and layers.csv; a rerun does only the rest."),
    ] = None,
    atoms_only: Annotated[bool, typer.Option("--atoms-only", help="Leave the coefficients out of the file.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on with what --out holds, or start over.")
    ] = True,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
    **options: Any,
) -> None:
    """Decompose a model's kernels (or a bare file of weights) into filter atoms and coefficients."""
    from ..decomposition.recipe import DecompositionConfig, check_max_error
    from ..progress import progress_bar, waiting

    settings = {} if config is None else _recipe_of(config)
    given, options = stated(context), read_settings(options)
    options |= {"max_error": max_error, "max_error_per": max_error_per}
    options["shared_dictionary"] = shared_layers or shared_dictionary
    if shared_layers:
        given.add("shared_dictionary")
    of_recipe = [field.name for field in fields(DecompositionConfig)]
    for name in (*of_recipe, "shared_dictionary", "layers", "max_error", "max_error_per"):
        if name in given or (name not in settings and options[name] is not None):
            settings[name] = options[name]
    overrides = {**(settings.get("overrides") or {}), **(options["overrides"] or {})}
    recipe = DecompositionConfig(**{name: settings[name] for name in of_recipe if name in settings})
    shared, limit = settings.get("shared_dictionary", False), settings.get("max_error")
    if limit is not None:
        check_max_error(limit)
    if out is None and (atoms_only or not resume):
        raise FiltersubError(f"--{'atoms-only' if atoms_only else 'fresh'} needs a folder, give --out")
    if compare_own and not shared:
        raise FiltersubError("--compare-own needs --shared-dictionary or --shared-layers")
    if limit is not None and (shared or "atoms" in given):
        what = "shares dictionaries" if shared else "has --atoms"
        raise FiltersubError(f"--max-error chooses m for a layer's own dictionary, but this {what}; leave one away")
    with waiting("loading"):  # after all checks: these imports take seconds
        from ..decomposition import DecompositionInterrupted, choose_atoms, decompose_model, sharing_table
        from ..diagnostics import layer_table
        from ..files import write_csv
        from ..folder_lock import locked
        from ..processes import keep_to_quota
        from ..recipe_file import RECIPE_FILE, write_recipe

        keep_to_quota()
    with waiting(f"loading {model}"):
        source, exclude = weights_of(model, options["weights"], options["pretrained"], weight_layout)
    with nullcontext() if out is None else locked(out):  # which leaves no folder where nothing is written
        kept = {"folder": out, "atoms_only": atoms_only, "fresh": not resume}
        choice = own = None
        try:
            with progress_bar() as on_layer:
                asked = {"layers": settings.get("layers"), "exclude": exclude, "on_layer": on_layer}
                if limit is not None:
                    per = settings["max_error_per"]
                    choice = choose_atoms(source, recipe, max_error=limit, per=per, overrides=overrides, **asked)
                    overrides = choice.overrides
                asked["overrides"] = overrides
                found = decompose_model(source, recipe, shared=shared, **kept, **asked)
                if compare_own:
                    own = decompose_model(source, recipe, **asked)
        except DecompositionInterrupted as interrupted:
            say(f"filtersub: {interrupted}", err=True)
            raise typer.Exit(130) from None
        table = layer_table(found)
        cost = None if own is None else sharing_table(found, own)
        if out is not None:
            write_csv(out / "layers.csv", table)
            layers = settings.get("layers")
            write_recipe(out / RECIPE_FILE, recipe, overrides=overrides, layers=layers, shared=found.shared)
            if choice is not None:
                write_csv(out / "curve.csv", choice.curve)
            if cost is not None:
                write_csv(out / "sharing.csv", cost)
    if as_csv:
        return print_csv(table)
    if as_json:
        value = {"model": model, "relative_error": found.relative_error, "seconds": found.seconds}
        value["layers"] = _records(table, found)
        if choice is not None:
            value |= {"chosen_atoms": choice.atoms, "curve": json_rows(choice.curve)}
        if own is not None:
            value |= {"relative_error_own": own.relative_error, "sharing": cost.to_dict("records")}
        return print_json(value)
    if choice is not None and out is None:  # the whole curve has some hundred rows
        chosen = choice.curve["chosen"]
        before = chosen.groupby(choice.curve["name"]).shift(-1, fill_value=False)
        print_table(choice.curve[chosen | before], "relative error by m, the chosen and the next smaller one")
    print_table(_shown(table, found), f"{model}, layer by layer")
    if own is not None:
        words = (
            f"shared dictionaries leave {percentage(found.relative_error, 2)} of the model, own ones "
            f"{percentage(own.relative_error, 2)}"
        )
        print_table(cost, words)
    say(f"{model}: relative error {percentage(found.relative_error, 2)} in {found.seconds:.1f} s{_chosen(choice, out)}")


def compile_kernels() -> None:
    """Compile the kernels for this machine's processor ahead of their first use, once; `make install` does it.

    Kernels that are on disk already are only loaded. NUMBA_CACHE_DIR says where they are kept.
    """
    from ..compile_ahead import compile_ahead
    from ..engine.compile import cache_folder

    began = time.perf_counter()
    for what in compile_ahead():
        say(f"kernels for {what} ...")
    say(f"kernels are ready in {cache_folder()} after {time.perf_counter() - began:.0f} s")


def weights_of(model: str, weights: str | None, pretrained: bool, layout: str) -> tuple[Any, tuple[str, ...]]:
    """(module or bare tensors, names left out): the head of a model takes no part.

    What a file of weights holds beside kernels is said on the error stream.
    """
    from ..bare_weights import kernels_by_name, left_out
    from ..models import head_name, load_model
    from ..parameters.outline import packaged_kernels
    from ..weight_file import is_weight_file, load_weight_file

    if is_weight_file(model):
        for option, given in (("--weights", weights is not None), ("--no-pretrained", not pretrained)):
            if given:
                raise FiltersubError(f"{model} is a file of weights itself; leave {option} away, or name a model")
        tensors = load_weight_file(model, layout=layout)
        if others := left_out(tensors):
            words = f"{len(others)} tensors are left out, no kernels by names and shapes: {', '.join(others[:5])}"
            say(f"filtersub: {words}", err=True)
        return kernels_by_name(tensors), ()
    if layout != "auto":
        raise FiltersubError(f"--layout is for a bare file of weights, and {model} is none")
    loaded = packaged_kernels(model) if pretrained and weights is None else None
    if loaded is None:
        loaded = load_model(model, weights=weights, pretrained=pretrained)
    head = head_name(loaded)
    return loaded, () if head is None else (head,)


def _recipe_of(file: Path) -> dict[str, Any]:
    from ..recipe_file import read_recipe  # which imports torch

    return read_recipe(file)


def _shown(table: pd.DataFrame, found: ModelDecomposition) -> pd.DataFrame:
    """What is printed of layer_table, with the error at each level of atoms, and notes where there are any."""
    shown = table[list(_SHOWN)].copy()
    for depth in range(1, 1 + max(len(layer.levels) for layer in found.layers.values())):
        errors = [layer.levels[depth - 1 :][:1] for layer in found.layers.values()]
        shown[f"error at D_{depth}"] = [level[0].weight_error if level else float("nan") for level in errors]
    notes = [layer.note for layer in found.layers.values()]
    return shown.assign(note=notes) if any(notes) else shown


def _chosen(choice: AtomChoice | None, folder: Path | None) -> str:
    """What --max-error chose, and where the errors of other m are, for the end of the last line."""
    if choice is None:
        return ""
    sizes = sorted({*choice.atoms.values()})
    found = f"m = {sizes[0]}" if len(sizes) == 1 else f"m from {sizes[0]} to {sizes[-1]}, layer by layer"
    where = "by --json" if folder is None else f"in {folder / 'curve.csv'}"
    return f"; the error is met by {found} (errors of all smaller m: {where})"


def _records(table: pd.DataFrame, found: ModelDecomposition) -> list[dict[str, Any]]:
    """layer_table with the levels of each layer, for JSON."""
    rows = json_rows(table)
    for row, layer in zip(rows, found.layers.values(), strict=True):
        row["note"], row["dictionary"], row["stopped"] = layer.note, layer.dictionary, layer.stopped
        row["levels"] = []
        for level in layer.levels:
            shapes = {"atoms": list(level.atoms.shape[:-1]), "coefficients": list(level.coefficients.shape)}
            errors = {"atoms_error": level.atoms_error, "weight_error": level.weight_error}
            row["levels"].append({**shapes, **errors})
    return rows
