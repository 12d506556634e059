"""What the varied parameters do, against numbers written out by hand."""

import math

import pandas as pd
import pytest
import torch
from scipy import stats
from test_report import ENVIRONMENT, NBSP, page_of, words_of

from filtersub.collect import collect
from filtersub.decomposition import DecompositionConfig
from filtersub.dictionary import learn_dictionary
from filtersub.records import Record
from filtersub.report import convergence_sentence, seed_sentence
from filtersub.report.effect_words import effect_sentences, headline
from filtersub.report.effects import all_effects, enough, level_text, parameter_effects

#: 97.5 % quantiles of Student's t distribution by degrees of freedom, from a printed table
T = {1: 12.706205, 2: 4.302653, 3: 3.182446, 5: 2.570582}


def record_of(parameters, value, seed=0, *, kind="tuning", measure="test_accuracy", trainable=100):
    return Record(
        kind=kind,
        label="run",
        parameters={**parameters, "seed": seed},
        seed=seed,
        metrics={measure: value},
        counts={"trainable": trainable, "head": 10, "total": 1000},
        cost={},
        environment=ENVIRONMENT,
    )


def tuned(value, seed=0, **parameters):
    return record_of({"method": "filter-subspace", **parameters}, value, seed, trainable=100 * parameters["atoms"])


def effects_of(records, measure="test_accuracy"):
    return parameter_effects(records, measure, "runs")


def plain(texts):
    return " ".join(texts).replace(NBSP, " ")


# m = 6 and 9, k_c = 2 and 4, two seeds; from 6 to 9: +1, +3 points at k_c = 2, +5, +7 at k_c = 4
CROSSED = {
    (6, 2, 0): 0.70,
    (6, 2, 1): 0.72,
    (9, 2, 0): 0.71,
    (9, 2, 1): 0.75,
    (6, 4, 0): 0.80,
    (6, 4, 1): 0.81,
    (9, 4, 0): 0.85,
    (9, 4, 1): 0.88,
}


@pytest.fixture
def crossed():
    return [tuned(value, seed, atoms=m, block=k) for (m, k, seed), value in CROSSED.items()]


def test_an_effect_is_the_mean_of_paired_differences(crossed):
    found = effects_of(crossed)
    by_name = {factor.name: factor for factor in found.factors}
    [row] = by_name["atoms"].contrasts.to_dict("records")
    # +1, +3, +5, +7 points: mean 4, standard deviation sqrt(20 / 3), standard error that over sqrt(4)
    error = math.sqrt(20 / 3) / 2 / 100
    assert (row["first"], row["second"], row["pairs"]) == ("6", "9", 4)
    assert row["difference"] == pytest.approx(0.04)
    assert row["low"] == pytest.approx(0.04 - T[3] * error, abs=1e-8)
    assert row["high"] == pytest.approx(0.04 + T[3] * error, abs=1e-8)
    # t = 0.04 / error, three degrees of freedom: P(|t| > x) = 1 - 2/pi (atan(u) + u / (1 + u²)), u = x/sqrt(3)
    u = 0.04 / error / math.sqrt(3)
    assert row["p_value"] == pytest.approx(1 - 2 / math.pi * (math.atan(u) + u / (1 + u * u)), abs=1e-9)
    assert by_name["block"].levels["mean"].tolist() == pytest.approx([0.72, 0.835])
    assert [factor.name for factor in found.factors] == ["block", "atoms"]  # 11.5 points before 4


def test_the_largest_interaction_is_a_difference_of_differences(crossed):
    found = effects_of(crossed).interaction
    assert (found.first, found.second) == ("atoms", "block")
    assert found.effects == pytest.approx((0.02, 0.06))
    assert found.difference == pytest.approx(0.04)  # +4 points at either seed, so there is nothing to test by
    assert math.isnan(found.p_value)
    assert "the effect from m = 6 to 9 is +2.0 at k_c = 2 and +6.0 at k_c = 4, a difference of +4.0 points" in plain(
        effect_sentences(effects_of(crossed))
    )


