"""The paper's numbers as printed, beside runs of the same task alone; tables of claims, costs, changes and sizes."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from filtersub import plots, studies, tables
from filtersub.ablation.planning import plan
from filtersub.ablation.spec import load_spec, presets
from filtersub.collect import tuning_table
from filtersub.data.catalogue import catalogue
from filtersub.decomposition import decompose_model
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.intervals import difference
from filtersub.models import load_model
from filtersub.paper import (
    READINGS,
    choose,
    count_settings,
    differing_settings,
    figure4_claims,
    find_run,
    method_settings,
    printed_accuracy,
    printed_means,
    printed_method,
    tune_settings,
)
from filtersub.parameters import architecture
from filtersub.percentages import percentage
from filtersub.records import Record, read_record
from filtersub.report import write_report

VALIDATION = tune_settings(choose("text", "figure4/setting-1"), {})
ATOMS = {"method": "filter-subspace", "atoms": 9}
TRAINED = {"linear": 0, "full": 900, "lora-loralib": 90, "filter-subspace": 10}


def record(settings, accuracy, trainable=None, **cost):
    """A finished run that reached this accuracy."""
    trained = TRAINED[settings.method] if trainable is None else trainable
    return Record(
        kind="tuning",
        label=settings.label,
        parameters=settings.parameters,
        seed=settings.seed,
        metrics={"test_accuracy": accuracy},
        counts={"trainable": trained, "head": 100, "total": 1000},
        cost={"wall_seconds": 1.0, **cost},
        environment={"date": "2026-01-31T12:00:00+00:00"},
    )


def run(name, reading="text", **given):
    """Settings of a run of the paper."""
    return tune_settings(choose(reading, name), given)


def counted(settings):
    """What the settings train, head apart."""
    return count_settings(architecture(settings.model, None), settings.parameters).trainable


def named(*records):
    return {Path(f"run{number}"): each for number, each in enumerate(records)}


def seeded(settings, accuracies, **options):
    return [record(replace(settings, seed=seed), each, **options) for seed, each in enumerate(accuracies)]


# --- what is printed


def test_table_1_adds_up_to_the_means_it_prints():
    table = printed_accuracy("table1")
    assert table.groupby("method").size().tolist() == [19] * 4
    for method, group in table.groupby("method"):
        # full tuning prints 72.14 where its cells give 72.142, the atoms 73.59 where they give 73.595
        assert group["printed"].mean() == pytest.approx(printed_means()[method], abs=6e-5)


def test_every_printed_data_set_is_one_of_the_catalogue():
    for name in ("table1", "table2"):
        assert set(printed_accuracy(name)["data"]) <= set(catalogue())
    assert set(printed_accuracy("table1")["data"]) == {name for name in catalogue() if name.startswith("vtab:")}


def test_table_2_has_a_count_for_each_data_set():
    counts = printed_accuracy("table2").set_index(["method", "data"])["printed_millions"]
    assert counts["filter-subspace", "imagenet1k"] - counts["filter-subspace", "cifar100"] == pytest.approx(0.9)
    assert counts["full", "cifar100"] == 87.7


def test_claims_name_settings_that_exist():
    for claim in figure4_claims():
        for side, reading in product(filter(None, (claim.of, claim.less)), READINGS):
            part, name = find_run(side.run)
            assert method_settings(part, name, reading, **side.sizes)["method"] in TRAINED
        assert claim.measure in ("test_accuracy", "trained")


def test_unknown_parts_of_the_paper_are_errors():
    with pytest.raises(FiltersubError, match=r"unknown table 'table4'; did you mean 'table\d'\? Known: table1, table2"):
        printed_accuracy("table4")
    with pytest.raises(FiltersubError, match="unknown part of the paper 'figure5'"):
        differing_settings(VALIDATION.parameters, "figure5")


# --- the same task, or not


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "efficientnet_lite0"}, "model efficientnet_lite0 (resnet50.tv_in1k)"),
        ({"data": "digits"}, "data digits (cifar100)"),
        ({"epochs": 49}, "epochs 49 (50)"),
        ({"image_size": 32}, "image_size 32 (224)"),
        ({"learning_rate": 0.01}, "learning_rate 0.01 (0.001)"),
        ({"optimizer": "adamw"}, "optimizer adamw (adam)"),
        ({"n_train": 1000}, "n_train 1000 (None)"),
        ({"pretrained": False}, "pretrained False (True)"),
        ({"weights": "mine.safetensors"}, "weights mine.safetensors (None)"),
        ({"validation": True}, "validation True (False)"),
        ({"train_coefficients": True}, "train_coefficients True (False)"),
    ],
)
def test_whatever_changes_the_task_takes_the_printed_numbers_away(change, told):
    assert not differing_settings(VALIDATION.parameters, "figure4")
    assert differing_settings(replace(VALIDATION, **change).parameters, "figure4") == [told]


def test_what_is_compared_and_what_changes_no_result_leaves_the_task_as_it_is():
    for name, given in (("full", {}), ("setting-2", {"atoms": 6, "expansion": 3}), ("setting-3", {"seed": 3})):
        for reading in READINGS:
            assert not differing_settings(run(f"figure4/{name}", reading, **given).parameters, "figure4")
    assert not differing_settings(replace(VALIDATION, workers=8, accumulation=4, solver="omp").parameters, "figure4")


def test_rates_that_the_paper_does_not_print_are_free():
    settings = run("table2/full", data="cifar100", learning_rate=0.1)
    assert not differing_settings(settings.parameters, "table2")
    assert differing_settings(replace(settings, data="digits").parameters, "table2") == ["data digits (not in Table 2)"]


def test_rows_of_the_tables_are_those_of_setting_3():
    block = TuneSettings(**ATOMS, block=4, solver="pca")
    assert printed_method(block.parameters) == "filter-subspace"
    for other in ({"block": None}, {"expansion": 4}, {"train_coefficients": True}, {"method": "ssf"}):
        assert printed_method(replace(block, **other).parameters) is None
    assert printed_method(replace(block, method="lora-loralib").parameters) == "lora"


@pytest.mark.parametrize("reading", READINGS)
def test_the_attribution_preset_trains_as_the_paper_does_but_for_the_birds(reading, tmp_path):
    (planned,) = plan(load_spec("attribution-paper", reading), tmp_path)
    trained = [TuneSettings(**{"data": planned.parameters["data"], **own}) for own in planned.parameters["methods"]]
    assert [settings.workers for settings in trained] == [8, 8, 8]
    for settings, name in zip(trained, ("lora", "setting-1", "setting-2"), strict=True):
        assert differing_settings(settings.parameters, "figure4") == ["data folder:CUB_200_2011/images (cifar100)"]
        assert replace(settings, data="cifar100", workers=0) == replace(run(f"figure4/{name}", reading), workers=0)


@pytest.mark.parametrize("reading", READINGS)
def test_the_preset_of_shared_dictionaries_tunes_as_the_paper_does(reading, tmp_path):
    (planned,) = plan(load_spec("shared-dictionary-paper", reading), tmp_path)
    (own,) = planned.parameters["settings"]
    assert replace(TuneSettings(**own), atoms=9) == run("figure4/setting-1", reading)


def test_every_figure_table_and_question_has_a_small_and_a_large_preset():
    asked = ("figure4", "attribution", "table1", "table2")
    asked += ("costs", "lambda", "frozen-alpha", "shared-dictionary", "training-size")
    assert {*asked, *(f"{name}-paper" for name in asked)} <= set(presets())
    assert {"generation", "table3-paper"} <= set(presets())


@pytest.mark.parametrize(
    ("preset", "reading"), [("figure4", None), ("figure4-paper", "text"), ("figure4-paper", "authors")]
)
def test_the_grid_of_figure_4_is_whole(preset, reading, tmp_path):
    runs = [one.parameters for one in plan(load_spec(preset, reading), tmp_path) if "method" in one.parameters]
    assert {one["method"] for one in runs} == {"filter-subspace", "linear", "lora-loralib", "full"}
    atoms = [one for one in runs if one["method"] == "filter-subspace"]
    whole = {False: [one for one in atoms if one.get("limit_atoms", True)]}  # the text's
    whole[True] = [one for one in atoms if not one.get("limit_atoms", True)]
    for authors in {"text": (False,), "authors": (True,)}.get(reading, (False, True)):
        plain = {(one["atoms"], one.get("expansion")) for one in whole[authors] if one.get("block") in (None, 1)}
        assert plain == {(m, m_1) for m in (6, 9, 12) for m_1 in (None, 3, 4, 5, 6)}
        blocked = {(one["block"], one.get("expansion")) for one in whole[authors] if one.get("block") not in (None, 1)}
        assert blocked == {(2, None), (4, None), (4, 4)}
        for one in whole[authors]:
            if one.get("expansion"):
                assert one.get("expansion_coefficients", "shared") == ("per-channel" if authors else "shared")


def test_the_embedded_figure_4_has_every_claim_by_both_readings(tmp_path):
    """Each run of the preset as a record of its own: no claim of either reading lacks a setting or fits several."""
    found = []
    for one in plan(load_spec("figure4"), tmp_path):
        if "method" in one.parameters:
            found.append(record(TuneSettings(**one.parameters), 0.5, 10))
    table = tables.claims_table(named(*found))
    assert set(table["reading"]) == set(READINGS)
    assert set(table["missing"]) == {""}


# --- Tables 1 and 2


def vtab(data, method, accuracy, **changes):
    settings = replace(run(f"table1/{method}", data=data), **changes)
    return record(settings, accuracy, counted(settings))


def test_printed_numbers_stand_beside_the_same_task_alone():
    found = named(
        vtab("vtab:dtd", "full", 0.7), vtab("vtab:dtd", "linear", 0.6, epochs=3), vtab("vtab:svhn", "full", 0.9)
    )
    rows = tables.paper_rows(found, "table1").set_index(["method", "data"])
    assert rows.loc[("full", "vtab:dtd"), "printed"] == 0.736
    assert rows.loc[("full", "vtab:svhn"), "printed"] == pytest.approx(0.896)
    assert math.isnan(rows.loc[("linear", "vtab:dtd"), "printed"])
    assert rows.loc[("linear", "vtab:dtd"), "differs"] == "epochs 3 (100)"


def test_cells_say_which_number_is_the_papers():
    found = named(*(vtab(data, "full", 0.5) for data in ("vtab:dtd", "vtab:svhn")))
    shown = tables.beside_paper(tables.paper_rows(found, "table1")).loc["full tuning"]
    assert shown["Describable Textures"] == "50.0\N{NO-BREAK SPACE}% (paper 73.6\N{NO-BREAK SPACE}%)"
    assert shown["mean of 2"] == "50.0\N{NO-BREAK SPACE}% (paper 81.6\N{NO-BREAK SPACE}%)"
    assert shown["trained"] == "87,566,564 (paper 87.67 M)"


def test_means_are_over_data_sets_that_every_method_has():
    found = named(
        vtab("vtab:dtd", "full", 0.5), vtab("vtab:svhn", "full", 0.9), vtab("vtab:dtd", "linear", 0.4, image_size=64)
    )
    rows = tables.paper_rows(found, "table1")
    shown = tables.beside_paper(rows)
    assert shown["mean of 1"].str.contains("50.0|40.0").all()
    assert "full tuning 50.0" in tables.paper_sentence(rows)


def test_the_embedded_task_gets_no_printed_number():
    found = named(record(TuneSettings(method="full"), 0.9), record(TuneSettings(**ATOMS, block=4), 0.8))
    for table in ("table1", "table2"):
        rows = tables.paper_rows(found, table)
        assert rows["printed"].isna().all()
        assert "paper" not in tables.beside_paper(rows).to_string()
        assert "No printed number stands beside these" in tables.paper_sentence(rows)


def test_no_runs_make_an_empty_table():
    assert tables.beside_paper(tables.paper_rows({}, "table1")).empty
    assert "No tuning run" in tables.paper_sentence(tables.paper_rows({}, "table1"))


# --- Figure 4


def claims_of(settings):
    """Settings 1 and 2 beside linear probing, the settings' own rules kept."""
    one, two = replace(settings, **ATOMS), replace(settings, **ATOMS, expansion=4)
    linear = replace(settings, method="linear", layers=None)
    runs = [*seeded(linear, [0.5, 0.54])]
    for each, accuracies in ((one, [0.6, 0.62]), (two, [0.7, 0.72])):
        runs += seeded(each, accuracies, trainable=counted(each))
    return tables.claims_table(named(*runs)).set_index("claim")


