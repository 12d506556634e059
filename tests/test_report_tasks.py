"""Several tasks in one report: settings compare within a task, or as means over tasks that they share."""

import math
import re

import pandas as pd
import pytest
from test_report import NBSP, page_of, words_of
from test_report_effects import effects_of, plain, record_of, tuned

from filtersub.collect import collect, settings_table, tuning_table
from filtersub.report import answer
from filtersub.report.effect_words import effect_sentences
from filtersub.report.effects import enough
from filtersub.report.over_tasks import comparable, history_over_tasks, means_over_tasks, over_tasks
from filtersub.tables import cost_sentence, cost_table, size_sentence, size_table
from filtersub.varying import tasks, telling_labels

ATOMS = {3: 300, 12: 1200}
T2 = 4.302653  # 97.5 % quantile of Student's t distribution with two degrees of freedom, from a printed table


def runs_of(tmp_path, values, **shared):
    """Records from {(m or method, task as pairs, seed): accuracy} as a table of runs."""
    for number, ((which, task, seed), value) in enumerate(values.items()):
        own = {"method": "filter-subspace", "atoms": which} if which in ATOMS else {"method": which}
        label = f"atoms m={which}" if which in ATOMS else which
        count = ATOMS.get(which, {"linear": 0, "full": 10_000}.get(which, 500))
        record = record_of({**own, **shared, **dict(task)}, value, seed, trainable=count)
        record.__dict__["label"] = label
        record.cost["wall_seconds"] = 60.0 + number
        record.write(tmp_path / f"r{number}")
    return tuning_table(collect(tmp_path).records)


def said_of(runs):
    return answer(settings_table(runs)).replace(NBSP, " ").replace("\N{MINUS SIGN}", "-")


def images(n):
    return (("n_train", n),)


def on(data):
    return (("data", data),)


@pytest.mark.parametrize("name", ["n_train", "epochs", "image_size"])
def test_fewer_images_or_epochs_are_another_task_and_no_smaller_setting(tmp_path, name):
    """m = 12 is best at 1,000; that m = 3 at 100 trains fewest and is not told apart is no finding."""
    noise = [0.0, 0.01, -0.01]
    means = {(3, 100): 0.60, (12, 100): 0.62, (3, 1000): 0.80, (12, 1000): 0.84}
    values = {(m, ((name, n),), s): means[m, n] + noise[s] * (1 + (m == 12)) for m, n in means for s in range(3)}
    runs = runs_of(tmp_path, values)
    assert runs["task"].nunique() == 2
    assert set(runs["method_label"]) == {"atoms m=3", "atoms m=12"}
    said = said_of(runs)
    assert "Means over 2 tasks that 2 settings were run on" in said
    # by task 0.62 - 0.60 and 0.84 - 0.80 over the seeds: means 0.73 and 0.70
    assert "atoms m=12, trains 1,200 atom parameters" in said
    assert "reaches 73.0 % test accuracy (mean of 2 tasks, 62.0 to 84.0 %" in said
    for word in ("100", "1000"):
        assert f"{name} {word}" not in said
    words = words_of(page_of(tmp_path))
    assert "trains 7" not in words.replace("trains 75.0 % fewer", "")  # no other share than that of 3 against 12 atoms


def test_enough_is_never_a_smaller_number_of_images_or_epochs():
    """A method whose count falls with the images: fewer of them would be 'enough' by the count alone."""
    noise = {100: [0.0, 0.02, -0.03], 1000: [0.01, -0.02, 0.02]}
    for name in ("n_train", "epochs", "image_size", "pretrained"):
        records = [
            record_of({"method": "x", name: n}, 0.8 + noise[n][seed], seed, trainable=n)
            for n in noise
            for seed in range(3)
        ]
        [factor] = effects_of(records).factors
        assert factor.name == name
        assert enough(effects_of(records), factor) is None
        assert "fewer parameters" not in plain(effect_sentences(effects_of(records)))
    records = [
        record_of({"method": "x", "rank": n}, 0.8 + noise[n][s], s, trainable=n) for n in noise for s in range(3)
    ]
    [factor] = effects_of(records).factors
    assert enough(effects_of(records), factor)[0]["level"] == "100"  # of a setting it is told