def test_the_largest_interaction_is_corrected_for_the_choice_among_all_pairs_of_parameters():
    noise = [0.0, 0.011, -0.007, 0.004]
    runs = {
        (m, block, penalty, seed): 0.5
        + 0.04 * (m == 9) * (block == 4)
        + 0.001 * ((seed + 1) * (m == 9) + seed * seed * (block == 4)) * (penalty == 0.1)
        + noise[seed] * (m == 9) * (block == 4)
        for m in (6, 9)
        for block in (2, 4)
        for penalty in (0.01, 0.1)
        for seed in range(4)
    }
    records = [tuned(value, s, atoms=m, block=b, weight_decay=w) for (m, b, w, s), value in runs.items()]
    found = effects_of(records).interaction
    assert (found.first, found.second, found.pairs) == ("atoms", "block", 8)
    # the p-value of the paired t test by scipy, times three interactions: it is the smallest of them
    gaps = [
        runs[9, 4, w, s] - runs[6, 4, w, s] - runs[9, 2, w, s] + runs[6, 2, w, s] for w in (0.01, 0.1) for s in range(4)
    ]
    others = [
        [
            runs[9, b, 0.1, s] - runs[6, b, 0.1, s] - runs[9, b, 0.01, s] + runs[6, b, 0.01, s]
            for b in (2, 4)
            for s in range(4)
        ],
        [
            runs[m, 4, 0.1, s] - runs[m, 2, 0.1, s] - runs[m, 4, 0.01, s] + runs[m, 2, 0.01, s]
            for m in (6, 9)
            for s in range(4)
        ],
    ]
    smallest = stats.ttest_1samp(gaps, 0).pvalue
    assert all(stats.ttest_1samp(other, 0).pvalue > smallest for other in others)
    assert found.p_value == pytest.approx(3 * smallest)


def test_holms_correction_says_which_values_are_told_apart_and_which_is_enough():
    means = {3: 0.60, 9: 0.80, 12: 0.801}
    noise = {3: [0.0, 0.01, -0.01], 9: [0.001, 0.0, -0.001], 12: [-0.001, 0.0, 0.001]}
    records = [tuned(means[m] + noise[m][seed], seed, atoms=m) for m in means for seed in range(3)]
    [factor] = effects_of(records).factors
    rows = {(row["first"], row["second"]): row for row in factor.contrasts.to_dict("records")}
    # differences 0.201, 0.19, 0.209 and 0.2, 0.191, 0.21 and -0.001, 0.001, 0.003; for two degrees of freedom
    # P(|t| > x) = 1 - x / sqrt(2 + x²)
    raw = {}
    for pair, gaps in {("3", "9"): (201, 190, 209), ("3", "12"): (199, 191, 211), ("9", "12"): (-1, 1, 3)}.items():
        mean = sum(gaps) / 3
        t = abs(mean) / math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / 2 / 3)
        raw[pair] = 1 - t / math.sqrt(2 + t * t)
    smallest, middle, largest = sorted(raw, key=raw.get)
    assert largest == ("9", "12")
    assert rows[smallest]["p_value"] == pytest.approx(3 * raw[smallest])
    assert rows[middle]["p_value"] == pytest.approx(max(3 * raw[smallest], 2 * raw[middle]))
    assert rows[largest]["p_value"] == pytest.approx(raw[largest])
    assert [pair for pair, row in rows.items() if row["significant"]] == [("3", "9"), ("3", "12")]
    level, best, _ = enough(effects_of(records), factor)
    assert (level["level"], best["level"]) == ("9", "12")
    text = plain(effect_sentences(effects_of(records)))
    assert "m = 9 is not told apart from the best, m = 12 (\N{MINUS SIGN}0.1 points" in text
    assert "and trains 25.0 % fewer parameters beside the head" in text