def test_claims_are_computed_and_the_papers_numbers_stand_beside_its_own_task():
    claims = claims_of(VALIDATION)
    expected = difference([0.6, 0.62], [0.5, 0.54])
    gain = claims.loc["setting 1 over linear probing"]
    assert gain["computed"] == pytest.approx(0.09)
    assert (gain["low"], gain["high"]) == pytest.approx((expected.low, expected.high))
    assert (gain["value"], gain["printed"]) == (0.2, "almost 20 %")
    assert claims.loc["setting 1 over linear probing, trained", "computed"] == pytest.approx(1_053 / 100)
    assert claims.loc["setting 2 reaches", "value"] == 0.788
    assert "no setting of method lora-loralib, rank 16" in claims.loc["setting 2 over LoRA", "missing"]


def test_claims_of_another_task_are_computed_alone():
    claims = claims_of(TuneSettings())
    assert claims.loc["setting 1 over linear probing", "computed"] == pytest.approx(0.09)
    assert claims["value"].isna().all()
    assert (claims["printed"] == "").all()
    assert "numbers do not stand beside" in tables.claims_sentence(claims.reset_index())


def test_claims_of_one_reading_are_never_made_of_the_other_s_settings():
    """Shared and per-channel alpha_1, plain and blocked spatial kernels: rows of their own for each reading."""
    accuracies = {("text", "setting-1"): 0.6, ("text", "setting-2"): 0.61, ("text", "setting-3"): 0.7}
    accuracies |= {("authors", "setting-1"): 0.5, ("authors", "setting-2"): 0.65, ("authors", "setting-3"): 0.8}
    runs = []
    for (reading, name), accuracy in accuracies.items():
        settings = run(f"figure4/{name}", reading)
        runs.append(record(settings, accuracy, counted(settings)))
    plain = replace(run("figure4/setting-3"), block_spatial=False)  # neither reading's
    runs.append(record(plain, 0.9, counted(plain)))
    table = tables.claims_table(named(*runs)).set_index(["reading", "claim"])
    gain = table["computed"].xs("setting 2 over setting 1", level="claim")
    assert gain.to_dict() == pytest.approx({"text": 0.01, "authors": 0.15})
    assert table.loc[("authors", "setting 2 over setting 1"), "value"] == 0.125
    assert "no setting of" in table.loc[("text", "setting 3, k_c = 4, over k_c = 2"), "missing"]
    assert "by the reading 'authors' setting 2 over setting 1 +15.0" in tables.claims_sentence(table.reset_index())


