"""The kernels against plain references, each of at most 15 lines, on random and degenerate input."""

from itertools import product

import numpy as np
import pytest
import torch

from filtersub.engine import dictionary
from filtersub.engine.coordinate_descent import BLOCK, guess_codes
from filtersub.engine.lasso import pivot_table
from filtersub.sparse_coding import (
    constrained_lasso,
    lasso,
    lasso_objective,
    orthogonal_matching_pursuit,
    ridge_codes,
)

N_ATOMS, D = 5, 4


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def cases():
    """name -> atoms: random, and what makes Gram matrices singular (more atoms than dimensions do anyway)."""
    atoms = numbers(N_ATOMS, D)
    repeated, opposite, zero = atoms.copy(), atoms.copy(), atoms.copy()
    repeated[1], opposite[1], zero[2] = atoms[0], -atoms[0], 0
    line = np.outer(numbers(N_ATOMS), atoms[0])
    return {"random": atoms, "few": atoms[:3], "repeated": repeated, "opposite": opposite, "zero": zero, "line": line}


CASES = cases()
PENALTIES = (1e-3, 0.1, 1.0)


def least_objective(row, atoms, l1, nonnegative):
    """Of the LASSO of one row: every support with every choice of signs tried, those kept that suit their codes."""
    best = 0.5 * row @ row
    for signs in product((0, 1) if nonnegative else (-1, 0, 1), repeat=len(atoms)):
        on = np.flatnonzero(signs)
        if len(on) == 0 or np.linalg.matrix_rank(atoms[on]) < len(on):  # some optimal code has an independent support
            continue
        chosen, s = atoms[on], np.array(signs)[on]
        codes = np.linalg.solve(chosen @ chosen.T, chosen @ row - l1 * s)
        if (codes * s >= 0).all():
            best = min(best, 0.5 * np.sum((row - codes @ chosen) ** 2) + l1 * np.abs(codes).sum())
    return best


@pytest.mark.parametrize("many", [False, True], ids=["few atoms", "many atoms"])
@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_lasso_reaches_the_least_objective(name, nonnegative, many):
    rows = np.vstack([numbers(6, D, seed=1), np.zeros((1, D)), CASES[name][:1]])
    atoms = CASES[name]
    if many:  # more than the table holds: further atoms, too short to be of use
        atoms = np.vstack([atoms, 1e-6 * numbers(12, D, seed=2)])
    for l1 in PENALTIES:
        found = lasso(torch.from_numpy(rows), torch.from_numpy(atoms), l1, nonnegative=nonnegative)
        for row, codes in zip(rows, found.codes, strict=True):
            value = lasso_objective(torch.from_numpy(row[None]), torch.from_numpy(atoms), codes[None], l1)
            expected = least_objective(row, CASES[name], l1, nonnegative)
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert found.converged


