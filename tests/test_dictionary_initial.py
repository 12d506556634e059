"""Starts of dictionary learning: directions of the data, fixed bases, and what they are completed by."""

import numpy as np
import pytest
import torch
from conftest import planted

from filtersub.dictionary import INITS, learn_dictionary
from filtersub.dictionary.starts import cosine_atoms, fourier_bessel_atoms, initial_atoms
from filtersub.errors import FiltersubError

ROWS, ATOMS, _ = planted(600, 6, 9, 1, seed=1)


def coherence(atoms):
    return float((atoms @ atoms.T - torch.eye(len(atoms), dtype=atoms.dtype)).abs().max())


@pytest.mark.parametrize("shape", [(1, 3, 3, 1), (5,), (2, 3, 4), (4, 4), (1, 1)])
def test_cosines_are_orthonormal_up_to_d(shape):
    atoms = cosine_atoms(shape, int(np.prod(shape)))
    torch.testing.assert_close(atoms @ atoms.T, torch.eye(len(atoms), dtype=torch.float64))
    torch.testing.assert_close(atoms[0], torch.full_like(atoms[0], len(atoms) ** -0.5))


def test_cosines_agree_with_scipy():
    from scipy.fft import dctn

    atoms = cosine_atoms((3, 5), 15)
    spectrum = dctn(np.arange(15.0).reshape(3, 5) ** 2, norm="ortho").reshape(-1)
    found = (atoms @ torch.arange(15, dtype=torch.float64).square()).numpy()
    np.testing.assert_allclose(np.sort(np.abs(found)), np.sort(np.abs(spectrum)), atol=1e-10)


@pytest.mark.parametrize("n_atoms", [10, 16, 36, 100])
def test_overcomplete_cosines_are_distinct_unit_vectors(n_atoms):
    atoms = cosine_atoms((1, 3, 3, 1), n_atoms)
    assert atoms.shape == (n_atoms, 9)
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(n_atoms, dtype=torch.float64))
    assert coherence(atoms) < 1 - 1e-6
    assert int(torch.linalg.matrix_rank(atoms)) == 9


def test_fourier_bessel_functions_become_orthogonal_on_fine_grids():
    coarse, fine = coherence(fourier_bessel_atoms(15, 20)), coherence(fourier_bessel_atoms(63, 20))
    assert fine < 0.005
    assert fine < coarse < 0.05


def test_fourier_bessel_functions_begin_with_the_lowest_wave():
    first = fourier_bessel_atoms(5, 3)
    assert bool((first[0] >= 0).all())
    assert int(first[0].argmax()) == 12  # the centre
    turned = first[0].reshape(5, 5).rot90().reshape(-1)
    torch.testing.assert_close(turned, first[0])
    # the two of angular order one are each other's quarter turn
    torch.testing.assert_close(first[1].reshape(5, 5).rot90().abs().reshape(-1), first[2].abs())


@pytest.mark.parametrize("size", [3, 5, 7])
def test_fourier_bessel_functions_span_what_lies_in_the_disk(size):
    atoms = fourier_bessel_atoms(size, 10**6)
    places = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    inside = int(((places[:, None] ** 2 + places**2).sqrt() < size / 2).sum())
    assert int(torch.linalg.matrix_rank(atoms)) == inside
    assert coherence(atoms) < 1 - 1e-6


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("n_atoms", [1, 6, 9, 14, 40])
def test_every_start_gives_the_number_of_unit_atoms_asked_for(init, n_atoms):
    atoms, notes = initial_atoms(ROWS.float(), n_atoms, init, np.random.default_rng(0), (1, 3, 3, 1))
    assert atoms.shape == (n_atoms, 9)
    assert atoms.dtype == torch.float32
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(n_atoms))
    known = {"pca": 9, "fourier-bessel": len(fourier_bessel_atoms(3, 10**6))}.get(init, n_atoms)
    assert bool(notes) == (n_atoms > known)


def test_completion_is_noted_in_the_result():
    learned = learn_dictionary(ROWS, 12, l1_penalty=0.05, init="pca", max_rounds=2)
    assert learned.notes == ("init 'pca' has 9 atoms for patches of 9; the other 3 are random rows",)


def test_spread_rows_find_every_direction_before_any_twice():
    rows = torch.eye(5, dtype=torch.float64).repeat(50, 1) * torch.tensor([[1.0], [-2.0]]).repeat(125, 1).double()
    for seed in range(5):
        atoms, _ = initial_atoms(rows, 5, "kmeans++", np.random.default_rng(seed), None)
        torch.testing.assert_close(atoms.abs().sum(0), torch.ones(5, dtype=torch.float64))
    more, _ = initial_atoms(rows, 8, "kmeans++", np.random.default_rng(0), None)
    torch.testing.assert_close(more.norm(dim=1), torch.ones(8, dtype=torch.float64))


@pytest.mark.parametrize("init", INITS)
def test_learning_from_every_start_lowers_the_objective(init):
    rows, _, _ = planted(600, 6, 9, 2, seed=1)
    begin = learn_dictionary(rows, 6, l1_penalty=0.05, init=init, patch_shape=(1, 3, 3, 1), max_rounds=0)
    learned = learn_dictionary(rows, 6, l1_penalty=0.05, init=init, patch_shape=(1, 3, 3, 1))
    assert learned.objective[-1] < 0.95 * begin.objective[-1]


@pytest.mark.parametrize("shape", [(2, 3, 3, 1), (3, 3, 3), (9,), (1, 9)])
def test_fourier_bessel_atoms_are_for_square_spatial_kernels_alone(shape):
    rows = torch.randn(60, int(np.prod(shape)))
    with pytest.raises(FiltersubError, match="square spatial"):
        initial_atoms(rows, 4, "fourier-bessel", np.random.default_rng(0), shape)
