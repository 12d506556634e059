"""The part of a change that lies in the span of frozen coefficients, against projections written out by hand."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from filtersub import diagnostics
from filtersub.decomposition import DecompositionConfig, decompose_model
from filtersub.errors import FiltersubError
from filtersub.kernels import kernel_matrix, named_layers

WIDTH, INPUTS, ATOMS, D = 24, 10, 4, 9  # output channels, input channels, m, d


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(codes, change):
    """||alpha alpha^+ dW||^2 / ||dW||^2 by numpy's pseudo-inverse: the whole projector is formed."""
    projected = codes.numpy() @ np.linalg.pinv(codes.numpy()) @ change.numpy()
    return (projected**2).sum() / (change.numpy() ** 2).sum()


CODES = random(WIDTH * INPUTS, ATOMS)
OWN_ATOMS = random(INPUTS, ATOMS, D, seed=1)  # of each input channel


def of_own_atoms(codes, own):
    """sum_i alpha[(o, c), i] D[c, i], row by row."""
    rows = [
        sum(codes[o * INPUTS + c, i] * own[c, i] for i in range(own.shape[1])) for o, c in np.ndindex(WIDTH, INPUTS)
    ]
    return torch.stack(rows)


def test_a_change_of_atoms_is_reached_whole():
    found = diagnostics.reach(CODES, CODES @ random(ATOMS, D, seed=2))
    assert found.share == pytest.approx(1, abs=1e-12)
    assert (found.rank, found.free, found.expected) == (ATOMS, ATOMS * D, ATOMS / (WIDTH * INPUTS))


def test_of_a_change_orthogonal_to_the_coefficients_nothing_is_reached():
    change = random(WIDTH * INPUTS, D, seed=3)
    change -= CODES @ torch.linalg.pinv(CODES) @ change
    assert diagnostics.reach(CODES, change).share == pytest.approx(0, abs=1e-20)


def test_of_a_random_change_rank_over_rows_is_reached():
    shares = [diagnostics.reach(CODES, random(WIDTH * INPUTS, D, seed=seed)).share for seed in range(200)]
    expected = ATOMS / (WIDTH * INPUTS)
    deviation = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - expected) < 4 * deviation < 0.1 * expected


DEPENDENT = {
    "a repeated atom": torch.cat([CODES, CODES[:, :1]], 1),
    "a dead atom": torch.cat([CODES, torch.zeros_like(CODES[:, :2])], 1),
    "a sum of others": torch.cat([CODES, CODES.sum(1, keepdim=True)], 1),
    "rounded to float32": torch.cat([CODES, CODES.sum(1, keepdim=True)], 1).float(),
    "of very different sizes": CODES * torch.tensor([1.0, 1e-4, 1e4, 1.0], dtype=torch.float64),
    "in reverse": CODES.flip(1),
}


@pytest.mark.parametrize("codes", DEPENDENT.values(), ids=DEPENDENT)
def test_coefficients_that_depend_on_each_other_reach_no_more(codes):
    change = random(WIDTH * INPUTS, D, seed=4) + CODES @ random(ATOMS, D, seed=5)
    found = diagnostics.reach(codes, change)
    assert found.rank == ATOMS
    assert found.share == pytest.approx(by_hand(CODES, change), rel=1e-5 if codes.dtype == torch.float32 else 1e-10)


def test_no_coefficients_reach_nothing_and_no_change_has_no_share():
    nothing = diagnostics.reach(torch.zeros(20, 3), random(20, D))
    assert (nothing.share, nothing.rank, nothing.free) == (0, 0, 0)
    assert np.isnan(diagnostics.reach(CODES, torch.zeros(WIDTH * INPUTS, D)).share)


