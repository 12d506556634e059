"""A budget allotted layer by layer: the greedy rule against all choices tried, and the study that tunes so."""

import json
from io import StringIO
from itertools import product

import pandas as pd
import pytest
import torch
from peft import get_peft_model
from safetensors.torch import save_file
from scipy import stats
from torch import nn
from typer.testing import CliRunner

from filtersub import FilterSubspaceConfig, plots, studies
from filtersub.cli import app
from filtersub.cli.console import cell
from filtersub.collect import collect
from filtersub.decomposition import DecompositionConfig
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.models import load_model
from filtersub.parameters import GradientEnergy, allot, count_parameters
from filtersub.recipe_file import read_for_tuning
from filtersub.records import read_record
from filtersub.report.studies import study_sections

ATOMS, BLOCKS = (1, 2, 4), (2, 4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.wide = nn.Conv2d(8, 8, 3)
        self.point = nn.Conv2d(8, 16, 1)
        self.fc = nn.Linear(16, 4)

    def forward(self, x):
        return self.fc(torch.relu(self.point(torch.relu(self.wide(torch.relu(self.stem(x)))))).mean((2, 3)))


@pytest.fixture(scope="module")
def energy():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(24, 3, 8, 8, generator=generator), torch.arange(24) % 4
    return GradientEnergy(Net().double(), images.double(), labels)


def choices(energy):
    """Every (count, energy) that each layer can have, the frozen layer first."""
    found = []
    for name, blocks in (("stem", (None,)), ("wide", (None,)), ("point", BLOCKS)):
        recipes = [DecompositionConfig(atoms=m, block=block, solver="pca") for m, block in product(ATOMS, blocks)]
        counts = [count_parameters(energy.model, recipe=recipe, layers=f"^{name}$").trainable for recipe in recipes]
        energies = [energy.captured(recipe, name) for recipe in recipes]
        found.append([(0, 0.0), *zip(counts, energies, strict=True)])
    return found


def best_of_all(energy, budget):
    """The largest energy of all combinations within the budget."""
    sums = [tuple(map(sum, zip(*each, strict=True))) for each in product(*choices(energy))]
    return max(captured for count, captured in sums if count <= budget)


def test_where_a_step_ends_no_combination_follows_more(energy):
    """The greedy rule is exact at the budgets that its steps use up (their hull is concave)."""
    ends = sorted({allot(energy, budget, atoms=ATOMS, blocks=BLOCKS).trainable for budget in range(9, 400, 3)})
    exact = 0
    for budget in ends:
        found = allot(energy, budget, atoms=ATOMS, blocks=BLOCKS)
        assert found.trainable <= budget
        reached = found.score * energy.total
        assert reached <= best_of_all(energy, budget) * (1 + 1e-9)
        exact += reached == pytest.approx(best_of_all(energy, budget), rel=1e-9)
    assert exact >= len(ends) / 2 > 2


def test_a_budget_for_everything_gives_every_layer_its_largest_choice(energy):
    found = allot(energy, 10_000, atoms=ATOMS, blocks=BLOCKS)
    assert found.score == pytest.approx(best_of_all(energy, 10_000) / energy.total, rel=1e-9)
    assert found.table["share"].tolist() == pytest.approx(found.table["possible"].tolist())
    assert list(found.recipes) == ["stem", "wide", "point"]


def test_a_size_that_a_layer_does_not_have_is_missing_from_the_table(energy):
    """Neither 0 in the file, nor in JSON, nor on the screen."""
    found = allot(energy, 60, atoms=ATOMS, blocks=BLOCKS, expansions=(2,))
    rows = pd.read_csv(StringIO(found.table.to_csv(index=False))).set_index("name")
    for name, row in rows.iterrows():
        recipe = found.recipes.get(name)
        sizes = (None,) * 3 if recipe is None else (recipe.atoms, recipe.block, recipe.expansion)
        told = [None if pd.isna(row[column]) else int(row[column]) for column in ("m", "k_c", "m_1")]
        assert told == list(sizes)
    assert rows["k_c"].isna().any()
    assert rows["m_1"].isna().any()
    assert "0" not in found.table.to_csv(index=False, columns=["k_c", "m_1"]).replace("\n", ",").split(",")
    assert {cell(value) for value in found.table["k_c"]} <= {"", *map(str, BLOCKS)}


def test_more_budget_follows_no_less_and_is_kept(energy):
    found = [allot(energy, budget, atoms=ATOMS, blocks=BLOCKS) for budget in (10, 30, 60, 120, 300)]
    assert all(one.trainable <= budget for one, budget in zip(found, (10, 30, 60, 120, 300), strict=True))
    assert [one.score for one in found] == sorted(one.score for one in found)
    for one in found:
        assert one.score == pytest.approx(
            sum(energy.captured(r, name) for name, r in one.recipes.items()) / energy.total
        )
        assert one.table["trainable"].sum() == one.trainable


@pytest.mark.parametrize("expansions", [(), (2,)])
def test_the_tuner_trains_what_was_allotted(energy, expansions):
    found = allot(energy, 200, atoms=ATOMS, blocks=BLOCKS, expansions=expansions)
    config = FilterSubspaceConfig(
        solver="pca", overrides=found.overrides, target_modules=list(found.recipes), modules_to_save=["fc"]
    )
    tuned = get_peft_model(Net(), config)
    trained = sum(p.numel() for name, p in tuned.named_parameters() if p.requires_grad and "filtersub" in name)
    assert trained == found.trainable <= 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 3}, "no layer trains at most 3 parameters; the smallest step trains"),
        ({"budget": 100, "atoms": ()}, "atoms is empty"),
        ({"budget": 100, "blocks": ()}, "blocks is empty"),
    ],
)
def test_what_cannot_be_allotted_is_said(energy, options, message):
    with pytest.raises(FiltersubError, match=message):
        allot(energy, **{"atoms": ATOMS, "blocks": BLOCKS, **options})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Settings of a tiny model with weights of its own."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    save_file(load_model("test_resnet", pretrained=False).state_dict(), path)
    short = {"n_train": 50, "epochs": 1, "batch_size": 50, "image_size": 16}
    return {"model": "test_resnet", "weights": str(path), "solver": "pca", **short}