@pytest.mark.parametrize("name", ["random", "few"])
def test_the_table_holds_the_inverse_of_each_independent_support(name):
    atoms = CASES[name]
    n_atoms, lanes = len(atoms), 8
    space = pivot_table.Space(n_atoms, D)
    space.gram[:n_atoms, :n_atoms], space.atoms_t[:, :n_atoms] = atoms @ atoms.T, atoms.T
    columns, dependent = pivot_table.build(space.gram[:n_atoms], space.atoms_t, space.columns, 1)
    table = columns[: 2**n_atoms * n_atoms * lanes].reshape(2**n_atoms, n_atoms, lanes)
    for members in range(2**n_atoms):
        on = [j for j in range(n_atoms) if members >> j & 1]
        off = [j for j in range(n_atoms) if j not in on]
        assert dependent[members] == (len(on) > D)
        if on and not dependent[members]:
            inverse = np.linalg.inv(atoms[on] @ atoms[on].T)
            np.testing.assert_allclose(table[members][np.ix_(on, on)], inverse, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(table[members][np.ix_(on, off)], inverse @ atoms[on] @ atoms[off].T, atol=1e-7)


@pytest.mark.parametrize("name", ["repeated", "opposite", "line"])
def test_the_table_holds_a_null_vector_of_each_dependent_support(name):
    atoms = CASES[name]
    space = pivot_table.Space(N_ATOMS, D)
    space.gram[:N_ATOMS, :N_ATOMS], space.atoms_t[:, :N_ATOMS] = atoms @ atoms.T, atoms.T
    columns, dependent = pivot_table.build(space.gram[:N_ATOMS], space.atoms_t, space.columns, 1)
    table = columns[: 2**N_ATOMS * N_ATOMS * 8].reshape(2**N_ATOMS, N_ATOMS, 8)
    for members in range(2**N_ATOMS):
        on = [j for j in range(N_ATOMS) if members >> j & 1]
        assert dependent[members] == (np.linalg.matrix_rank(atoms[on]) < len(on) if on else False)
        if dependent[members]:
            null = table[members, 0, :N_ATOMS]
            np.testing.assert_allclose(null[on] @ atoms[on], 0, atol=1e-9)
            assert np.abs(null).max() >= 1


def swept(gram, corr, codes, l1, nonnegative, sweeps):
    """Coordinate descent of one row."""
    codes = codes.copy()
    for _ in range(sweeps):
        for j in range(len(codes)):
            left = corr[j] - gram[j] @ codes + gram[j, j] * codes[j]
            shrunk = max(left - l1, 0.0) + (0.0 if nonnegative else min(left + l1, 0.0))
            codes[j] = shrunk / gram[j, j] if gram[j, j] > 0 else 0.0
    return codes


def prepared(atoms, dtype):
    """The Gram matrix without its diagonal, flat, and one over the diagonal, as the kernels take them."""
    gram = atoms @ atoms.T
    square = np.diagonal(gram).copy()
    inverse = np.divide(1.0, square, out=np.zeros_like(square), where=square > 0)
    return (gram - np.diag(square)).astype(dtype).reshape(-1), inverse.astype(dtype)


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_guess_is_coordinate_descent(name, nonnegative):
    atoms, l1, count = CASES[name], 0.1, 3
    corr = numbers(count, D, seed=1) @ atoms.T
    codes = np.zeros(len(atoms) * BLOCK, np.float32)
    l1_neg = np.inf if nonnegative else l1
    guess = (*prepared(atoms, np.float32), 4)
    guess_codes(corr.reshape(-1), len(atoms), guess, l1, l1_neg, len(atoms), count, np.zeros_like(codes), codes)
    for r in range(count):
        expected = swept(atoms @ atoms.T, corr[r], np.zeros(len(atoms)), l1, nonnegative, 4)
        np.testing.assert_allclose(codes.reshape(-1, BLOCK)[:, r], expected, atol=2e-5)


@pytest.mark.parametrize("n_rows", [1, 70])
@pytest.mark.parametrize("name", CASES)
def test_a_round_of_learning_is_coordinate_descent_and_its_sums(name, n_rows):
    atoms, l1 = CASES[name], 0.1
    rows, codes = numbers(n_rows, D, seed=1), numbers(n_rows, len(atoms), seed=2)
    codes[:, np.linalg.norm(atoms, axis=1) == 0] = 0
    pairs = zip(rows, codes, strict=True)
    expected = np.array([swept(atoms @ atoms.T, row @ atoms.T, code, l1, False, 2) for row, code in pairs])
    m, chunk_rows = len(atoms), 64
    counter, parts = np.zeros(1, np.int64), np.zeros((-(-n_rows // chunk_rows), m * (m + D) + 2))
    problem = atoms.reshape(-1), *prepared(atoms, float), l1, l1
    dictionary.sweep_rows(rows, codes, chunk_rows, counter, *problem, 2, parts)
    totals = parts.sum(0)
    np.testing.assert_allclose(codes, expected, atol=1e-10)
    sums = totals[:-2].reshape(m, m + D)
    np.testing.assert_allclose(np.tril(sums[:, :m]), np.tril(expected.T @ expected), atol=1e-9)
    np.testing.assert_allclose(sums[:, m:], expected.T @ rows, atol=1e-9)
    np.testing.assert_allclose(totals[-2:], [np.abs(expected).sum(), np.sum(rows**2)])


def test_a_sweep_over_atoms_puts_each_at_its_best_place():
    rows, codes, atoms = numbers(30, D), numbers(30, N_ATOMS, seed=1), numbers(N_ATOMS, D, seed=2)
    codes[:, 3] = 0  # a dead atom stays
    expected = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    moved = expected.copy()
    for j in [0, 1, 2, 4]:
        left = rows - codes @ expected + np.outer(codes[:, j], expected[j])
        expected[j] = codes[:, j] @ left / np.linalg.norm(codes[:, j] @ left)
    dictionary.sweep_atoms(codes.T @ codes, codes.T @ rows, moved, 1)
    np.testing.assert_allclose(moved, expected, atol=1e-12)


def pursued(row, atoms, count, by_error):
    """Orthogonal matching pursuit of one row; by_error: the atom joins that lowers the refitted error most."""

    def error(support):
        return np.sum((row - np.linalg.lstsq(atoms[support].T, row, rcond=None)[0] @ atoms[support]) ** 2)

    support, left, norms = [], row, np.linalg.norm(atoms, axis=1)
    for _ in range(count):
        others = [j for j in range(len(atoms)) if np.linalg.matrix_rank(atoms[[*support, j]]) > len(support)]
        if not others or np.linalg.norm(left) < 1e-10:
            break
        gain = [-error([*support, j]) if by_error else abs(left @ atoms[j]) / norms[j] for j in others]
        support.append(others[int(np.argmax(gain))])
        left = row - np.linalg.lstsq(atoms[support].T, row, rcond=None)[0] @ atoms[support]
    return np.linalg.norm(left)


@pytest.mark.parametrize("rule", ["correlation", "error"])
@pytest.mark.parametrize("name", CASES)
def test_pursuit_leaves_what_the_greedy_choice_leaves(name, rule):
    atoms, rows = CASES[name], numbers(20, D, seed=1)
    for count in (1, 2, 3):
        found = orthogonal_matching_pursuit(torch.from_numpy(rows), torch.from_numpy(atoms), count, rule=rule)
        left = np.linalg.norm(rows - found.codes.numpy() @ atoms, axis=1)
        expected = [pursued(row, atoms, count, rule == "error") for row in rows]
        np.testing.assert_allclose(left, expected, atol=1e-9)


@pytest.mark.parametrize("n_rows", [0, 1, 2, 3, 5, 70])
@pytest.mark.parametrize("name", CASES)
def test_linear_codes_and_what_they_reach(name, n_rows):
    atoms, rows, l2 = CASES[name], numbers(n_rows, D, seed=1), 0.3
    expected = rows @ atoms.T @ np.linalg.inv(atoms @ atoms.T + l2 * np.eye(len(atoms)))
    found = ridge_codes(torch.from_numpy(rows), torch.from_numpy(atoms), l2)
    np.testing.assert_allclose(found.codes.numpy(), expected, atol=1e-11)
    value = 0.5 * np.sum((rows - expected @ atoms) ** 2) + 0.5 * l2 * np.sum(expected**2)
    assert found.objective[-1] == pytest.approx(value, rel=1e-11)


def least_norm_within(row, atoms, bound):
    """The L1 norm of the penalised solution whose residual meets the bound, by bisection over the penalty."""
    low, high = 0.0, np.abs(atoms @ row).max()
    for _ in range(60):
        l1 = 0.5 * (low + high)
        codes = lasso(torch.from_numpy(row[None]), torch.from_numpy(atoms), l1).codes.numpy()[0]
        low, high = (low, l1) if np.linalg.norm(row - codes @ atoms) > bound else (l1, high)
    return np.abs(codes).sum()


@pytest.mark.parametrize("name", ["random", "few", "repeated", "zero"])
def test_a_path_is_left_where_it_meets_the_bound(name):
    atoms = CASES[name]
    rows = numbers(4, len(atoms), seed=1) @ atoms  # within reach
    bounds = 0.3 * np.linalg.norm(rows, axis=1)
    found = constrained_lasso(torch.from_numpy(rows), torch.from_numpy(atoms), torch.from_numpy(bounds)).codes.numpy()
    np.testing.assert_allclose(np.linalg.norm(rows - found @ atoms, axis=1), bounds, rtol=1e-8)
    expected = [least_norm_within(row, atoms, bound) for row, bound in zip(rows, bounds, strict=True)]
    np.testing.assert_allclose(np.abs(found).sum(1), expected, rtol=1e-8)
