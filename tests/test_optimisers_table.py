"""Accuracy against steps: which runs count how many steps, and what the answer says of them."""

import pytest
from matplotlib.figure import Figure

from filtersub import plots
from filtersub.ablation import run_ablation
from filtersub.ablation.spec import load_spec, parse_spec
from filtersub.experiment import TuneSettings
from filtersub.records import Record
from filtersub.tables import optimiser_sentence, optimiser_table, steps_to_accuracy

ACCURACIES = {  # by block, optimizer and epochs, of two seeds
    (None, "adamw", 4): (0.70, 0.72),
    (None, "adamw", 8): (0.80, 0.82),
    (None, "soap", 4): (0.81, 0.83),
    (None, "soap", 8): (0.90, 0.92),
    (4, "adamw", 8): (0.95, 0.97),
    (4, "soap", 8): (0.94, 0.96),
}

SETTINGS = ("atoms m=9", "atoms m=9 over m₁=4", "atoms m=9, 4×4 blocks, pca codes")


def record(block, optimizer, epochs, seed, accuracy, **changes):
    solver = "lasso" if block is None else "pca"
    settings = TuneSettings(
        epochs=epochs, optimizer=optimizer, block=block, solver=solver, seed=seed, **{"n_train": 420, **changes}
    )
    seconds = {"adamw": 0.2, "soap": 0.21}[optimizer]
    counts = {"trainable": 1000 if block is None else 9000, "head": 10, "total": 10_000}
    cost, metrics = {"seconds_per_step": seconds, "wall_seconds": 1.0}, {"test_accuracy": accuracy}
    return Record("tuning", settings.label, settings.parameters, seed, metrics, counts, cost, {})


@pytest.fixture
def records(tmp_path):
    made = {}
    for (block, optimizer, epochs), values in ACCURACIES.items():
        for seed, accuracy in enumerate(values):
            folder = tmp_path / f"{block}-{optimizer}-{epochs}-{seed}"
            folder.mkdir()
            made[folder] = record(block, optimizer, epochs, seed, accuracy).write(folder)
    return made


def test_steps_are_those_of_whole_runs(records):
    table = optimiser_table(records)
    assert len(table) == len(ACCURACIES)
    spatial = table[table["setting"] == "atoms m=9"].set_index(["optimizer", "epochs"])
    assert spatial.loc[("soap", 8), "steps"] == 8 * (420 // 50)  # the smaller ninth batch is dropped
    assert spatial.loc[("soap", 8), "seconds"] == pytest.approx(64 * 0.21)
    assert spatial.loc[("adamw", 4), "test_accuracy"] == pytest.approx(0.71)
    assert spatial.loc[("adamw", 4), "low"] < 0.70 < 0.72 < spatial.loc[("adamw", 4), "high"]
    assert set(table["label"]) == {
        "atoms m=9",
        "atoms m=9, SOAP",
        "atoms m=9, 4×4 blocks, pca codes",
        "atoms m=9, 4×4 blocks, pca codes, SOAP",
    }


@pytest.mark.parametrize(
    ("images", "steps"), [(1000, 20), (99, 2), (100, 2), (30, 1), (None, 20)], ids=["even", "few", "two", "one", "all"]
)
def test_steps_of_an_epoch_are_those_of_the_loop(images, steps, tmp_path):
    made = {tmp_path: record(None, "adamw", 1, 0, 0.5, n_train=images)}
    assert optimiser_table(made)["steps"].tolist() == [steps]


def test_the_answer_names_what_was_gained_and_what_was_not(records):
    needed = steps_to_accuracy(optimiser_table(records)).set_index("setting")
    assert needed.loc["atoms m=9", "of_steps"] == 0.5
    assert needed.loc["atoms m=9", "step_cost"] == pytest.approx(1.05)
    assert needed["steps"].isna().tolist() == [row != "atoms m=9" for row in needed.index]
    text = optimiser_sentence(optimiser_table(records))
    assert "atoms m=9 (digits): SOAP reaches AdamW's 81.0\N{NO-BREAK SPACE}% after 64 steps in 32, 0.50 of them" in text
    assert "in none of its runs" in text
    assert "Means over 2 seeds or more." in text


def test_without_runs_to_compare_it_says_so(records):
    assert "No setting has runs" in optimiser_sentence(optimiser_table({}))
    alone = {folder: each for folder, each in records.items() if each.parameters["optimizer"] == "adamw"}
    assert "No setting has runs" in optimiser_sentence(optimiser_table(alone))


def test_the_figure_draws_every_run(records):
    table = optimiser_table(records)
    figure = plots.accuracy_vs_steps(table)
    assert isinstance(figure, Figure)
    for ax, name in zip(figure.axes, ("steps", "seconds"), strict=True):
        drawn = sorted(x for line in ax.lines for x in line.get_xdata())
        assert drawn == pytest.approx(sorted(table[name]))


def test_the_preset_compares_like_with_like():
    stage, other, _ = load_spec("optimisers").stages
    assert all(own in stage.runs for own in other.runs)
    settings = [TuneSettings(**{**stage.parameters, **own}) for own in stage.runs]
    both = [{each.optimizer for each in settings if each.label.removesuffix(", SOAP") == name} for name in SETTINGS]
    assert both == [{"adamw", "soap"}] * 3
    assert {each.epochs for each in settings} == {4, 6, 8}
    assert len({(each.label, each.epochs) for each in settings}) == len(settings) == 12
    assert {(each.optimizer, each.epochs) for each in settings} == {
        ("adamw", 8),
        ("adamw", 4),
        ("soap", 6),
        ("soap", 4),
    }


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_the_notebook_answers_and_says_when_nothing_is_there(records, tmp_path):
    stages = [{"notebook": "22_optimisers", "reads_records": True}]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    assert run_ablation(spec, tmp_path).exit_code == 0, [path.read_text() for path in tmp_path.rglob("error.txt")]
    page = next(tmp_path.rglob("notebook.html")).read_text()
    assert "SOAP reaches AdamW" in page
    assert "<figure" in page
