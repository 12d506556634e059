"""What holds on one task, on the others: the table of steps, its summary, the figures and the notebook."""

from pathlib import Path

import pytest
from scipy import stats

from filtersub import plots, tables
from filtersub.ablation import run_ablation
from filtersub.ablation.spec import parse_spec
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.records import Record

HERE, THERE = ("efficientnet_lite0", "digits"), ("resnet50", "elpv")
LINEAR, FULL, FEW, MANY = {"method": "linear"}, {"method": "full"}, {"atoms": 3}, {"atoms": 9}
BLOCKS = {"atoms": 9, "block": 4}


def record(task, changes, accuracy, seed):
    settings = TuneSettings(model=task[0], data=task[1], seed=seed, **changes)
    trainable = {"linear": 0, "full": 95}.get(settings.method, settings.atoms)
    counts = {"trainable": trainable, "head": 5, "total": 100}
    kept = {"label": settings.label, "parameters": settings.parameters, "seed": seed, "counts": counts}
    return Record(kind="tuning", metrics={"test_accuracy": accuracy}, cost={}, environment={}, **kept)


def made(accuracies):
    """Records of {(task, setting as pairs): accuracy of each seed}."""
    found = [
        record(task, dict(changes), accuracy, seed)
        for (task, changes), by_seed in accuracies.items()
        for seed, accuracy in enumerate(by_seed)
    ]
    return {Path(f"run{number}"): each for number, each in enumerate(found)}


def on(task, **by_name):
    settings = {"linear": LINEAR, "full": FULL, "few": FEW, "many": MANY, "blocks": BLOCKS}
    return {(task, tuple(settings[name].items())): values for name, values in by_name.items()}


@pytest.fixture
def records():
    tasks = [HERE, ("efficientnet_lite0", "elpv"), ("resnet50", "digits"), THERE]
    accuracies = {}
    for number, task in enumerate(tasks):
        up = 0.02 * number
        accuracies |= on(
            task,
            linear=[0.60 + up, 0.61 + up, 0.62 + up],
            few=[0.70, 0.71, 0.72],
            many=[0.73 + up, 0.75 + up, 0.74 + up],
            blocks=[0.80, 0.80, 0.81],
            full=[0.90, 0.91, 0.92],
        )
    return made(accuracies)


def test_steps_are_pairs_that_differ_in_one_thing_and_the_best_atoms_against_the_rest(records):
    steps = tables.task_steps(records)
    assert list(dict.fromkeys(steps["step"])) == [
        "m from 3 to 9",
        "k_c from none to 4",
        "atoms m=9, 4×4 blocks against linear probing",
        "atoms m=9, 4×4 blocks against full tuning",
    ]
    assert (steps.groupby("step").size() == 4).all()


def test_a_difference_is_that_of_the_paired_test_over_seeds_corrected_by_holm(records):
    steps = tables.task_steps(records)
    own = steps[steps["step"] == "m from 3 to 9"]
    tests = [stats.ttest_rel([0.73 + up, 0.75 + up, 0.74 + up], [0.70, 0.71, 0.72]) for up in (0, 0.02, 0.04, 0.06)]
    assert own["difference"].tolist() == pytest.approx([0.03, 0.05, 0.07, 0.09])
    ends = [found.confidence_interval(0.95) for found in tests]
    assert own["low"].tolist() == pytest.approx([end.low for end in ends])
    assert own["high"].tolist() == pytest.approx([end.high for end in ends])
    plain = [found.pvalue for found in tests]  # the largest difference has the smallest p-value
    corrected = [min(1.0, plain[place] * (place + 1)) for place in range(4)]
    for place in (2, 1, 0):
        corrected[place] = max(corrected[place], corrected[place + 1])
    assert own["p_value"].tolist() == pytest.approx(corrected)


def test_the_other_tasks_say_whether_it_holds(records):
    summary = tables.steps_elsewhere(tables.task_steps(records), *HERE).set_index("step")
    row = summary.loc["m from 3 to 9"]
    expected = stats.ttest_1samp([0.05, 0.07, 0.09], 0.0)
    assert row["here"] == pytest.approx(0.03)
    assert row["elsewhere"] == pytest.approx(0.07)
    assert row["low"] == pytest.approx(expected.confidence_interval(0.95).low)
    assert row["tasks"] == 3
    assert row["verdict"] == "holds"


@pytest.mark.parametrize(
    ("here", "there", "verdict"),
    [
        (0.03, (0.05, 0.07, 0.09), "holds"),
        (-0.03, (-0.05, -0.07, -0.09), "holds"),
        (-0.03, (0.05, 0.07, 0.09), "turns round"),
        (0.03, (-0.05, 0.07, 0.09), "open"),
        (0.03, (0.05,), "open"),
    ],
)
def test_a_verdict_needs_an_interval_that_leaves_zero(here, there, verdict):
    accuracies = {}
    for number, gap in enumerate((here, *there)):
        task = HERE if number == 0 else ("resnet50", f"folder:{number}")
        accuracies |= on(task, few=[0.70, 0.71], many=[0.70 + gap, 0.711 + gap])
    summary = tables.steps_elsewhere(tables.task_steps(made(accuracies)), *HERE)
    assert summary["verdict"].tolist() == [verdict]