def test_a_claim_that_several_settings_fit_is_left_open():
    twice = [record(replace(VALIDATION, **ATOMS, image_size=size), 0.5) for size in (64, 224)]
    claims = tables.claims_table(named(*twice)).set_index("claim")
    assert claims.loc["setting 1 reaches", "missing"].startswith("several settings of method filter-subspace")


# --- the readers' questions


def test_costs_know_their_own_fronts():
    runs = tuning_table(
        named(
            record(TuneSettings(method="full"), 0.9, seconds_per_step=3.0, added_memory_bytes=30),
            record(TuneSettings(**ATOMS), 0.8, seconds_per_step=4.0, added_memory_bytes=20),
            record(TuneSettings(method="linear"), 0.5, seconds_per_step=1.0, added_memory_bytes=10),
        )
    )
    costs = tables.cost_table(runs).set_index("label")
    assert costs.index[~costs["front_seconds_per_step"]].tolist() == ["atoms m=9"]
    assert costs["front_added_memory_bytes"].all()
    assert costs.loc["atoms m=9", "on_fronts"] == costs["on_fronts"].min()
    assert "1.33 times its seconds a step" in tables.cost_sentence(costs.reset_index())
    measures = {name: tables.COSTS[name] for name in tables.measured_costs(costs.reset_index())}
    figure = plots.accuracy_vs_costs(costs.reset_index(), measures)
    shown = [ax.get_xlabel() for ax in figure.axes if ax.get_visible()]
    first, *others = measures.values()  # 100, 110 and 1,000 parameters differ more than eightfold
    assert shown == [f"{first} (log scale)", *others]


