"""Studies write what they found, words and pages repeat it, and a tuned model is read back as it was judged."""

import re

import pandas as pd
import pytest
from torch.utils.data import DataLoader

from filtersub import diagnostics, studies
from filtersub.collect import collect
from filtersub.decomposition import DecompositionConfig, ModelDecomposition, decompose_model
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings, decompose_run, tune
from filtersub.experiment.tuned import load_tuned
from filtersub.models import load_model
from filtersub.percentages import percentage
from filtersub.printable import one_line
from filtersub.records import Record, read_record
from filtersub.report import write_report
from filtersub.studies.parameters import parameter_study

LAYERS = r"blocks\.[01]\.0"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All three studies, tiny, side by side; a tuning run lies below the one of the penalty."""
    root = tmp_path_factory.mktemp("studies")
    recipe = DecompositionConfig(atoms=4, max_rounds=5)
    options = {"layers": LAYERS, "n_images": 3, "image_size": 32, "tensor_formats": True, "seeds": [0, 1]}
    options["max_error"] = 0.5
    studies.model_study(root / "model", config=recipe, atoms_grid=[2, 4], **options)
    random = {"pretrained": False, "n_images": 3, "tensor_formats": False, "layers": LAYERS, "atoms_grid": [4]}
    random["max_error"] = 1e-9
    studies.model_study(root / "random", config=recipe, **random)
    tuned(0.1, 0, 0.8).write(root / "penalty" / "tuned" / "one")
    studies.penalty_study(root / "penalty", config=recipe, penalties=[1e-3, 0.5], seeds=[0, 1], layers=LAYERS)
    few = {"n_rows": 150, "repeats": 1, "seeds": [0], "n_atoms": 6, "solvers": ["lasso", "fista", "pca"]}
    studies.solver_study(root / "solvers", **few)
    return root


def tuned(l1_penalty, seed, accuracy, **changes):
    parameters = {"method": "filter-subspace", "solver": "lasso", "l1_penalty": l1_penalty, "block": None}
    return Record(
        kind="tuning",
        label="atoms m=9",
        parameters={**parameters, **changes},
        seed=seed,
        metrics={"test_accuracy": accuracy},
        counts={"trainable": 10, "head": 5, "total": 100},
        cost={"wall_seconds": 1.0},
        environment={"date": "2026-01-31T12:00:00+00:00"},
    )


def test_a_model_study_holds_every_table_of_its_decomposition(root):
    record, tables = read_record(root / "model"), studies.study_tables(root / "model")
    found = ModelDecomposition.load(root / "model" / "atoms.safetensors")
    assert record.metrics["relative_error"] == pytest.approx(found.relative_error)
    assert tables["layers"]["name"].tolist() == list(found.layers)
    assert {"costs", "kernel_quantiles", "supports", "atoms", "coherence", "spectrum", "subspace"} <= set(tables)
    assert len(tables["photographs"]) == 3
    assert len(tables["predictions"]) == record.parameters["n_images"] == 3
    assert tables["network"][["m", "seed"]].to_numpy().tolist() == [[2, 0], [4, 0], [2, 1], [4, 1]]
    errors = tables["network"].set_index(["m", "seed"])["relative_error"]
    assert errors[4, 0] == pytest.approx(record.metrics["relative_error"])
    assert errors[2, 0] > errors[4, 0]
    assert set(tables["curve"]["m"]) == {2, 4}


def test_random_weights_are_said_and_predict_nothing(root):
    record, tables = read_record(root / "random"), studies.study_tables(root / "random")
    assert "random weights" in record.label
    assert "agreement" not in record.metrics
    assert not {"predictions", "outputs", "photographs", "storage"} & set(tables)
    error = record.metrics["relative_error"]
    sentence = studies.model_sentence(tables["layers"], tables["costs"], tables["network"], error)
    assert "Predictions were not compared" in sentence


def test_the_smallest_m_is_read_off_the_choice_and_what_cannot_be_met_is_noted(root):
    choice = studies.study_tables(root / "model")["choice"]
    met = choice[choice["meets"]].groupby("name")["m"].min()
    assert choice[choice["chosen"]].set_index("name")["m"].to_dict() == met.to_dict()
    assert set(met.index) == {*studies.study_tables(root / "model")["layers"]["name"], "(model)"}
    assert f"over the whole model at {met['(model)']}" in studies.choice_sentence(choice, 0.5)
    assert "choice" not in studies.study_tables(root / "random")
    assert "to a relative error of 1e-09" in read_record(root / "random").notes["max_error"]


def test_the_model_sentence_is_computed(root):
    tables = studies.study_tables(root / "model")
    sentence = studies.model_sentence(tables["layers"], tables["costs"], tables["network"], 0.1234)
    assert f"{len(tables['layers'])} layers with {tables['layers']['rows'].sum()} kernels" in sentence
    assert f"{tables['costs']['rounds'].sum()} rounds" in sentence
    assert "12.3\N{NO-BREAK SPACE}%" in sentence
    means = tables["network"].groupby("m")["agreement"].mean()
    assert f"{percentage(means[2])} of the images at m = 2 and on {percentage(means[4])} at m = 4" in sentence


def test_a_penalty_study_reads_the_tuning_runs_below_it(root):
    tables = studies.study_tables(root / "penalty")
    assert tables["accuracy"][["l1_penalty", "seed", "test_accuracy"]].to_numpy().tolist() == [[0.1, 0, 0.8]]
    assert len(tables["total"]) == 4
    assert set(tables["path"]["name"]) == set(read_layers(root))


def read_layers(root):
    return studies.study_tables(root / "model")["layers"]["name"]


def test_accuracies_are_of_penalised_atoms_alone(tmp_path):
    for number, changes in enumerate(({}, {"method": "linear"}, {"solver": "pca"})):
        tuned(0.1, number, 0.5, **changes).write(tmp_path / str(number))
    found = studies.accuracy_by_penalty([tmp_path, tmp_path / "0", tmp_path / "absent"])
    assert found["seed"].tolist() == [0]  # once, though two of the folders hold it


def test_one_penalty_is_no_range():
    total = pd.DataFrame({"l1_penalty": [0.1], "seed": 0, "density": [0.9], "relative_error": [0.1]})
    accuracy = pd.DataFrame({"l1_penalty": [0.1], "seed": 0, "test_accuracy": [0.9]})
    sentence = studies.penalty_sentence(total, accuracy)
    assert "At l = 0.1, the only one, 90.0\N{NO-BREAK SPACE}% of the coefficients are not zero" in sentence
    assert sentence.endswith("After tuning at l = 0.1, test accuracy is 90.0\N{NO-BREAK SPACE}% (one seed).")


def test_the_penalty_sentence_weighs_a_difference_against_the_seeds():
    total = pd.DataFrame({"l1_penalty": [0.1, 1.0], "seed": 0, "density": [0.9, 0.2], "relative_error": [0.1, 0.7]})
    rows = [(0.1, 0, 0.90), (0.1, 1, 0.92), (1.0, 0, 0.80), (1.0, 1, 0.82)]
    accuracy = pd.DataFrame(rows, columns=["l1_penalty", "seed", "test_accuracy"])
    sentence = studies.penalty_sentence(total, accuracy)
    assert "from 90.0\N{NO-BREAK SPACE}% to 20.0\N{NO-BREAK SPACE}%" in sentence
    assert (
        "l = 0.1: 91.0\N{NO-BREAK SPACE}%; l = 1: 81.0\N{NO-BREAK SPACE}% (2 seeds, at most 2.0 points apart at one l)"
        in sentence
    )
    assert "a difference of 10.0 points, more than seeds differ" in sentence
    close = accuracy.assign(test_accuracy=[0.90, 0.92, 0.90, 0.92])
    assert "no more than the seeds of one l differ" in studies.penalty_sentence(total, close)
    assert "not known" in studies.penalty_sentence(total, accuracy.iloc[:0])
    assert "difference" not in studies.penalty_sentence(total, accuracy.iloc[:1])


def test_the_solver_sentence_names_the_fastest_that_is_exact():
    rows = [
        ("a", "penalty", 0.0, 2.0),
        ("b", "penalty", 1e-12, 1.0),
        ("c", "penalty", 1e-3, 0.1),
        ("d", "linear", 0.0, 0.01),
    ]
    table = pd.DataFrame(rows, columns=["solver", "solves", "relative_gap", "seconds"])
    table = table.assign(seed=0, note="", kkt_over_penalty=1e-7, rows_per_second=100 / table["seconds"])
    sentence = studies.solver_sentence(table)
    assert "is b: 100 rows a second" in sentence
    assert "a takes 2 times as long" in sentence
    assert "c stops 0.001 above it" in sentence
    assert "d takes" not in sentence


def test_the_spread_is_unknown_for_one_seed():
    table = pd.DataFrame({"m": [3, 3], "seed": [0, 1], "error": [0.25, 0.5]})
    assert "at most 25.00 percentage points" in studies.spread_sentence(table, "m", "error", "it")
    assert "not known" in studies.spread_sentence(table.iloc[:1], "m", "error", "it")


def test_the_report_shows_the_studies_and_no_part_of_them(root):
    found = collect(root)
    assert {record.kind for record in found.records.values()} == {"decomposition", "penalty", "solvers"}
    page = write_report(root).read_text(encoding="utf-8")
    words = one_line(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script|svg).*?</\1>", " ", page, flags=re.S)))
    assert "random weights" in words
    for heading in ("What decomposing a whole model takes", "CP and Tucker", "What the penalty does", "Which solver"):
        assert heading in words
    record = read_record(root / "model")
    assert percentage(record.metrics["relative_error"]) in words
    assert percentage(record.metrics["agreement"], 0) in words
    assert "question stays open" not in words
    assert "Accuracy against trained parameters" not in words


def test_below_its_own_folder_a_record_counts(root):
    """The folder that is looked into may hold a record itself: then what lies below it is no part of another run."""
    kinds = [record.kind for record in collect(root / "penalty").records.values()]
    assert sorted(kinds) == ["penalty", "tuning"]


def test_a_study_without_its_table_says_which(root, tmp_path):
    record = read_record(root / "solvers")
    record.write(tmp_path)
    with pytest.raises(FiltersubError, match=r"solvers\.csv is not a readable table"):
        studies.study_tables(tmp_path)


@pytest.mark.slow
def test_a_tuned_model_is_read_back_as_it_was_judged(tmp_path):
    settings = TuneSettings(epochs=1, image_size=16, layers="conv_stem", batch_size=250, atoms=3, solver="pca")
    record = tune(settings, tmp_path, quiet=True)
    model, split, read = load_tuned(tmp_path)
    assert read == settings
    exact = decompose_model(model, DecompositionConfig(atoms=9, solver="pca"), layers="conv_stem")
    table = diagnostics.prediction_table(model, exact, DataLoader(split.judged, batch_size=200))
    summary = diagnostics.agreement(table).iloc[0]
    assert summary["accuracy"] == pytest.approx(record.metrics["test_accuracy"], abs=1e-6)
    assert summary["accuracy_rebuilt"] == pytest.approx(summary["accuracy"], abs=2 / len(table))


def test_another_kind_of_run_is_no_tuned_model(root):
    with pytest.raises(FiltersubError, match="holds a solvers run, not a tuning run"):
        load_tuned(root / "solvers")


NO_LISTS = (3, "3", None, True)  # what papermill's -p makes of `-p seeds 3`, and the like
NO_COUNTS = (-1, 1.5, "3", None, True)
NO_SWITCHES = ("false", 0, None)
COUNTS = (*NO_LISTS, [], [1.5], [-1], ["a"])
#: study -> what its arguments may not be; a notebook hands its parameters over as they are
ARGUMENTS = {
    "solver_study": {
        **{"pretrained": NO_SWITCHES, "block_spatial": NO_SWITCHES, "n_atoms": (*NO_COUNTS, 0)},
        **{"l1_penalty": (0, -1, "1e-3", None), "n_rows": (0, 1.5, "3"), "solvers": ("lasso", 3, [3])},
        **{"repeats": NO_COUNTS, "seeds": COUNTS},
    },
    "parameter_study": {
        **dict.fromkeys(("atoms", "expansions", "blocks", "ranks"), COUNTS),
        **{"models": (*NO_LISTS, []), "presets": (3, "vtab", []), "block_spatial": NO_SWITCHES},
    },
    "penalty_study": {
        **{"pretrained": NO_SWITCHES, "penalties": (*NO_LISTS, [], [-1], ["a"]), "seeds": COUNTS},
        **{"tuned_penalties": (*NO_LISTS, [-1], ["a"])},
    },
    "model_study": {
        **{"pretrained": NO_SWITCHES, "tensor_formats": NO_SWITCHES, "atoms_grid": COUNTS, "seeds": COUNTS},
        **{"n_images": NO_COUNTS, "image_size": (*NO_COUNTS, 0), "max_error": (0, 2, "0.1")},
    },
    "sharing_study": {"atoms_grid": COUNTS, "seeds": COUNTS, "tuned": NO_SWITCHES},
    "span_study": {"atoms_grid": COUNTS, "seeds": COUNTS, "settings": (3, "pca", None, [])},
    "allotment_study": {
        **{"budgets": (3000, "10k", None, [], ["many"]), "seeds": COUNTS, "top": (*NO_COUNTS, 0)},
        **{"expansions": (*NO_LISTS, [0], ["a"]), "learning_rate": (0, -1, "1e-3"), "n_images": (*NO_COUNTS, 0)},
    },
    "attribution_study": {
        **{"seeds": COUNTS, "n_images": (*NO_COUNTS, 1), "n_photographs": NO_COUNTS, "shown": NO_COUNTS},
        **{"thresholds": (0.5, "0.5", None, [], [1.5], ["a"])},
    },
}


@pytest.mark.parametrize(("study", "name"), [(study, name) for study, names in ARGUMENTS.items() for name in names])
def test_what_a_notebook_hands_over_is_looked_at_first(study, name, tmp_path):
    """Before anything is loaded or written; a text such as "false" would count as true."""
    runs = [TuneSettings(method="lora"), TuneSettings()]
    first = {"attribution_study": runs, "span_study": TuneSettings(method="full")}.get(study, TuneSettings())
    given = [] if study in ("solver_study", "parameter_study", "penalty_study", "model_study") else [first]
    call = parameter_study if study == "parameter_study" else getattr(studies, study)
    for value in ARGUMENTS[study][name]:
        with pytest.raises(FiltersubError, match=rf"^{name}|^the budget|^unknown solver|^each of {name}") as error:
            call(tmp_path / "out", *given, **{name: value})
        assert str(error.value).count("\n") == 0
        assert not (tmp_path / "out").exists()


def test_a_folder_of_runs_that_is_missing_is_named_before_anything_is_decomposed(tmp_path):
    with pytest.raises(FiltersubError, match="there is no folder"):
        studies.penalty_study(tmp_path / "out", tuned_runs=[tmp_path / "absent"])
    assert not (tmp_path / "out").exists()


def test_the_grid_of_a_decomposition_is_looked_at_before_it_begins(tmp_path):
    for value in COUNTS:
        with pytest.raises(FiltersubError, match=r"^atoms_grid"):
            decompose_run(tmp_path / "out", atoms_grid=value)
    assert not (tmp_path / "out").exists()


def test_a_model_is_pretrained_or_not():
    for value in NO_SWITCHES:
        with pytest.raises(FiltersubError, match=f"pretrained must be True or False, got {value!r}"):
            load_model("efficientnet_lite0", pretrained=value)