def test_nothing_is_enough_that_the_interval_tells_apart():
    """Two seeds: Holm's correction hides what the interval shows."""
    values = {(None, 0): 0.9, (None, 1): 0.901, (2, 0): 0.92, (2, 1): 0.924, (4, 0): 0.98, (4, 1): 0.9815}
    records = [
        record_of({"method": "filter-subspace", "block": k}, value, seed, trainable=1 + (k or 0))
        for (k, seed), value in values.items()
    ]
    [factor] = effects_of(records).factors
    # from none to 4: +8.00 and +8.05 points, so 8.025 ± 12.706 · 0.025; from none to 2: +2.0, +2.3; 2 to 4: +6.0, +5.75
    widest = factor.contrasts[factor.contrasts["second"] == "4"].iloc[0]
    assert widest["low"] == pytest.approx(0.08025 - T[1] * 0.00025, abs=1e-8)
    assert enough(effects_of(records), factor) is None


def test_what_never_varies_alone_is_left_to_what_it_changes_with():
    settings = [(6, None, "lasso", 0.03), (9, None, "lasso", 0.03), (9, 2, "pca", 0.02), (9, 4, "pca", 0.02)]
    records = [
        tuned(0.5 + n / 10 + seed / 1000, seed, atoms=m, block=k, solver=solver, learning_rate=rate)
        for n, (m, k, solver, rate) in enumerate(settings)
        for seed in (0, 1)
    ]
    found = effects_of(records)
    assert {factor.name for factor in found.factors} == {"atoms", "block"}
    assert found.following == {"solver": "block", "learning_rate": "block"}
    assert "solver and learning rate change together with k_c" in plain(effect_sentences(found))


def test_a_learning_rate_that_varies_alone_is_a_parameter():
    records = [tuned(0.5 + rate, atoms=m, learning_rate=rate) for m in (6, 9) for rate in (0.1, 0.2)]
    assert {factor.name for factor in effects_of(records).factors} == {"atoms", "learning_rate"}


@pytest.mark.parametrize(
    ("kind", "measure", "told"),
    [
        ("tuning", "test_accuracy", "test accuracy is 66.0 % at 0.1, 78.0 % at 0.2 and 90.0 % at 0.3"),
        ("own", "test_accuracy", "test accuracy is 66.0 % at 0.1, 78.0 % at 0.2 and 90.0 % at 0.3"),
        ("own", "relative_error", "relative error is 66.0 % at 0.1, 78.0 % at 0.2 and 90.0 % at 0.3"),
        ("tuning", "validation_accuracy", "validation accuracy is 66.0 % at 0.1, 78.0 % at 0.2 and 90.0 % at 0.3"),
        ("own", "depth", "depth is 0.66 at 0.1, 0.78 at 0.2 and 0.9 at 0.3"),
    ],
)
def test_a_notebook_of_ones_own_is_answered(tmp_path, kind, measure, told):
    for rate, value in ((0.1, 0.66), (0.2, 0.78), (0.3, 0.90)):
        record_of({"rate": rate}, value, kind=kind, measure=measure).write(tmp_path / f"rate{rate}")
    words = words_of(page_of(tmp_path))
    assert told in words
    assert "rate from 0.1 to 0.3: +" in words
    assert "one pair of runs, so whether that is noise is not known" in words
    assert "question stays open" not in words
    assert "filter atoms is there" not in words


def test_records_without_a_varied_parameter_are_told_by_their_means(tmp_path):
    for seed, value in enumerate((0.2, 0.4)):
        record_of({"rate": 1}, value, seed, kind="own", measure="gain").write(tmp_path / str(seed))
    half = T[1] * 0.1
    words = words_of(page_of(tmp_path)).replace("\N{MINUS SIGN}", "-")
    assert f"2 runs of kind own: gain 0.3 in the mean (95 % t interval {0.3 - half:.4g} to {0.3 + half:.4g})" in words


