"""The study of what atoms could have learnt of full tuning: tables, sentence, figures, report, notebook."""

import pytest

from filtersub import plots, studies
from filtersub.collect import collect
from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.diagnostics import span_table
from filtersub.errors import FiltersubError
from filtersub.experiment import TuneSettings
from filtersub.experiment.tuned import load_pair
from filtersub.percentages import percentage
from filtersub.records import read_record
from filtersub.report.studies import study_sections

TINY = {"model": "test_resnet", "pretrained": False, "n_train": 50, "epochs": 1, "batch_size": 50, "image_size": 16}
SETTINGS = [{"solver": "pca"}, {"solver": "random", "block": 2}, {"solver": "pca", "block": 2, "per_channel": 2}]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("span")
    tuning = TuneSettings(**TINY, method="full")
    studies.span_study(out, tuning, atoms_grid=[1, 3], settings=SETTINGS, seeds=[0, 1])
    return out


@pytest.fixture(scope="module")
def tables(root):
    return studies.study_tables(root)


def test_totals_are_those_of_the_layers(tables):
    layers, totals = tables["layers"], tables["totals"]
    assert len(totals) == 2 * 2 * len(SETTINGS)
    assert set(totals["setting"]) == {"pca", "random, 2×2 blocks", "pca, 2×2 blocks, m₁=2 per channel"}
    for (setting, m, seed), rows in layers.groupby(["setting", "m", "seed"]):
        asked = (totals["setting"] == setting) & (totals["m"] == m) & (totals["seed"] == seed)
        (total,) = totals[asked].to_dict("records")
        assert total["share"] == pytest.approx((rows["energy"] * rows["share"]).sum() / rows["energy"].sum())
        assert total["free"] == rows["free"].sum()
        assert total["share_of_all"] == pytest.approx(total["share"] * total["covered"])
    covered = totals.groupby("block")["covered"].agg(["min", "max"])
    assert covered.loc["2×2", "min"] == pytest.approx(1)
    assert covered.loc["none", "max"] < 1  # the 1x1 kernels of the shortcuts change too
    grown = totals.groupby(["setting", "seed", "m"])["share"].mean().unstack()
    assert (grown[3] > grown[1]).all()


def test_random_coefficients_reach_what_chance_does_and_own_channels_more(tables):
    totals = tables["totals"].set_index(["setting", "m", "seed"])
    chance = totals.loc["random, 2×2 blocks"]
    assert (chance["share"] / chance["expected"]).to_numpy() == pytest.approx(1, abs=0.15)
    own = totals.loc["pca, 2×2 blocks, m₁=2 per channel"]
    assert (own["share"] <= own["at_most"]).all()
    assert (own["free"] > chance["free"]).all()


def test_each_run_stands_beside_its_own_base(root, tables):
    """Random weights differ by seed: the shares are those of the run's own base model."""
    base, tuned, settings = load_pair(root / "tuned" / "full-seed1")
    assert settings.seed == 1
    found = decompose_model(base, DecompositionConfig(atoms=3, solver="pca"), exclude=("fc",))
    again = span_table(base, tuned, found)
    layers = tables["layers"]
    kept = layers[(layers["setting"] == "pca") & (layers["m"] == 3) & (layers["seed"] == 1)]
    assert kept["share"].to_numpy() == pytest.approx(again["share"].to_numpy(), rel=1e-9)


def test_finished_runs_are_read_instead(root, tmp_path):
    tuning = TuneSettings(**TINY, method="full")
    record = studies.span_study(tmp_path, tuning, atoms_grid=[3], settings=SETTINGS[:1], tuned_runs=root / "tuned")
    assert not (tmp_path / "tuned").exists()
    assert record.parameters["seeds"] == [0, 1]
    assert record.parameters["model"] == "test_resnet"


def test_the_sentence_has_the_share_and_the_chance(tables):
    words = studies.span_sentence(tables["totals"])
    mean = tables["totals"].query("setting == 'pca' and m == 3")[["share", "expected"]].mean()
    assert f"pca: {percentage(mean['share'], 2)} (" in words
    assert (
        f"{mean['share'] / mean['expected']:.3g} times the {percentage(mean['expected'], 2)} of a random change"
        in words
    )
    assert "one seed" in studies.span_sentence(tables["totals"].query("seed == 0"))


@pytest.mark.parametrize("width", [7.4, 3.6])
def test_figures_draw_a_line_a_setting_and_a_mark_a_layer(tables, width):
    totals, layers = tables["totals"], tables["layers"]
    shares = plots.span_shares(totals, width=width)
    plain, blocks = shares.axes
    assert [ax.get_title(loc="left") for ax in shares.axes] == ["spatial kernels alone", "2×2 blocks of channels too"]
    drawn = [line for line in plain.lines if line.get_linestyle() == "-"]
    means = totals[totals["setting"] == "pca"].groupby("m")["share"].mean()
    assert drawn[0].get_ydata() == pytest.approx(means.to_numpy())
    assert len([line for line in blocks.lines if line.get_linestyle() == "-"]) == 2
    for ax, setting in zip(plots.span_layers(layers, width=width).axes, ("pca", "random, 2×2 blocks"), strict=True):
        shown = layers[(layers["m"] == 3) & (layers["setting"] == setting)]
        gains = (shown["share"] / shown["expected"]).groupby(shown["name"], sort=False).mean()
        assert ax.lines[1].get_ydata() == pytest.approx(gains.to_numpy())


def test_the_report_shows_it(root):
    (section,) = study_sections(collect(root))
    assert section.title == "What atoms could have learnt of full tuning"
    assert len(section.rows) == 2 * len(SETTINGS)
    assert all(isinstance(draw(width=7.4).axes, list) for draw, _ in section.figures)


BAD = {
    "another method": ({"tuning": TuneSettings(method="lora")}, "set method to 'full', not 'lora'"),
    "no settings": ({"settings": []}, "settings is empty"),
    "no m": ({"atoms_grid": []}, "atoms_grid is empty"),
    "no seeds": ({"seeds": []}, "seeds is empty"),
    "a misspelt setting": ({"settings": [{"solver": "pca"}, {"blok": 2}]}, "setting 2: 'blok'; did you mean 'block'"),
    "m in a setting": ({"settings": [{"atoms": 2}]}, "unknown name in setting 1: 'atoms'"),
    "blocks of alpha": (
        {"settings": [{"block_coefficients": True}]},
        "unknown name in setting 1: 'block_coefficients'",
    ),
    "no mapping": ({"settings": ["pca"]}, "setting 1 must map names to values, got 'pca'"),
    "m_1 of zero": ({"settings": [{"per_channel": 0}]}, "per_channel in setting 1 is m_1, a positive integer, got 0"),
    "no runs": ({"tuned_runs": "nowhere"}, "no run of full tuning at nowhere"),
}


@pytest.mark.parametrize(("changed", "message"), BAD.values(), ids=BAD)
def test_bad_studies_are_named(changed, message, tmp_path):
    options = {"tuning": TuneSettings(**TINY, method="full"), **changed}
    with pytest.raises(FiltersubError) as raised:
        studies.span_study(tmp_path / "out", options.pop("tuning"), **options)
    assert message in str(raised.value)


def test_runs_of_other_methods_are_passed_over(root, tmp_path):
    record = read_record(root / "tuned" / "full-seed0")
    record.parameters["method"] = "lora"
    record.write(tmp_path)
    with pytest.raises(FiltersubError, match="no run of full tuning"):
        studies.span_study(tmp_path / "out", TuneSettings(**TINY, method="full"), tuned_runs=tmp_path)