def test_changes_pair_what_differs_in_one_setting_alone():
    one, two = TuneSettings(**ATOMS), TuneSettings(**ATOMS, block=4, solver="pca")
    runs = [*seeded(one, [0.6, 0.61]), *seeded(replace(one, train_coefficients=True), [0.7, 0.72], trainable=400)]
    runs += [*seeded(two, [0.8, 0.82]), *seeded(TuneSettings(method="full"), [0.9, 0.91])]
    pairs = tables.changes(named(*runs), "train_coefficients", False, True)
    assert pairs["label"].tolist() == ["atoms m=9"]
    (row,) = pairs.to_dict("records")
    assert (row["old"], row["new"]) == pytest.approx((0.605, 0.71))
    assert row["times_trained"] == pytest.approx(500 / 110)
    assert row["p_value"] == pytest.approx(difference([0.7, 0.72], [0.6, 0.61]).p_value)
    assert "+10.5 points" in tables.change_sentence(pairs, "tuning alpha too")
    assert "No two settings" in tables.change_sentence(tables.changes({}, "block", None, 4), "blocks")


def test_sizes_put_epochs_together_and_know_the_whole_set():
    few = TuneSettings(method="full", n_train=100, epochs=20)
    runs = [*seeded(few, [0.5, 0.54]), *seeded(TuneSettings(method="full"), [0.9, 0.92])]
    sizes = tables.size_table(named(*runs))
    assert sizes[["images", "seeds", "epochs"]].to_numpy().tolist() == [[100, 2, "20"], [1000, 2, "8"]]
    assert sizes["test_accuracy"].tolist() == pytest.approx([0.52, 0.91])
    assert "1,000 images: full tuning 91.0" in tables.size_sentence(sizes)
    (ax,) = plots.accuracy_vs_images(sizes).axes
    assert ax.lines[0].get_xydata().tolist() == [[100, pytest.approx(0.52)], [1000, pytest.approx(0.91)]]


