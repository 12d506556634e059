"""Settings within a budget, and the criterion that ranks them."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from filtersub import ranking
from filtersub.decomposition import DecompositionConfig, decompose_weight
from filtersub.errors import FiltersubError
from filtersub.kernels import layout_of
from filtersub.parameters import GradientEnergy, count_parameters, load_architecture, parse_budget, suggest_settings
from filtersub.parameters.criterion import principal_energy, projected_energy
from filtersub.ranking import agreement, gradient_energy, spearman
from filtersub.records import read_records

SAMPLE = Path(__file__).parent.parent / "reports" / "sample"


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("300k", 300_000),
        ("1.2M", 1_200_000),
        ("0.5%", 5_000),
        ("0.5 %", 5_000),
        ("100%", 10**6),
        (250, 250),
        ("2e5", 200_000),
        ("1,000", 1000),
    ],
)
def test_budgets(text, budget):
    assert parse_budget(text, 10**6) == budget


@pytest.mark.parametrize("text", ["abc", "", "-5", "3kk", "5 %%", "nan"])
def test_budgets_that_are_none(text):
    with pytest.raises(FiltersubError, match="no number of parameters"):
        parse_budget(text, 10**6)


def test_a_budget_of_nothing():
    with pytest.raises(FiltersubError, match="allows no parameter"):
        parse_budget("0", 10**6)


@pytest.mark.parametrize("budget", [200, 5_000, 300_000])
@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny"])
def test_each_suggestion_counts_what_it_says_and_keeps_the_budget(name, budget):
    model = load_architecture(name)
    found = suggest_settings(model, budget)
    assert len(found) > (budget > 1000)
    for suggestion in found:
        counted = count_parameters(model, recipe=suggestion.recipe, layers=suggestion.layers)
        assert suggestion.trainable == counted.trainable <= budget
        assert suggestion.n_layers == len(counted.layers)
        assert "count alone" in suggestion.why
    assert [s.trainable for s in found] == sorted((s.trainable for s in found), reverse=True)


def test_a_budget_that_nothing_meets_names_the_smallest():
    model = load_architecture("resnet18")
    with pytest.raises(FiltersubError, match=r"at most 3 parameters; the smallest possible, m = 1 on .*, trains 36"):
        suggest_settings(model, 3)
    assert min(s.trainable for s in suggest_settings(model, 36)) == 36


def test_a_model_without_spatial_kernels():
    found = suggest_settings(nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16)), 10_000)
    assert all(s.recipe.block is not None for s in found)


def test_the_layers_can_be_narrowed():
    found = suggest_settings(load_architecture("resnet18"), 100_000, layers=r"layer4")
    assert {s.layers for s in found} == {"layer4"}


def test_the_better_score_comes_first_and_the_cheaper_among_equals():
    model = load_architecture("resnet18")
    found = suggest_settings(model, 50_000, score=lambda recipe, names: -float(recipe.atoms))
    assert {s.recipe.atoms for s in found} == {1}
    flat = suggest_settings(model, 50_000, score=lambda recipe, names: 0.5)
    assert [s.trainable for s in flat] == sorted(s.trainable for s in flat)
    assert "follow 50.00\N{NO-BREAK SPACE}% of the energy" in flat[0].why


def test_energy_of_principal_codes_needs_no_codes():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, 9, generator=generator, dtype=torch.float64)
    gradient = torch.randn(50, 9, generator=generator, dtype=torch.float64)
    _, _, v = torch.linalg.svd(rows)
    for m in (1, 4, 9):
        assert principal_energy(rows, gradient, m) == pytest.approx(projected_energy(rows @ v[:m].T, gradient))


def test_energy_is_that_of_an_orthogonal_projection():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(40, 6, generator=generator, dtype=torch.float64)
    gradient = torch.randn(40, 9, generator=generator, dtype=torch.float64)
    q, _ = torch.linalg.qr(codes)
    assert projected_energy(codes, gradient) == pytest.approx(float((q.T @ gradient).square().sum()))
    assert projected_energy(torch.cat([codes, codes], 1), gradient) == pytest.approx(projected_energy(codes, gradient))
    assert projected_energy(torch.eye(40, dtype=torch.float64), gradient) == pytest.approx(
        float(gradient.square().sum())
    )


@pytest.fixture
def scored(every_kind, images):
    """In float64: a saturated cross-entropy leaves float32 gradients four digits, which the processor decides."""
    labels, images = torch.tensor([0, 1, 2, 3]), images.double()
    return GradientEnergy(every_kind.double(), images, labels, batch_size=2), images, labels


def test_captured_energy_is_the_squared_gradient_of_orthonormal_atoms(scored):
    """With alpha made orthonormal, ||dL/dD||^2 is what the criterion says of the span of alpha."""
    energy, images, labels = scored
    model, recipe = energy.model, DecompositionConfig(solver="pca", atoms=3)
    layout = layout_of("grouped", model.grouped)
    codes = decompose_weight(layout, model.grouped, recipe).coefficients
    q, _ = torch.linalg.qr(codes)
    atoms = torch.zeros(q.shape[1], layout.patch_size, requires_grad=True, dtype=q.dtype)
    weight = model.grouped.weight.detach() + layout.to_weight(q @ atoms)
    cross_entropy(functional_call(model, {"grouped.weight": weight}, (images,)), labels).backward()
    assert energy.captured(recipe, "grouped") == pytest.approx(float(atoms.grad.square().sum()), rel=1e-9)


def test_scores_grow_with_the_span_and_end_at_one(scored):
    energy, _, _ = scored
    names = ["strided", "grouped", "transposed"]
    scores = [energy.score(DecompositionConfig(solver="pca", atoms=m), names) for m in (1, 3, 9)]
    assert 0 < scores[0] < scores[1] < scores[2] <= 1
    assert energy.score(DecompositionConfig(), []) == 0
    more = energy.score(DecompositionConfig(solver="pca", atoms=3), [*names, "depthwise"])
    assert more > scores[1]
    everything = DecompositionConfig(atoms=10**4, solver="omp", nonzeros=1)  # as many atoms as rows: every direction
    assert energy.captured(everything, "volume") == pytest.approx(
        float(energy.model.volume.weight.grad.double().square().sum()), rel=1e-5
    )


def test_shared_expansion_spans_the_same_and_own_atoms_more(scored):
    energy, _, _ = scored
    plain = DecompositionConfig(solver="pca", atoms=2)
    shared = DecompositionConfig(solver="pca", atoms=2, expansion=3)
    own = DecompositionConfig(solver="pca", atoms=2, expansion=3, expansion_coefficients="per-channel")
    assert energy.captured(shared, "strided") == energy.captured(plain, "strided")
    assert energy.captured(own, "strided") > energy.captured(plain, "strided")


def test_pointwise_layers_need_blocks(scored):
    energy, _, _ = scored
    assert energy.captured(DecompositionConfig(), "mix") == 0
    assert energy.captured(DecompositionConfig(block=2), "mix") > 0


def test_a_model_without_a_head_has_no_gradient_to_rank_by():
    with pytest.raises(FiltersubError, match="no classification head"):
        GradientEnergy(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), torch.ones(2, 4), torch.zeros(2, dtype=torch.int64))


def test_spearman_is_scipys():
    one, other = pd.Series([0.1, 0.5, 0.5, 0.9, 0.2]), pd.Series([3.0, 1.0, 2.0, 9.0, 2.0])
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert spearman(one[:1], other[:1]) != spearman(one[:1], other[:1])


@pytest.mark.slow
def test_the_ranking_beside_the_quickstart_ablation(tmp_path):
    """The correlation is whatever the records say; what is checked is that it is theirs, of however few images."""
    records = [r for r in read_records(SAMPLE)[0].values() if r.kind == "tuning"]
    for index, record in enumerate(records):  # a few rounds of learning give atoms to rank, too
        (tmp_path / str(index)).mkdir()
        replace(record, parameters={**record.parameters, "max_rounds": 20}).write(tmp_path / str(index))
    energy = gradient_energy("efficientnet_lite0", image_size=32, n_images=20)
    found = agreement(energy, [tmp_path], "efficientnet_lite0")
    table = found.table.set_index("label")
    assert set(table.index) == {record.label for record in records}
    for label, setting in table.iterrows():
        accuracies = [record.metrics["test_accuracy"] for record in records if record.label == label]
        assert setting["runs"] == len(accuracies) > 1
        assert setting["accuracy"] == pytest.approx(sum(accuracies) / len(accuracies))
    assert table.loc["linear probing", "score"] == 0
    assert table.loc["full tuning", "score"] == 1
    assert found.spearman == pytest.approx(spearmanr(table["score"], table["accuracy"]).statistic)
    assert f"{found.spearman:.3f}" in found.sentence


@pytest.mark.parametrize("n_images", [0, -1, 1.5, True, "3"])
def test_a_wrong_number_of_images_is_refused_before_the_model_is_loaded(n_images, monkeypatch):
    monkeypatch.setattr(ranking, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(FiltersubError, match="n_images must be"):
        gradient_energy("efficientnet_lite0", n_images=n_images)


def test_only_runs_of_one_regime_are_compared(tmp_path, scored):
    """Two runs of more epochs than the other four say nothing of the ranking."""
    for index, (epochs, method) in enumerate([(9, "linear"), (9, "full"), *[(3, m) for m in ("linear", "full") * 2]]):
        record = next(record for record in read_records(SAMPLE)[0].values() if record.kind == "tuning")
        settings = {**record.parameters, "model": "m", "method": method, "epochs": epochs}
        (tmp_path / str(index)).mkdir()
        metrics, label = {"test_accuracy": 0.1 * index}, f"{method} {index}"
        replace(record, kind="tuning", label=label, parameters=settings, metrics=metrics, tables={}).write(
            tmp_path / str(index)
        )
    table = agreement(scored[0], [tmp_path], "m").table
    assert sorted(table["label"]) == ["full 3", "full 5", "linear 2", "linear 4"]


def test_too_few_records_to_rank(tmp_path, scored):
    with pytest.raises(FiltersubError, match="holds 0 tuned settings"):
        agreement(scored[0], [tmp_path], "efficientnet_lite0")