# m = 12 is better on each set; m = 3 on the easy set is more accurate than m = 12 on the hard ones
BY_DATA = {3: {"easy": 0.95, "mid": 0.60, "hard": 0.30}, 12: {"easy": 0.97, "mid": 0.66, "hard": 0.37}}


def test_means_over_tasks_are_paired_and_no_easy_task_wins(tmp_path):
    values = {(m, on(data), 0): value for m, means in BY_DATA.items() for data, value in means.items()}
    values |= {("full", on(data), 0): value for data, value in {"easy": 0.98, "mid": 0.64, "hard": 0.45}.items()}
    said = said_of(runs_of(tmp_path, values))
    assert (
        "Means over 3 tasks that 3 settings were run on. The most accurate of the 2 atom settings tried, atoms m=12"
        in said
    )
    assert "reaches 66.7 % test accuracy (mean of 3 tasks, 37.0 to 97.0 %" in said
    # 2, 6, 7 points: mean 5, standard deviation sqrt(7), t = 5 / sqrt(7 / 3); P(|t| > x) = 1 - x / sqrt(2 + x²)
    t = 5 / math.sqrt(7 / 3)
    assert 1 - t / math.sqrt(2 + t * t) > 0.05
    assert "It is not told apart from atoms m=3, which trains fewer parameters" in said
    # against full tuning -1, +2, -8: mean -7/3, standard deviation sqrt((16 + 169 + 289) / 9 / 2)
    half = T2 * math.sqrt(474 / 18) / math.sqrt(3)
    ends = f"95 % interval {-7 / 3 - half:.1f} to +{-7 / 3 + half:.1f}, paired t test over 3 tasks"
    assert f"-2.3 points ({ends}" in said
    assert "not beyond the noise of these tasks; higher on 1 of 3 tasks)" in said
    words = words_of(page_of(tmp_path))
    assert "Setting easy hard mid Mean" in words
    assert "atoms m=12 97.0 37.0 66.0 66.7" in words


def test_a_missing_run_costs_its_task_and_not_full_tuning(tmp_path):
    values = {(m, on(d), 0): v for m, means in BY_DATA.items() for d, v in means.items()}
    values |= {("full", on("easy"), 0): 0.99, ("full", on("mid"), 0): 0.7}
    settings = settings_table(runs_of(tmp_path, values))
    table = comparable(settings)
    assert set(table.index) == {"atoms m=3", "atoms m=12", "full"}
    assert list(table.columns) == ["easy", "mid"]
    means = over_tasks(settings).set_index("label")
    assert means.loc["full", "test_accuracy"] == pytest.approx(0.845)
    assert means.loc["atoms m=12", "by_seed"] == [0.97, 0.66]
    assert means.loc["atoms m=12", "trained"] == 1210


def test_settings_of_fewer_tasks_stand_in_the_table_alone(tmp_path):
    values = {(m, on(d), 0): v for m, means in BY_DATA.items() for d, v in means.items()}
    said = said_of(runs_of(tmp_path, {**values, ("full", on("easy"), 0): 0.999}))
    assert said.startswith(
        "Means over 3 tasks that 2 settings were run on. 1 more, run on fewer tasks, stand in the table."
    )
    assert "99.9" not in said
    assert "full" in words_of(page_of(tmp_path))