def test_what_does_not_hold_stands_first():
    accuracies = {}
    for number in range(4):
        task = HERE if number == 0 else ("resnet50", f"folder:{number}")
        gap = 0.01 * (number + 2)
        blocks = 0.80 + (-gap if number else gap)
        accuracies |= on(task, few=[0.70, 0.71], many=[0.75 + gap, 0.761 + gap], linear=[0.1, 0.1], blocks=[blocks] * 2)
    summary = tables.steps_elsewhere(tables.task_steps(made(accuracies)), *HERE)
    lines = tables.elsewhere_sentence(summary, *HERE).splitlines()
    assert lines[0] == "Here is efficientnet_lite0 on digits."
    verdicts = [line.partition(": ")[2].partition(".")[0] for line in lines[2:]]
    assert verdicts == sorted(verdicts, key=["turns round", "open", "holds"].index)
    assert set(verdicts) == {"open", "holds"} | ({"turns round"} & set(verdicts))


def test_the_way_from_the_head_to_full_tuning(records):
    settings = tables.task_accuracies(records).set_index(["task", "method_label"])["way"]
    assert settings["efficientnet_lite0, digits", "linear probing"] == pytest.approx(0)
    assert settings["efficientnet_lite0, digits", "full tuning"] == pytest.approx(1)
    assert settings["efficientnet_lite0, digits", "atoms m=9"] == pytest.approx((0.74 - 0.61) / (0.91 - 0.61))


def test_there_is_no_way_to_full_tuning_where_it_is_below_the_head():
    both = on(HERE, linear=[0.7], many=[0.8], full=[0.6]) | on(THERE, linear=[0.6], many=[0.7], full=[0.8])
    ways = tables.task_accuracies(made(both)).set_index(["task", "method_label"])["way"]
    assert ways["efficientnet_lite0, digits"].isna().all()
    assert ways["resnet50, elpv", "atoms m=9"] == pytest.approx(0.5)


def test_tasks_that_lack_a_setting_stay_out_of_its_steps():
    both = on(HERE, few=[0.7, 0.7], many=[0.8, 0.9]) | on(THERE, few=[0.7, 0.7])
    steps = tables.task_steps(made(both))
    assert steps["task"].tolist() == ["efficientnet_lite0, digits"]
    summary = tables.steps_elsewhere(steps, *THERE)
    assert "not run here" in tables.elsewhere_sentence(summary, *THERE)


def test_tasks_may_differ_in_images_and_settings_in_chains_of_expansions():
    chain = {"atoms": 9, "expansion": (2, 3)}
    found = {}
    for n_train in (100, 300):
        for changes, accuracy in ((MANY, 0.7), (chain, 0.8), (FEW, 0.6)):
            for seed in (0, 1):
                made_so = record(HERE, {**changes, "n_train": n_train}, accuracy + n_train / 1e4 + seed / 100, seed)
                found[Path(f"run{len(found)}")] = made_so
    del found[Path("run11")], found[Path("run10")]  # m = 3 at 300 images: its record is of the other task
    steps = tables.task_steps(found)
    assert list(dict.fromkeys(steps["step"])) == ["m from 3 to 9", "m₁ from none to 2, 3"]
    assert steps["task"].tolist() == ["100 images", "100 images", "300 images"]
    assert steps["difference"].tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_one_task_and_no_shared_seed_are_refused():
    with pytest.raises(FiltersubError, match="these are of one task"):
        tables.task_steps(made(on(HERE, few=[0.7], many=[0.8])))
    shifted = made(on(HERE, few=[0.7], many=[0.8]) | on(THERE, few=[0.7]))
    shifted[Path("other")] = record(THERE, MANY, 0.8, seed=5)
    with pytest.raises(FiltersubError, match="share no seed"):
        tables.task_steps(shifted)


def test_nothing_to_compare_is_said():
    summary = tables.steps_elsewhere(tables.task_steps(made(on(HERE, full=[0.9]) | on(THERE, full=[0.8]))), *HERE)
    assert "No two settings" in tables.elsewhere_sentence(summary, *HERE)


def test_figures_have_a_mark_for_each_task(records):
    steps, settings = tables.task_steps(records), tables.task_accuracies(records)
    figure = plots.task_steps(steps)
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert len(panels) == 4
    marks = [line for line in panels[0].lines if line.get_marker() == "o"]
    assert sorted(mark.get_xdata()[0] for mark in marks) == pytest.approx([3, 5, 7, 9])
    told = steps[(steps["step"] == "m from 3 to 9") & (steps["p_value"] < 0.05)]
    assert sum(mark.get_markerfacecolor() != "white" for mark in marks) == len(told)
    sets = [ax.get_title(loc="left") for ax in plots.task_accuracies(settings).axes]
    assert sets == ["digits", "elpv"]


@pytest.mark.notebook
@pytest.mark.usefixtures("shared_warm_process")
def test_the_notebook_says_what_holds(tmp_path, records):
    for folder, each in records.items():
        each.write(tmp_path / folder)
    stages = [{"notebook": "23_networks", "reads_records": True}]
    spec = parse_spec({"name": "tiny", "title": "Tiny", "question": "Does it run?", "stages": stages})
    assert run_ablation(spec, tmp_path).exit_code == 0, [path.read_text() for path in tmp_path.rglob("error.txt")]
    page = next(tmp_path.rglob("networks*/notebook.html")).read_text()
    assert "m from 3 to 9: holds." in page
    assert "4 tasks, 5 settings, 3 seeds" in page
    assert page.count("<figure") == 2