def test_many_values_of_a_number_are_told_by_their_rank_correlation():
    records = [record_of({"rate": rate / 10}, 0.5 + rate / 100) for rate in range(10)]
    [factor] = effects_of(records).factors
    assert factor.trend[0] == pytest.approx(1)
    assert "rank correlation +1.00 over 10 values" in plain(effect_sentences(effects_of(records)))


def test_pairs_that_differ_by_the_same_allow_no_test():
    records = [tuned(0.5 + 0.1 * (m == 9), seed, atoms=m) for m in (6, 9) for seed in (0, 1)]
    [factor] = effects_of(records).factors
    assert math.isnan(factor.contrasts["p_value"].iloc[0])
    assert "every pair differs by the same" in plain(effect_sentences(effects_of(records)))


def test_values_never_run_with_all_else_alike_are_not_compared():
    records = [tuned(0.5, 0, atoms=6), tuned(0.6, 1, atoms=9)]
    [factor] = effects_of(records).factors
    assert factor.contrasts.empty
    assert "no two of its 2 values were run with all else alike" in plain(effect_sentences(effects_of(records)))


def test_each_method_is_told_by_itself_and_atoms_come_first(tmp_path):
    for rank in (4, 8):
        record_of({"method": "lora", "rank": rank}, 0.5 + rank / 100).write(tmp_path / f"lora{rank}")
    for m in (6, 9):
        tuned(0.6 + m / 100, atoms=m).write(tmp_path / f"atoms{m}")
    found = all_effects(collect(tmp_path))
    assert [one.title for one in found] == ["filter atoms", "LoRA"]
    assert [[factor.name for factor in one.factors] for one in found] == [["atoms"], ["rank"]]
    assert "do to test accuracy: m from 6 to 9: +3.0 points" in headline(found).replace(NBSP, " ")


def test_tasks_are_no_parameters(tmp_path):
    records = [tuned(0.5 + m / 100 + (data == "b") / 5, atoms=m, data=data) for m in (6, 9) for data in "ab"]
    [factor] = effects_of(records).factors
    assert factor.name == "atoms"
    assert factor.contrasts["pairs"].tolist() == [2]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "none"), (0, "0"), (0.0010, "0.001"), (True, "True"), ([1, "a"], "1, a"), ("x", "x")]
)
def test_values_are_written_as_readers_do(value, text):
    assert level_text(value) == text


def test_the_words_on_convergence_are_those_of_its_figure_and_table():
    """The figure's lines end where the kept start stopped; the table's rounds are those of all starts together."""
    rounds = pd.DataFrame(
        [{"name": name, "round": n} for name, last in zip("abc", (3, 7, 20), strict=True) for n in range(last + 1)]
    )
    layers = pd.DataFrame({"converged": [True, False, True], "iterations": [3, 9, 30]})
    words = convergence_sentence(rounds, layers)
    assert "2 of 3 layers met the tolerance" in words
    assert "slowest layer coded all its kernels 20 times after the first, that of the median layer 7 times" in words
    assert "all starts and parts together took 3 to 30 rounds a layer, median 9" in words


def test_what_is_solved_in_closed_form_has_no_words_on_rounds():
    rounds = pd.DataFrame({"name": ["a", "b"], "round": [0, 0]})
    layers = pd.DataFrame({"converged": [True, True], "iterations": [0, 0]})
    assert convergence_sentence(rounds, layers) == "Every layer was solved in closed form, without rounds."


def test_a_seed_is_told_for_what_is_drawn_alone():
    words = {name: seed_sentence(DecompositionConfig(solver=name, seed=7)) for name in ("pca", "random", "omp")}
    assert words["pca"] == "Nothing is drawn for pca, so every seed gives the same."
    assert "one seed (7) of the coefficients" in words["random"]
    assert "one seed (7) of the initial atoms" in words["omp"]
    rows = torch.randn(48, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(learn_dictionary(rows, 4, solver="pca", seed=seed).atoms for seed in (0, 7)))
