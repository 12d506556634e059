"""Atoms made of atoms: each level against its equation, written out."""

import pytest
import torch
from conftest import SPATIAL, planted

from filtersub.decomposition import DecompositionConfig, ModelDecomposition, decompose_model, decompose_weight, expand
from filtersub.decomposition.expansion import combine, squared_residual
from filtersub.errors import FiltersubError
from filtersub.kernels import layout_of


def channel_problem(outs=40, channels=6, m=4, d=9, seed=0):
    """Rows in (o, c) order, sparse codes over common atoms that do not reconstruct them exactly."""
    rows, atoms, codes = planted(outs * channels, m, d, 2, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    return rows + 0.3 * torch.randn(rows.shape, generator=generator, dtype=rows.dtype), atoms, codes


def relative(rows, rebuilt):
    return float((rows - rebuilt).norm() / rows.norm())


@pytest.mark.parametrize("sizes", [(3,), (3, 2), (2, 3, 2), (1,)])
def test_shared_levels_give_the_atoms_above_exactly(sizes):
    rows, atoms, codes = channel_problem()
    levels = expand(rows, codes, atoms, sizes, seed=3)
    above = atoms
    for depth, level in enumerate(levels):
        shape = (4, *sizes[: depth + 1])
        assert level.coefficients.shape == shape
        assert level.atoms.shape == (*shape, 9)
        assert not level.per_channel
        product = torch.einsum("...j,...jd->...d", level.coefficients, level.atoms)
        torch.testing.assert_close(product, above)
        assert level.atoms_error < 1e-12
        assert level.weight_error == pytest.approx(relative(rows, codes @ atoms), rel=1e-9)
        above = level.atoms


def test_shared_levels_are_of_least_norm():
    """Of all D_1 with alpha_1 x D_1 = D the pseudo-inverse gives the one of least norm."""
    rows, atoms, codes = channel_problem()
    (level,) = expand(rows, codes, atoms, (3,))
    for i in range(4):
        expected = torch.linalg.pinv(level.coefficients[i][None]) @ atoms[i][None]
        torch.testing.assert_close(level.atoms[i], expected)


def test_per_channel_level_follows_its_equation_entry_by_entry():
    rows, atoms, codes = channel_problem()
    (level,) = expand(rows, codes, atoms, (2,), channels=6)
    assert level.per_channel
    assert level.coefficients.shape == (6, 4, 2)
    assert level.atoms.shape == (4, 2, 9)
    rebuilt = torch.zeros_like(rows)
    for row in range(rows.shape[0]):
        for i in range(4):
            for j in range(2):
                rebuilt[row] += codes[row, i] * level.coefficients[row % 6, i, j] * level.atoms[i, j]
    assert level.weight_error == pytest.approx(relative(rows, rebuilt), rel=1e-9)


def test_enough_atoms_per_channel_are_the_least_squares_of_each_channel():
    """m_1 = d spans every D[c, i], so each channel has the least squares of its rows (but for the ridge)."""
    rows, atoms, codes = channel_problem()
    (level,) = expand(rows, codes, atoms, (9,), channels=6)
    squared = 0.0
    for c in range(6):
        mine, coded = rows[c::6], codes[c::6]
        squared += float((mine - coded @ torch.linalg.lstsq(coded, mine).solution).square().sum())
    assert level.weight_error**2 * float(rows.square().sum()) == pytest.approx(squared, rel=1e-3)


def test_atoms_per_channel_never_do_worse_than_more_of_them_and_beat_common_ones():
    rows, atoms, codes = channel_problem()
    errors = [expand(rows, codes, atoms, (m,), channels=6)[0].weight_error for m in (1, 2, 3, 6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < relative(rows, codes @ atoms)


def test_alternation_reaches_a_stationary_point_of_the_weight_error():
    """No small change of alpha_1 lowers the error by more than the alternation's last step left."""
    rows, atoms, codes = channel_problem()
    (level,) = expand(rows, codes, atoms, (2,), channels=6)
    alpha = level.coefficients.clone().requires_grad_(True)
    below = level.atoms.clone().requires_grad_(True)
    error = (rows - combine(codes, torch.einsum("cij,ijd->cid", alpha, below))).square().sum()
    error.backward()
    assert float(below.grad.abs().max()) < 1e-4 * float(error.detach())
    assert float(alpha.grad.abs().max()) < 0.05 * float(error.detach())


def test_fewer_rows_than_atoms_in_a_channel_stay_finite():
    rows, atoms, codes = channel_problem(outs=2)
    (level,) = expand(rows, codes, atoms, (3,), channels=6)
    assert bool(torch.isfinite(level.atoms).all())
    assert level.weight_error <= relative(rows, codes @ atoms)


def test_deeper_levels_below_a_per_channel_one():
    rows, atoms, codes = channel_problem()
    one, two = expand(rows, codes, atoms, (2, 3), channels=6)
    assert one.per_channel
    assert not two.per_channel
    assert two.atoms.shape == (4, 2, 3, 9)
    assert two.weight_error == pytest.approx(one.weight_error, rel=1e-9)


def test_residual_in_chunks_is_the_residual(monkeypatch):
    import filtersub.decomposition.expansion as module

    rows, atoms, codes = channel_problem()
    monkeypatch.setattr(module, "_ENTRIES", 153)
    expected = float((rows - codes @ atoms).square().sum())
    assert squared_residual(rows, codes, atoms) == pytest.approx(expected)
    many = atoms + torch.arange(6)[:, None, None]
    expected = float((rows - combine(codes, many)).square().sum())
    assert squared_residual(rows, codes, many) == pytest.approx(expected)


@pytest.mark.parametrize("coefficients", ["shared", "per-channel"])
@pytest.mark.parametrize("block", [None, (2, 2)])
def test_every_layer_kind_expands_saves_and_rebuilds(every_kind, tmp_path, coefficients, block):
    config = DecompositionConfig(
        atoms=3,
        block=block,
        block_spatial=True,
        expansion=(2, 2),
        expansion_coefficients=coefficients,
        expansion_layers="all",
    )
    found = decompose_model(every_kind, config, exclude=("classifier",))
    assert set(SPATIAL) <= set(found.layers)
    again = ModelDecomposition.load(found.save(tmp_path / "x.safetensors"), every_kind)
    for name, layer in found.layers.items():
        weight = every_kind.get_submodule(name).weight.detach()
        for depth in (1, 2):
            error = float((weight - layer.weight(depth)).norm() / weight.norm())
            assert error == pytest.approx(layer.levels[depth - 1].weight_error, abs=1e-5)
            assert torch.equal(again.layers[name].weight(depth), layer.weight(depth))
        if coefficients == "per-channel":
            assert layer.levels[0].coefficients.shape[0] == layer.layout.input_channels
    with pytest.raises(FiltersubError, match="levels 0 to 2, got 3"):
        layer.weight(3)


def test_layers_without_levels_are_rebuilt_beside_those_with_them(every_kind):
    """Atoms of 1x1 kernels and linear layers stay as they are unless all layers are expanded."""
    config = DecompositionConfig(atoms=3, block=2, expansion=(2, 2), max_rounds=2)
    found = decompose_model(every_kind, config, exclude=("classifier",))
    assert {name for name, layer in found.layers.items() if layer.levels} == set(SPATIAL)
    rebuilt = found.rebuild_(every_kind, level=2)
    for name, layer in found.layers.items():
        assert torch.equal(rebuilt.get_submodule(name).weight, layer.weight(2 if name in SPATIAL else 0))
    with pytest.raises(FiltersubError, match="levels 0 to 2, got 3"):
        found.rebuild_(every_kind, level=3)


def test_the_same_seed_gives_the_same_levels():
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    layout = layout_of("x", weight)
    one, two, other = (
        decompose_weight(layout, weight, DecompositionConfig(atoms=3, expansion=2, seed=seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one.levels[0].coefficients, two.levels[0].coefficients)
    assert not torch.equal(one.levels[0].coefficients, other.levels[0].coefficients)