def test_one_alpha_1_for_all_channels_reaches_what_plain_atoms_do():
    """Whatever dD is, dD_1[i, j] = alpha_1[i, j] dD[i] / ||alpha_1[i]||^2 gives it: nothing is gained or lost."""
    update, alpha_1 = random(ATOMS, D, seed=6), random(ATOMS, 3, seed=7)
    below = alpha_1[..., None] * update[:, None] / alpha_1.square().sum(1)[:, None, None]
    assert torch.einsum("ij,ijd->id", alpha_1, below) == pytest.approx(update.numpy())
    assert diagnostics.reach(CODES, CODES @ update).share == pytest.approx(1)


@pytest.mark.parametrize("m_1", [INPUTS, D, D + 3, 20])
def test_enough_atoms_for_every_channel_project_channel_by_channel(m_1):
    change = random(WIDTH * INPUTS, D, seed=8)
    found = diagnostics.reach(CODES, change, per_channel=m_1, channels=INPUTS)
    parts = [by_hand(CODES[c::INPUTS], change[c::INPUTS]) * change[c::INPUTS].square().sum() for c in range(INPUTS)]
    assert found.share == found.at_most == pytest.approx(float(sum(parts) / change.square().sum()), rel=1e-10)
    assert (found.rank, found.free) == (ATOMS * INPUTS, ATOMS * INPUTS * D)
    assert found.expected == ATOMS / WIDTH
    assert found.share > diagnostics.reach(CODES, change).share


@pytest.mark.parametrize("m_1", [1, 2, 5])
def test_few_atoms_for_every_channel_reach_changes_of_their_rank(m_1):
    alpha_1, below = random(INPUTS, ATOMS, m_1, seed=9), random(ATOMS, m_1, D, seed=10)
    change = of_own_atoms(CODES, torch.einsum("cij,ijd->cid", alpha_1, below))
    found = diagnostics.reach(CODES, change, per_channel=m_1, channels=INPUTS)
    assert found.share == pytest.approx(1, abs=1e-6)
    assert found.free == ATOMS * m_1 * (INPUTS + D - m_1)
    assert diagnostics.reach(CODES, change).share < 0.7


def test_more_atoms_for_every_channel_reach_more_between_plain_ones_and_free_ones():
    change = of_own_atoms(CODES, OWN_ATOMS) + random(WIDTH * INPUTS, D, seed=11)
    plain = diagnostics.reach(CODES, change).share
    grown = [diagnostics.reach(CODES, change, per_channel=m_1, channels=INPUTS) for m_1 in (1, 3, 6, 9)]
    shares = [plain, *(found.share for found in grown)]
    assert shares == sorted(shares)
    assert all(found.share <= found.at_most == grown[-1].share for found in grown)
    assert [found.expected for found in grown] == sorted(found.expected for found in grown)


def test_depthwise_kernels_have_one_channel_a_group_so_that_per_channel_is_plain():
    change = random(30, D, seed=12)
    plain, own = (diagnostics.reach(CODES[:30], change, per_channel=m_1) for m_1 in (None, 3))
    assert plain == own


BAD = {
    "rows differ": ((random(5, 2), random(6, 3)), {}, "got (5, 2) and (6, 3)"),
    "no atoms": ((random(6, 2), random(6, 3)), {"per_channel": 0}, "per_channel, m_1, must be at least 1, got 0"),
    "rows left over": ((random(6, 2), random(6, 3)), {"per_channel": 1, "channels": 4}, "6 rows do not divide"),
}