def test_tasks_without_settings_in_common_are_told_one_by_one(tmp_path):
    values = {(3, images(100), 0): 0.5, (12, images(300), 0): 0.6, ("full", images(1000), 0): 0.9}
    values |= {("linear", images(5), 0): 0.1}
    runs = runs_of(tmp_path, values)
    said = said_of(runs)
    assert said.startswith("4 tasks, no two settings of which were run on two of them")
    assert "On 100 images: The one setting tried, atoms m=3, reaches 50.0 %" in said
    assert "1 more task: see the table." in said
    assert "fewest" not in said
    assert means_over_tasks(runs, settings_table(runs)).empty
    page = page_of(tmp_path)
    assert "No two settings were run on two of the same tasks, so there are no means" in words_of(page)
    assert "Each mark is the mean" not in page


def test_a_rate_of_its_own_for_each_set_makes_no_other_setting():
    records = [tuned(0.5, atoms=9, data=d, learning_rate=rate) for d, rate in (("a", 0.01), ("b", 0.02))]
    assert telling_labels(records, ignored=("data",)) == ["run", "run"]
    records.append(tuned(0.5, atoms=9, data="b", learning_rate=0.03))
    assert telling_labels(records, ignored=("data",)) == [f"run, learning_rate {rate}" for rate in (0.01, 0.02, 0.03)]
    assert telling_labels(records)[0] == "run, data a, learning_rate 0.01"


def test_tasks_are_named_by_what_differs():
    records = [
        record_of({"data": "digits", "n_train": n, "epochs": e, "pretrained": p, "image_size": 48}, 0.5)
        for n, e, p in ((100, 12, True), (None, 6, False))
    ]
    assert tasks(records) == ["100 images, 12 epochs, pretrained", "all images, 6 epochs, random weights"]
    assert tasks(records[:1]) == [""]


def test_a_number_of_images_that_each_set_brings_along_is_no_parameter():
    records = [
        tuned(0.5 + m / 100 + n / 5000, atoms=m, data=d, n_train=n)
        for m in (6, 9)
        for d, n in (("a", 500), ("b", 1000))
    ]
    found = effects_of(records)
    assert [factor.name for factor in found.factors] == ["atoms"]
    assert found.following == {"n_train": "data"}
    assert found.sets == 2


def test_figures_over_tasks_take_seeds_and_epochs_that_all_tasks_have(tmp_path):
    values = {(m, on(d), s): v + s / 100 for m, means in BY_DATA.items() for d, v in means.items() for s in (0, 1)}
    values[12, on("easy"), 2] = 1.0  # a third seed on the easy set alone
    runs = runs_of(tmp_path, values)
    means = means_over_tasks(runs, settings_table(runs))
    ours = means[means["label"] == "atoms m=12"].set_index("seed")["test_accuracy"]
    assert ours.to_dict() == pytest.approx({0: 2 / 3, 1: 2 / 3 + 0.01})
    rows = [
        {"label": run.label, "family": run.family, "seed": run.seed, "folder": str(run.folder), "epoch": e, "x": value}
        for run in runs.itertuples()
        for e, value in ((1, run.test_accuracy / 2), (2, run.test_accuracy))
        if not (e == 1 and run.task == "hard")
    ]
    history = history_over_tasks(pd.DataFrame(rows), runs, settings_table(runs))
    assert set(history["epoch"]) == {2}  # the first is not there for the hard set
    assert history.loc[history["label"] == "atoms m=12", "x"].tolist() == pytest.approx(ours.tolist())


def test_sentences_of_the_tables_name_the_best_of_each_task(tmp_path):
    values = {(m, on(d), 0): v for m, means in BY_DATA.items() for d, v in means.items()}
    runs = runs_of(tmp_path, values, n_train=100, model="m", epochs=1)
    said = cost_sentence(cost_table(runs)).replace(NBSP, " ")
    assert re.findall(r"On (\w+): atoms m=12", said) == ["easy", "hard", "mid"]
    said = size_sentence(size_table(collect(tmp_path).records)).replace(NBSP, " ")
    assert "mid, 100 images: atoms m=12 66.0 %" in said
    assert "hard, 100 images: atoms m=12 37.0 %" in said
