"""``filtersub tune``: options in, one call, one line out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import FiltersubError
from ..percentages import percentage
from ..printable import counted
from ..setting_fields import TuneFields
from .console import print_json, say
from .options import AsJson, LogWith, PaperRun, Reading, read_settings, stated, with_settings


@with_settings(TuneFields)
def tune(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder of the run: record, curves, trained weights.")],
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="As for decompose; a recipe names one of its own.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Training recipe by name or YAML file; other options given override its values.")
    ] = None,
    decomposition: Annotated[
        Path | None,
        typer.Option(help="What `decompose --out` or `suggest --out` wrote: its settings; options given here win."),
    ] = None,
    paper: PaperRun = None,
    reading: Reading = None,
    log_with: LogWith = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="The same as --log-with tensorboard.")] = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Tune a model on a data set and write the run's record. A rerun resumes, or returns what is done.

    On several devices: accelerate launch -m filtersub tune ...
    """
    from ..experiment import TuneSettings
    from ..methods.options import check_meant
    from ..progress import waiting
    from ..recipes import load_recipe

    values = {"model": model, **options}
    given = read_settings({name: value for name, value in values.items() if name in stated(context)})
    if decomposition is not None:
        from ..recipe_file import read_for_tuning

        given = {**read_for_tuning(decomposition), **given}
    if paper is not None or reading is not None:
        from ..paper import choose, tune_settings

        named = {name: given.get(name) for name in ("model", "data")}  # may be others than the paper's
        chosen = choose(reading, paper, recipe=recipe, given=given, **named)
        settings = tune_settings(chosen, given, recipe)
    elif recipe is not None:
        settings = load_recipe(recipe).settings_with(**given)
    elif model is None:
        raise FiltersubError("name a MODEL, such as efficientnet_lite0, or a --recipe")
    else:
        settings = TuneSettings(**given)
    check_meant(settings.method, given)
    with waiting("loading"):  # after all checks: these imports take seconds
        from ..experiment import tune as run
        from ..records import RUN_NOTES
        from ..training.accelerator import processes
    if tensorboard:
        log_with = ",".join(filter(None, (log_with, "tensorboard")))
    record = run(settings, out, quiet=as_json, log_with=log_with)
    if not processes().is_main_process:
        return
    if as_json:
        found = {"label": record.label, "metrics": record.metrics, "counts": record.counts, "cost": record.cost}
        print_json({**found, "choices": record.choices, "notes": record.notes})
        return
    accuracy = next(value for key, value in record.metrics.items() if key in ("test_accuracy", "validation_accuracy"))
    if record.choices:
        say(f"learning rate {record.choices['learning_rate']['chosen']:g}, by the validation images")
    if record.layers_passed_over:
        name, reason = next(iter(record.layers_passed_over.items()))
        say(f"{counted(len(record.layers_passed_over), 'layer')} could not take part, {name} for one: {reason}")
    for note in RUN_NOTES:
        if note in record.notes:
            say(record.notes[note])
    say(
        f"{record.label}: accuracy {percentage(accuracy)}, {record.counts['trainable']:,} trained parameters "
        f"+ {record.counts['head']:,} in the head; record in {out}"
    )