@pytest.mark.parametrize(("matrices", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(matrices, options, message):
    with pytest.raises(FiltersubError) as raised:
        diagnostics.reach(*matrices, **options)
    assert message in str(raised.value)


def changed(model, seed=0):
    """The model with every kernel moved a little, the base left alone."""
    tuned, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return tuned


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("solver", ["lasso", "pca"])
def test_layers_of_every_kind_have_their_row(every_kind, solver, block):
    tuned = changed(every_kind)
    found = decompose_model(every_kind, DecompositionConfig(atoms=2, solver=solver, block=block, max_rounds=5))
    table = diagnostics.span_table(every_kind, tuned, found).set_index("name")
    assert list(table.index) == list(found.layers)
    before, after = dict(named_layers(every_kind)), dict(named_layers(tuned))
    for name, row in table.iterrows():
        layout = found.layers[name].layout
        change = kernel_matrix(layout, after[name]).double() - kernel_matrix(layout, before[name]).double()
        codes = found.layers[name].coefficients.double()
        assert row["share"] == pytest.approx(by_hand(codes, change), rel=1e-6)
        assert row["rank"] == np.linalg.matrix_rank(codes.numpy(), rtol=1e-6)
        assert row["expected"] == row["rank"] / layout.n_rows
        assert row["free"] == row["rank"] * layout.patch_size <= row["trained"]
    total = diagnostics.span_total(table.reset_index()).iloc[0]
    whole = sum(float((after[n].weight - before[n].weight).detach().square().sum()) for n in table.index)
    assert total["energy"] == pytest.approx(whole, rel=1e-5)
    assert table["share"].min() <= total["share"] <= table["share"].max()
    assert total["trained"] == sum(layer.atoms.numel() for layer in found.layers.values())


def test_of_principal_coefficients_the_singular_values_tell(every_kind):
    """alpha = U S of the leading m directions, so of a change c F the first m squared singular values are reached."""
    scaled = copy.deepcopy(every_kind).double()
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter *= 1.25
    base = copy.deepcopy(every_kind).double()
    found = decompose_model(base, DecompositionConfig(atoms=3, solver="pca"), layers="stem|strided")
    for row in diagnostics.span_table(base, scaled, found).itertuples():
        squares = (
            np.linalg.svd(found.layers[row.name].layout.to_rows(dict(named_layers(base))[row.name].weight.detach()))[1]
            ** 2
        )
        assert row.share == pytest.approx(squares[:3].sum() / squares.sum(), rel=1e-10)
        assert row.relative_change == pytest.approx(0.25)


def test_a_model_tuned_by_atoms_alone_is_reached_whole(every_kind):
    from peft import get_peft_model

    from filtersub import FilterSubspaceConfig

    recipe = {"atoms": 3, "block": 2, "solver": "pca"}
    found = decompose_model(every_kind, DecompositionConfig(**recipe), exclude=("classifier",))
    tuned = get_peft_model(copy.deepcopy(every_kind), FilterSubspaceConfig(**recipe, modules_to_save=["classifier"]))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "filtersub_atoms" in name:
                parameter += random(*parameter.shape, seed=3).float()
    table = diagnostics.span_table(every_kind, tuned.merge_and_unload(), found)
    assert len(table) == len(found.layers) == 9
    assert table["share"].to_numpy() == pytest.approx(1, abs=1e-9)
    assert isinstance(table, pd.DataFrame)


def test_models_that_do_not_belong_together_are_named(every_kind):
    found = decompose_model(every_kind, DecompositionConfig(atoms=2, solver="pca"), layers="stem")
    with pytest.raises(FiltersubError, match="'stem' of the base model is not the one that was decomposed"):
        diagnostics.span_table(changed(every_kind), every_kind, found)
    with pytest.raises(FiltersubError, match="tuned model has no layer 'stem'"):
        diagnostics.span_table(every_kind, {"other": torch.zeros(2, 2, 3, 3)}, found)
    with pytest.raises(FiltersubError, match="'stem' has shape"):
        diagnostics.span_table(every_kind, {"stem": torch.zeros(2, 2, 3, 3)}, found)


def test_blocks_of_alpha_reach_beyond_its_span_and_are_refused(every_kind):
    recipe = DecompositionConfig(atoms=2, solver="pca", block=2, block_coefficients=True)
    found = decompose_model(every_kind, recipe, layers="stem")
    with pytest.raises(FiltersubError, match="'stem' has blocks of alpha, whose updates leave the span"):
        diagnostics.span_table(every_kind, changed(every_kind), found)