@pytest.fixture(scope="module")
def root(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("allotment")
    tuning = TuneSettings(**tiny, batch_norm="recomputed")  # where atoms with blocks have a usual rate of their own
    studies.allotment_study(out, tuning, budgets=[150, 600], seeds=[0], top=1, n_images=20)
    return out


def test_every_run_keeps_its_budget_and_follows_its_score(root):
    runs = studies.study_tables(root)["runs"]
    assert (runs["trainable"] <= runs["budget"]).all()
    assert runs.groupby(["budget", "kind"])["setting"].nunique().to_dict() == {
        (150, "by layer"): 1,
        (150, "for all layers"): 1,
        (600, "by layer"): 1,
        (600, "for all layers"): 1,
    }
    best = runs.groupby(["budget", "kind"])["score"].max().unstack()
    assert (best["by layer"] >= best["for all layers"]).all()  # a setting for all layers is one allotment of many


def test_runs_have_the_usual_rate_of_their_setting(root):
    rates = {
        read_record(folder).parameters["block"] is not None: read_record(folder).parameters["learning_rate"]
        for folder in (root / "tuned").iterdir()
    }
    assert set(rates.items()) <= {(True, 2e-2), (False, 3e-2)}


def test_the_report_shows_it(root):
    (section,) = study_sections(collect(root))
    assert section.title == "A budget allotted layer by layer"
    assert len(section.rows) == 4
    assert all(len(draw(width=7.4).axes) == 2 for draw, _ in section.figures)


def made_runs():
    rows = []
    accuracies = {"by layer": [0.8, 0.82, 0.84], "m=9": [0.7, 0.71, 0.75], "m=3": [0.6, 0.6, 0.66]}
    for setting, values in accuracies.items():
        kind = "by layer" if setting == "by layer" else "for all layers"
        named = {"budget": 1000, "kind": kind, "setting": setting, "trainable": 900, "score": 0.1}
        rows += [{**named, "seed": seed, "test_accuracy": value} for seed, value in enumerate(values)]
    return pd.DataFrame(rows)


def test_it_is_set_against_the_most_accurate_setting():
    (pair,) = studies.allotment_pairs(made_runs()).to_dict("records")
    assert (pair["setting"], pair["for_all_layers"]) == ("m=9", pytest.approx(0.72))
    assert pair["p_value"] == pytest.approx(
        stats.ttest_ind([0.8, 0.82, 0.84], [0.7, 0.71, 0.75], equal_var=False).pvalue
    )
    words = studies.allotment_sentence(studies.allotment_pairs(made_runs()))
    assert (
        "82.0\N{NO-BREAK SPACE}%, against 72.0\N{NO-BREAK SPACE}% for m=9 (900), a difference of +10.0 points" in words
    )
    single = made_runs().query("seed == 0")
    assert "whether that is noise is not known" in studies.allotment_sentence(studies.allotment_pairs(single))


@pytest.mark.parametrize("width", [7.4, 3.6])
def test_figures_show_settings_and_layers(root, width):
    tables = studies.study_tables(root)
    groups = studies.allotment_groups(tables["runs"])
    first, second = plots.equal_accuracies(groups, width=width).axes
    assert len(first.get_yticklabels()) == len(second.get_yticklabels()) == 2
    panels = plots.allotted_layers(tables["layers"], width=width).axes
    assert len(panels) == 2
    heights = [bar.get_height() for bar in panels[0].patches]
    wanted = tables["layers"].query("budget == 150")
    assert heights == pytest.approx([*wanted["possible"], *wanted["share"]])


BAD = {
    "another method": ({"method": "lora"}, {}, "set method to 'filter-subspace', not 'lora'"),
    "no budget": ({}, {"budgets": []}, "budgets is empty; it must be a list of at least one"),
    "no seed": ({}, {"seeds": []}, "seeds is empty; it must be a list of at least one"),
    "a budget in words": ({}, {"budgets": ["many"]}, "'many' is no number of parameters"),
}


@pytest.mark.parametrize(("changed", "options", "message"), BAD.values(), ids=BAD)
def test_bad_studies_are_named(tiny, tmp_path, changed, options, message):
    with pytest.raises(FiltersubError, match=message):
        studies.allotment_study(tmp_path / "out", TuneSettings(**{**tiny, **changed}), n_images=20, **options)


def test_the_command_writes_what_tune_takes(tiny, tmp_path):
    small = ["--weights", tiny["weights"], "--budget", "600", "--image-size", "16", "--images", "20"]
    command = ["suggest", "test_resnet", *small, "--by-layer", "--out", str(tmp_path / "choice.yaml"), "--json"]
    value = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)
    settings = TuneSettings(**{**tiny, **read_for_tuning(tmp_path / "choice.yaml")})
    assert settings.overrides.keys() == value["overrides"].keys()
    model = load_model("test_resnet", pretrained=False, num_classes=10)
    counted = count_parameters(model, recipe=settings.recipe, overrides=settings.overrides, layers=settings.layers)
    assert counted.trainable == value["trainable"] <= 600
    assert sum(row["trainable"] for row in value["allotted"]) == value["trainable"]


REFUSED = {
    "no weights": ((), "needs weights: --weights FILE or --pretrained"),
    "a check": (("--check", "."), "leave it or --by-layer out"),
}


@pytest.mark.parametrize(("more", "message"), REFUSED.values(), ids=REFUSED)
def test_what_the_command_cannot_allot_is_said(tiny, more, message):
    weights = ("--weights", tiny["weights"]) if more else ()
    small = ("--image-size", "16", "--images", "20")
    command = ["suggest", "test_resnet", "--budget", "600", "--by-layer", *weights, *small, *more]
    with pytest.raises(FiltersubError, match=message):
        CliRunner().invoke(app, command, catch_exceptions=False)