def test_each_line_over_sizes_is_named_at_its_end():
    """Labels that are no family's name too."""
    settings = [TuneSettings(method=name) for name in ("full", "linear")] + [TuneSettings(atoms=m) for m in (6, 9)]
    runs = [run for each in settings for run in seeded(each, [0.5, 0.54])]
    sizes = tables.size_table(named(*runs))
    assert set(sizes["label"]) - set(sizes["family"])
    (ax,) = plots.accuracy_vs_images(sizes).axes
    assert [text.get_text() for text in ax.texts] == sizes["label"].tolist()


def test_runs_whose_number_of_images_is_not_known_are_left_out():
    assert tables.size_table(named(record(TuneSettings(data="folder:here"), 0.5))).empty


# --- one dictionary for all


@pytest.fixture(scope="module")
def sharing(tmp_path_factory):
    out = tmp_path_factory.mktemp("sharing")
    tuning = TuneSettings(atoms=3, epochs=1, image_size=32, n_train=100, solver="pca", layers=r"blocks\.[012]")
    studies.sharing_study(out, tuning, atoms_grid=[3, 9], seeds=[0])
    return studies.study_tables(out)


def test_shared_dictionaries_lose_what_own_ones_keep(sharing):
    means = sharing["totals"].pivot_table(index="m", columns="sharing", values=["relative_error", "dictionaries"])
    assert means.loc[3, ("relative_error", "shared")] > means.loc[3, ("relative_error", "own")]
    assert (means["dictionaries", "shared"] < means["dictionaries", "own"]).all()
    layers = sharing["layers"][sharing["layers"]["m"] == 3]
    assert (layers["relative_error_shared"] >= layers["relative_error_own"] - 1e-6).all()  # PCA is the best subspace


