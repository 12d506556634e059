"""Settings that train equally many parameters: groups, pairs, sentence, figure, notebook."""

from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from filtersub import plots, tables
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.records import Record

SOLVERS = {"lasso": (0.80, 0.81, 0.82), "pca": (0.79, 0.81, 0.83), "random": (0.60, 0.62, 0.61)}


def record(settings, accuracy, trainable):
    return Record(
        kind="tuning",
        label=settings.label,
        parameters=settings.parameters,
        seed=settings.seed,
        metrics={"test_accuracy": accuracy},
        counts={"trainable": trainable, "head": 100, "total": 1000},
        cost={"wall_seconds": 1.0},
        environment={"date": "2026-01-31T12:00:00+00:00"},
    )


def runs(count=270, data="digits", **changes):
    found = []
    for solver, accuracies in SOLVERS.items():
        settings = TuneSettings(solver=solver, data=data, **changes)
        found += [record(replace(settings, seed=n), accuracy, count) for n, accuracy in enumerate(accuracies)]
    return found


def named(*records):
    return {Path(f"run{number}"): each for number, each in enumerate(records)}


def test_settings_of_one_count_are_a_group_and_others_are_left_out():
    lonely = record(TuneSettings(atoms=3), 0.5, 90)
    head = record(TuneSettings(method="linear"), 0.4, 0)
    found = tables.equal_counts(named(*runs(), lonely, head))
    assert found["group"].tolist() == [1, 1, 1]
    assert found["test_accuracy"].tolist() == pytest.approx([0.81, 0.81, 0.61])
    assert found["method_label"].iloc[-1] == "atoms m=9, random codes"


@pytest.mark.parametrize(
    ("count", "within", "members"), [(275, 0.02, 4), (276, 0.02, 3), (276, 0.03, 4), (270, 0.0, 4)]
)
def test_counts_may_differ_by_a_share_of_the_smallest(count, within, members):
    near = record(TuneSettings(atoms=6, expansion=2), 0.7, count)
    found = tables.equal_counts(named(*runs(), near), within)
    assert len(found) == members


def test_groups_do_not_chain_and_tasks_do_not_mix():
    chain = [record(TuneSettings(atoms=n), 0.5, count) for n, count in ((1, 100), (2, 102), (3, 104))]
    assert tables.equal_counts(named(*chain), 0.02)["trainable"].tolist() == [100, 102]
    both = tables.equal_counts(named(*runs(), *runs(data="fashion-mnist")))
    assert both.groupby("group")["task"].unique().map(list).tolist() == [["digits"], ["fashion-mnist"]]
    assert both.groupby("group").size().tolist() == [3, 3]


def test_pairs_are_welch_tests_corrected_for_their_number():
    groups = tables.equal_counts(named(*runs()))
    pairs = tables.equal_pairs(groups).set_index(["better", "worse"])
    lasso, pca, drawn = ("atoms m=9", "atoms m=9, pca codes", "atoms m=9, random codes")
    p_values = {
        (one, other): stats.ttest_ind(SOLVERS[a], SOLVERS[b], equal_var=False).pvalue
        for (one, a), (other, b) in [((lasso, "lasso"), (drawn, "random")), ((pca, "pca"), (drawn, "random"))]
    }
    first, second = sorted(p_values, key=p_values.get)
    assert pairs.loc[first, "p_value"] == pytest.approx(3 * p_values[first])
    assert pairs.loc[second, "p_value"] == pytest.approx(2 * p_values[second])
    assert pairs.loc[first, "difference"] == pytest.approx(0.2)
    words = tables.equal_sentence(groups, pairs.reset_index())
    assert words.startswith("About 270 trained parameters: atoms m=9")
    assert f"{lasso} lies +20.0 points above {drawn}" in words
    assert f"{lasso} lies +0.0 points above {pca}" not in words


def test_one_seed_tests_nothing_and_no_run_is_no_group():
    single = [one for one in runs() if one.seed == 0]
    groups = tables.equal_counts(named(*single))
    assert "whether that is noise is not known" in tables.equal_sentence(groups, tables.equal_pairs(groups))
    nothing = tables.equal_counts({})
    assert tables.equal_pairs(nothing).empty
    assert "No two settings" in tables.equal_sentence(nothing, tables.equal_pairs(nothing))
    with pytest.raises(FiltersubError, match="at least 0, got -1"):
        tables.equal_counts({}, -1)


@pytest.mark.parametrize("width", [7.4, 3.6])
def test_the_figure_has_a_panel_a_group_and_a_row_a_setting(width):
    groups = tables.equal_counts(named(*runs(), *runs(data="fashion-mnist", block=4, count=10_865)))
    first, second = plots.equal_accuracies(groups, width=width).axes
    assert second.get_title(loc="left").startswith("fashion-mnist: about 10,865")
    names = [" ".join(text.get_text().split()) for text in first.get_yticklabels()]  # wrapped where it is narrow
    assert names == groups["method_label"].tolist()[:3]
    assert first.lines[-2].get_xdata() == pytest.approx(SOLVERS["random"])
    assert first.lines[-1].get_xdata() == pytest.approx([0.61])
