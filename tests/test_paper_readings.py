"""The two readings of the paper: authors' counts to the digit, the text's printed counts, sources, guards, means."""

import json
import shlex
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from filtersub.ablation import list_runs
from filtersub.ablation.notebook_contract import notebook_parameters
from filtersub.ablation.planning import plan
from filtersub.ablation.spec import load_spec, parse_spec, presets
from filtersub.cli import app
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.paper import (
    READINGS,
    Verdict,
    choose,
    claims,
    count_run,
    differences,
    differing_settings,
    effort_of,
    find_run,
    forward_flops,
    locate,
    paper_overview,
    parts,
    printed_accuracy,
    row_mean,
    run_of,
    tune_settings,
)
from filtersub.parameters.readings import PRESETS, compute
from filtersub.records import Record
from filtersub.setting_fields import TuneFields

PAPER_PRESETS = [name for name in presets() if name.endswith("-paper")]


def run(*arguments):
    """Standard output of the command line, in process."""
    done = CliRunner().invoke(app, [str(part) for part in arguments], env={"COLUMNS": "240"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


# --- counts


#: of ResNet50 with a head of 100 classes, head apart, as the authors' own run script prints them
AUTHORS = [
    ("setting-1", {}, 2_061),
    ("setting-2", {"expansion": 3}, 614_520),
    ("setting-2", {"expansion": 4}, 819_360),
    ("setting-3", {"block": 2}, 27_684),
    ("setting-3", {"block": 4}, 421_776),
    ("setting-4", {}, 1_898_928),
    ("lora", {}, 1_803_568),
    ("linear", {}, 0),
]


@pytest.mark.parametrize(("name", "sizes", "trained"), AUTHORS)
def test_the_authors_counts_to_the_digit(name, sizes, trained):
    found = count_run(parts()["figure4"], name, "authors", classes=100, **sizes)
    assert (found.trainable, found.head) == (trained, 204_900)


@pytest.mark.parametrize(
    ("part", "name", "sizes", "trained"),
    [
        ("figure4", "setting-1", {}, 1_053),  # 13 kernels of 3 x 3, 9 atoms of 9 entries
        ("figure4", "setting-2", {"atoms": 6, "expansion": 3}, 13 * (6 * 3 + 6 * 3 * 9)),
        ("figure4", "setting-3", {"block": 2}, 36 * 36 * 4 + 16 * 36 * 36),
        ("table1", "atoms", {}, 447_504),
        ("table2", "atoms", {}, 182_016),
        ("table3", "atoms", {}, 1_110_528),
        ("table1", "lora", {}, 17_373_604 - 102_500),
        ("table2", "lora", {}, 20_055_716 - 102_500),
        ("table3", "lora", {}, 22_670_336),
    ],
)
def test_the_text_s_counts(part, name, sizes, trained):
    found = count_run(parts()[part], name, "text", classes=None if part == "table3" else 100, **sizes)
    assert found.trainable == trained


def test_every_printed_figure_is_a_claim_and_the_text_s_run_trains_it():
    """All of `count --preset all`, but for the two percentages that are told as increases."""
    counted = {claim.figure: claim for claim in claims() if claim.figure}
    assert set(PRESETS) - set(counted) == {"resnet50-linear", "resnet50-blocks"}
    for name, claim in counted.items():
        part, own = find_run(claim.of.run)
        frame = PRESETS[name]
        assert claim.printed == f"{frame.printed} {frame.unit}"
        assert count_run(part, own, "text", classes=frame.classes).trainable == compute(name).count.trainable, name


def test_every_cell_of_the_tables_has_its_run():
    for table in ("table1", "table2"):
        for row in printed_accuracy(table).to_dict("records"):
            assert row["data"] in parts()[table].data
            assert run_of(parts()[table], {"method": row["method"], "block": 4}) is not None


# --- the readings as data


@pytest.mark.parametrize(("part", "reading"), product(parts(), READINGS))
def test_every_value_has_a_source_and_is_a_setting(part, reading):
    known = {field.name for field in fields(TuneFields)}
    own = parts()[part].readings[reading]
    assert set(own.rules) <= set(parts()[part].runs)
    assert set(own.recipe) == (set() if part == "table3" else set(parts()[part].data))
    for rules in own.rules.values():
        for name, setting in rules.items():
            assert name in known
            assert len(setting.source) >= 10


def test_the_readings_differ_where_the_text_and_the_code_do():
    two = {name: tune_settings(choose(name, "figure4/setting-2"), {}) for name in READINGS}
    assert (two["text"].expansion_coefficients, two["authors"].expansion_coefficients) == ("shared", "per-channel")
    assert (two["text"].batch_size, two["authors"].batch_size) == (256, 128)
    assert (two["text"].head_dropout, two["authors"].head_dropout) == (0.0, 0.5)
    assert two["authors"].expansion_init == "fan-in-normal"


def test_users_choose_sizes_and_the_reading_the_rest():
    settings = tune_settings(choose("authors", "figure4/setting-2"), {"atoms": 6, "expansion": 3, "seed": 2})
    assert (settings.atoms, settings.expansion, settings.block, settings.seed) == (6, 3, 1, 2)
    by_model = choose(None, None, model="torchvision:resnet50", given={"method": "filter-subspace", "block": 2})
    assert (by_model.name, by_model.reading) == ("figure4/setting-3", "text")
    assert choose("text", None, recipe="vtab1k", given={"block": 4}).name == "table1/atoms"
    assert locate("convnext_base.fb_in22k", "imagenet1k").name == "table2"


def test_full_tuning_takes_the_recipe_s_own_rate():
    full, atoms = (tune_settings(choose("text", f"table2/{name}"), {"data": "cifar100"}) for name in ("full", "atoms"))
    assert (full.learning_rate, atoms.learning_rate) == (5e-5, 1e-3)


BAD = {
    "unknown reading": (("count", "resnet50", "--reading", "author"), "did you mean 'authors'? Known: text, authors"),
    "nothing named": (("count", "--reading", "text"), "is of a run of the paper: name it"),
    "unknown part": (("count", "--paper", "figure3"), "did you mean 'figure4'? Known: figure4"),
    "unknown run": (("count", "--paper", "table1/setting-1"), "Known: table1/full, table1/lora, table1/atoms"),
    "a part without this run": (("count", "--paper", "table1", "--expansion", 4), "table1 has no run of this method"),
    "layers of another network": (
        ("count", "efficientnet_lite0", "--paper", "figure4/setting-1"),
        "the reading 'text' of figure4/setting-1 is of resnet50.tv_in1k, and its layers",
    ),
    "no part of this model": (("count", "efficientnet_lite0", "--reading", "authors"), "no reading of the paper is of"),
    "several parts": (("count", "convnext_base", "--reading", "text", "--block", 4), "say table1 or table2"),
    "a rule": (
        ("count", "--paper", "table2/atoms", "--block-spatial"),
        "--block-spatial True is not the reading 'text'",
    ),
    "no data set": (("tune", "--paper", "table1/atoms", "--out", "x"), "say which data set, such as --data vtab:cal"),
    "Table 3 tunes no classifier": (("tune", "--paper", "table3/atoms", "--out", "x"), "filtersub ablate table3-paper"),
    "tune on other layers": (
        ("tune", "efficientnet_lite0", "--paper", "figure4/setting-3", "--data", "digits", "--out", "x"),
        "do not fit efficientnet_lite0",
    ),
    "a preset without parts": (("ablate", "quickstart", "--reading", "text", "--out", "x", "--dry-run"), "no readings"),
    "a preset and an unknown reading": (("ablate", "figure4-paper", "--reading", "x", "--out", "x"), "unknown reading"),
    "the list of an unknown part": (("paper", "--part", "table4"), "unknown part of the paper 'table4'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[case]
    with pytest.raises(FiltersubError) as raised:
        run(*arguments)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("paper", "message"),
    [
        ({"part": "figure7"}, "unknown part of the paper 'figure7'"),
        ({"part": "figure4", "runs": ["setting-5"]}, "unknown run of figure4 'setting-5'; did you mean"),
        ({"part": "figure4", "sizes": "some"}, "sizes should be 'all' or 'one', got 'some'"),
        ({"part": "figure4", "reading": "text"}, "known: part, runs, sizes, as"),
        ({}, "paper.part is missing"),
    ],
)
def test_bad_stages_of_the_paper_are_named(paper, message):
    content = {"name": "a", "title": "A", "question": "A?", "stages": [{"notebook": "02_tuning", "paper": paper}]}
    with pytest.raises(FiltersubError, match=message):
        parse_spec(content)


# --- the overview


@pytest.fixture(scope="module")
def rows():
    return {(row.claim.where, row.claim.claim): row for row in paper_overview()}


def test_the_overview_has_every_table_and_figure(rows):
    wheres = " ".join(where for where, _ in rows)
    for part in (
        "abstract",
        "4.3",
        "5.2",
        "5.3",
        "5.4",
        *(f"Table {n}" for n in (1, 2, 3)),
        *(f"Figure {n}" for n in (4, 5, 6)),
    ):
        assert part in wheres
    for row in rows.values():
        assert set(row.verdicts) == set(READINGS)
        assert all(verdict.verdict in ("agrees", "differs", "cannot be known") for verdict in row.verdicts.values())


#: means of printed cells, added up by hand, and what is printed
MEANS = [
    ("table3", "filter-subspace", 7, 298.0, "42.5", "42.6"),
    ("table3", "full", 7, 304.5, "43.5", "43.5"),
    ("table3", "lora", 7, 334.5, "47.8", "47.8"),
    ("table3", "none", 4, 578.1, "144.5", "144.5"),
    ("table3", "lora", 4, 171.3, "42.8", "42.8"),
    ("table3", "filter-subspace", 4, 150.2, "37.6", "37.6"),
    ("table3", "full", 4, 155.6, "38.9", "38.9"),
    ("table3", "none", 16, 2965.7, "179.1", "185.4"),
    ("table1", "linear", 19, 1163.1, "61.21", "61.22"),
]


@pytest.mark.parametrize(("table", "method", "sets", "total", "printed", "given"), MEANS)
def test_means_of_printed_cells(rows, table, method, sets, total, printed, given):
    whole = {"table1": 19, "table3": 16}[table]
    own = [
        row
        for row in rows.values()
        if row.claim.measure == "mean"
        and (row.claim.table, row.claim.method) == (table, method)
        and len(row.claim.sets or range(whole)) == sets
    ]
    (row,) = own
    assert float(row_mean(table, method, row.claim.sets)) == pytest.approx(total / sets, abs=1e-12)
    verdict = row.verdicts["text"]
    assert (row.claim.printed, verdict.computed) == (printed, given)
    assert (verdict.verdict == "agrees") == (printed == given)


def test_what_is_settled_and_what_is_not(rows):
    def of(claim, reading):
        (row,) = [row for (_, name), row in rows.items() if name == claim]
        return row.verdicts[reading]

    assert of("setting 3, k_c = 2, over setting 1, trained", "text").computed == "12"
    assert of("setting 1 over linear probing, trained", "authors") == Verdict("differs", "1.0", 2_061)
    assert of("setting 4 over LoRA, trained", "authors").verdict == "agrees"  # 1,898,928 and 1,803,568
    assert of("setting 4 over LoRA, trained", "text").why.startswith("the rank of LoRA is not printed")
    assert of("adapting the filter atoms takes a few hundred parameters", "text").trained == 1_053
    assert of("setting 2 reaches", "text") == Verdict("cannot be known", why="needs the run")


def test_the_command_prints_them(rows):
    value = json.loads(run("paper", "--json"))
    assert len(value["claims"]) == len(rows)
    shown = run("paper")
    verdicts = [row.verdicts["authors"].verdict for row in rows.values()]
    agree, differ = verdicts.count("agrees"), verdicts.count("differs")
    assert f"{agree} agree, {verdicts.count('cannot be known')} cannot be known, {differ} differ" in shown
    assert "differs: Table 3, no tuning, mean of its row: 179.1 printed, 185.4 by the reading" in shown
    assert "1,898,928 against 1,803,568" in shown
    assert "1,898,928" not in run("paper", "--reading", "text")


@pytest.mark.parametrize("part", parts())
def test_settings_of_a_part_are_listed_with_their_sources(part):
    value = json.loads(run("paper", "--part", part, "--json"))
    assert set(value) == set(READINGS)
    assert all(row["source"] for own in value.values() for row in own["settings"])
    assert all(own["effort"]["gpu_hours"] > 0 for own in value.values())


def test_a_part_in_words():
    shown = run("paper", "--part", "figure4", "--reading", "authors")
    assert "setting 2 reads memory laid out (m, c') as (c', m)" in shown
    assert "GPU hours at 100 TFLOP/s" in shown


def test_effort_follows_from_steps_and_images():
    found = effort_of(parts()["figure4"], "text", seeds=3)
    runs = 3 + 3 + 12 + 2 + 1
    assert (found.runs, found.steps, found.images) == (3 * runs, 3 * runs * 50 * 196, 3 * runs * 50 * 50_000)
    assert found.flops == found.images * 3 * forward_flops("resnet50.tv_in1k", 224)
    assert 8e9 < forward_flops("resnet50.tv_in1k", 224) < 8.4e9  # 4.1 G multiply-adds, as its authors count
    three = effort_of(parts()["table3"], "text")
    assert (three.runs, three.steps, three.drawn) == (64, 48 * 5_000, 64 * 20_000)


# --- the document


DOCUMENT = Path(__file__).parent.parent / "docs" / "paper.md"


@pytest.mark.parametrize("part", parts())
def test_the_document_has_the_steps_and_hours(part):
    text, authors = (effort_of(parts()[part], reading) for reading in READINGS)
    steps = f"{text.steps:,}" + ("" if authors.steps == text.steps else f" (authors: {authors.steps:,})")
    (line,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{part}-paper` |")]
    assert [cell.strip() for cell in line.split("|")[4:7]] == [str(text.runs), steps, f"{text.gpu_hours:.0f}"]


def commands():
    """Every command of the document's code blocks, as its arguments."""
    blocks = DOCUMENT.read_text().split("```")[1::2]
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("filtersub ")]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_the_commands_of_the_document_work(arguments, tmp_path, monkeypatch):
    """Runs as dry runs, tuning up to its settings."""
    asked = []
    record = Record("tuning", "x", {}, 0, {"test_accuracy": 0.5}, {"trainable": 1, "head": 1}, {}, {})
    monkeypatch.setattr("filtersub.experiment.tune", lambda settings, *_, **__: asked.append(settings) or record)
    monkeypatch.chdir(tmp_path)
    assert arguments[0] != "ablate" or "--dry-run" in arguments
    assert run(*arguments)
    assert bool(asked) == (arguments[0] == "tune")


def test_the_document_says_what_is_counted():
    text = DOCUMENT.read_text()
    own = [row for row in paper_overview() if row.claim.of and not row.claim.of.run.endswith(("/full", "/linear"))]
    for trained in {verdict.trained for row in own for verdict in row.verdicts.values()} - {None}:
        assert f"{trained:,}" in text
    assert f"all {len(claims())} rows" in text


# --- presets


def tuning_runs(preset, reading, folder):
    """Settings of each run of 02_tuning in a preset, defaults filled in."""
    runs = [one for one in plan(load_spec(preset, reading), folder) if one.notebook.stem == "02_tuning"]
    defaults = {name: value for name, (_, value) in notebook_parameters(runs[0].notebook).items()} if runs else {}
    defaults.pop("out_dir", None)
    return [TuneSettings(**{**defaults, **one.parameters}) for one in runs]


@pytest.mark.parametrize(("part", "reading"), product(("figure4", "table1", "table2"), READINGS))
def test_a_paper_preset_runs_the_reading_and_every_run_may_stand_beside(part, reading, tmp_path):
    runs = tuning_runs(f"{part}-paper", reading, tmp_path)
    own = parts()[part]
    wanted = sum(len(list(own.points(name))) for name in own.runs) * len(own.data) * (3 if part == "figure4" else 1)
    assert len(runs) == wanted
    assert {settings.data for settings in runs} == set(own.data)
    trained = {}
    for settings in runs:
        fitting = [name for name in READINGS if not differences(settings.parameters, part, name)]
        assert fitting
        assert not differing_settings(settings.parameters, part)
        if run_of(own, settings.parameters).startswith(("setting", "atoms")) and reading == "authors":
            assert fitting[0] == "authors"
        trained[run_of(own, settings.parameters)] = settings
    assert set(trained) == set(own.runs)


def test_the_two_readings_have_folders_of_their_own():
    assert load_spec("figure4-paper").name == load_spec("figure4-paper", "text").name == "figure4-paper"
    assert load_spec("figure4-paper", "authors").name == "figure4-paper-authors"


@pytest.mark.parametrize("preset", PAPER_PRESETS)
def test_every_paper_preset_plans_and_tells_its_counts_beside_the_printed_ones(preset, tmp_path):
    readings = READINGS if preset != "table1-paper" else READINGS[1:]  # its 76 runs take as long as all other presets
    for reading in readings if load_spec(preset).parts else (None,):
        found = list_runs(load_spec(preset, reading), tmp_path)
        assert len(found.runs)
        for row in found.to_json()["runs"]:
            assert (row["printed"] is None) == (row["gives"] is None)
        if preset in ("table1-paper", "table2-paper"):
            tuned = found.runs[found.runs["notebook"] == "02_tuning"]
            assert tuned["printed"].notna().all()
        if reading is not None:
            assert all(set(claim) == {"where", "claim", "printed", reading} for claim in found.claims)
            assert found.claims


def test_a_dry_run_says_which_printed_counts_it_meets(tmp_path):
    found = list_runs(load_spec("table2-paper", "text"), tmp_path)
    rows = {(row["printed"], row["gives"]) for row in found.to_json()["runs"] if row["printed"]}
    assert rows == {
        ("87.7 M", "87.7"), ("0.1 M", "0.1"), ("20.1 M", "20.1"), ("0.3 M", "0.3"),
        ("88.9 M", "88.6"), ("1.0 M", "1.0"), ("21.0 M", "21.0"), ("1.2 M", "1.2"),
    }  # fmt: skip
    shown = run("ablate", "figure4-paper", "--reading", "authors", "--out", tmp_path, "--dry-run")
    assert "12 % printed, 12 by the reading 'authors': agrees" in shown


# --- guards


VTAB = tune_settings(choose("text", "table1/atoms"), {"data": "vtab:dtd"})
FOUR = tune_settings(choose("authors", "figure4/setting-2"), {})


@pytest.mark.parametrize(
    ("settings", "where", "told"),
    [
        (replace(VTAB, atoms=1), "table1", "trained parameters (447,504)"),
        (replace(VTAB, block=2), "table1", "trained parameters (447,504)"),
        (replace(VTAB, block_spatial=False), "table1", "block_spatial False (True)"),
        (replace(VTAB, solver="pca"), "table1", "solver pca (lasso)"),
        (replace(VTAB, layers="stages"), "table1", "layers stages (None)"),
        (replace(VTAB, method="lora-loralib", rank=1), "table1", "rank 1 (16)"),
        (replace(VTAB, method="lora"), "table1", "method lora (lora-loralib)"),
        (replace(FOUR, atoms=7), "figure4", "atoms 7 (6, 9, 12)"),
        (replace(FOUR, expansion=7), "figure4", "expansion 7 (3, 4, 5, 6)"),
        (replace(FOUR, expansion_coefficients="shared"), "figure4", "expansion_coefficients shared (per-channel)"),
        (replace(FOUR, init_scale=57.0), "figure4", "init_scale 57.0 (1.0)"),
        (replace(FOUR, head_dropout=0.0), "figure4", "head_dropout 0.0 (0.5)"),
    ],
)
def test_whatever_is_not_the_reading_takes_the_printed_numbers_away(settings, where, told):
    found = differing_settings(settings.parameters, where)
    assert told in "; ".join(found)


def test_counted_parameters_guard_where_settings_agree():
    """A record that trained another number, since a layer was left out."""
    assert differing_settings(VTAB.parameters, "table1", 447_504) == []
    assert differing_settings(VTAB.parameters, "table1", 440_000) == ["440,000 trained parameters (447,504)"]


def test_what_changes_no_weight_changes_no_reading():
    same = replace(VTAB, evaluation_interval=1, workers=2, accumulation=4, seed=3)
    assert differing_settings(same.parameters, "table1") == []


def test_what_a_source_leaves_open_stays_open():
    assert differing_settings(replace(VTAB, solver="fista").parameters, "table1") == []
    text = tune_settings(choose("text", "figure4/setting-2"), {})
    assert differing_settings(replace(text, init_scale=0.1, expansion_init="fan-in-normal").parameters, "figure4") == []