def test_tuning_on_shared_codes_trains_as_much(sharing):
    accuracy = sharing["accuracy"].set_index("sharing")
    assert accuracy.loc["own", "trainable"] == accuracy.loc["shared", "trainable"] > 0
    assert accuracy["test_accuracy"].between(0, 1).all()
    assert "instead of" in studies.sharing_sentence(sharing["totals"], sharing["accuracy"])


def test_the_codes_that_are_used_are_those_of_the_shared_dictionary():
    from filtersub.methods import inject
    from filtersub.studies.sharing import _use_codes_
    from filtersub.tuning import FilterSubspaceLayer

    settings = TuneSettings(atoms=3, solver="pca", layers=r"blocks\.1")
    model = load_model("efficientnet_lite0")
    shared = decompose_model(model, settings.recipe, layers=settings.layers, shared=True)
    wrapped = inject(model, "filter-subspace", "classifier", recipe=settings.recipe, layers=settings.layers).model
    layers = [layer for layer in wrapped.modules() if isinstance(layer, FilterSubspaceLayer)]
    own = {layer.name: layer.coefficients("default").clone() for layer in layers}
    _use_codes_(wrapped, shared)
    for layer in layers:
        found = layer.coefficients("default")
        assert found.flatten().tolist() == shared.layers[layer.name].coefficients.flatten().tolist()
        assert not found.allclose(own[layer.name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tuning": TuneSettings(method="full")}, "set method to filter-subspace"),
        ({"seeds": []}, "seeds is empty"),
        ({"atoms_grid": []}, "atoms_grid is empty"),
    ],
)
def test_bad_studies_of_sharing_are_named(change, message, tmp_path):
    options = {"tuning": TuneSettings(), **change}
    with pytest.raises(FiltersubError, match=message):
        studies.sharing_study(tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_the_figure_of_sharing_has_a_line_a_kind():
    rows = [{"m": m, "seed": 0, "sharing": kind, "relative_error": 1 / m} for m in (3, 9) for kind in ("own", "shared")]
    (ax,) = plots.sharing_errors(pd.DataFrame(rows)).axes
    assert [line.get_xdata().tolist() for line in ax.lines] == [[3, 9], [3, 9]]


def test_the_report_shows_a_study_of_sharing(sharing, tmp_path):
    totals, accuracy = sharing["totals"], sharing["accuracy"]
    record_of = Record("sharing", "one for all", {"atoms": 3}, 0, {}, {}, {}, {"date": "2026-01-31T12:00:00+00:00"})
    record_of.write(tmp_path / "run", totals=totals, accuracy=accuracy)
    page = write_report(tmp_path).read_text()
    assert "One dictionary for many layers" in page
    for error in totals["relative_error"]:
        assert percentage(error) in page


def test_shared_codes_are_tuned_by_every_setting_and_go_on_where_they_stopped(tmp_path):
    tuning = TuneSettings(
        **{"atoms": 3, "epochs": 1, "image_size": 32, "n_train": 40, "solver": "pca", "layers": r"blocks\.1"},
        **{"augmentation": "crop-flip", "head_dropout": 0.5},
    )
    studies.sharing_study(tmp_path, tuning, atoms_grid=[3], seeds=[0])
    runs = {kind: read_record(tmp_path / "tuned" / f"{kind}-seed0") for kind in ("own", "shared")}
    assert all(run.parameters["head_dropout"] == 0.5 for run in runs.values())
    assert (tmp_path / "tuned" / "own-seed0" / "adapter").is_dir()
    assert not (tmp_path / "tuned" / "shared-seed0" / "adapter").exists()  # it would load onto other codes
    found = studies.study_tables(tmp_path)["accuracy"].set_index("sharing")["test_accuracy"]
    assert {kind: run.metrics["test_accuracy"] for kind, run in runs.items()} == found.to_dict()
    dates = {kind: run.environment["date"] for kind, run in runs.items()}
    studies.sharing_study(tmp_path, tuning, atoms_grid=[3], seeds=[0])
    again = {kind: read_record(tmp_path / "tuned" / f"{kind}-seed0").environment["date"] for kind in runs}
    assert again == dates
