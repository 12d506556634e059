"""Sparse and linear codes span different updates: why the paper's presets take sparse ones."""

import pytest
import torch

from filtersub.decomposition import DecompositionConfig, decompose_weight
from filtersub.kernels import KernelLayout
from filtersub.paper import READINGS, method_settings, parts
from filtersub.sparse_coding import SOLVERS

LAYOUT = KernelLayout("pointwise", "conv2d", (64, 64, 1, 1), 1, (4, 4))  # 256 rows of 16 entries, 144 atoms


def codes(solver):
    """alpha (256, atoms) of a random kernel."""
    weight = torch.randn(64, 64, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 8
    found = decompose_weight(LAYOUT, weight, DecompositionConfig(block=4, solver=solver, max_rounds=1))
    return found.coefficients.reshape(LAYOUT.n_rows, -1).double()


@pytest.mark.parametrize(("solver", "free"), [("lasso", 2_304), ("omp", 2_304), ("pca", 256)])
def test_updates_of_sparse_codes_have_nine_times_the_dimensions_of_linear_ones(solver, free):
    """Of a 4 x 4 blocked 1 x 1 kernel the maps dD -> alpha dD have rank(alpha) d dimensions: 144 x 16 and 16 x 16."""
    alpha = codes(solver)
    assert alpha.shape[1] * LAYOUT.patch_size == free
    assert int(torch.linalg.matrix_rank(alpha)) * LAYOUT.patch_size == free


def test_linear_updates_lie_in_the_rows_own_span():
    """alpha = F V: every update's rows are combinations of the kernel's patches, by one d x d matrix for all."""
    alpha = codes("pca")
    weight = torch.randn(64, 64, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 8
    rows = weight.reshape(16, 4, 16, 4).permute(0, 2, 1, 3).reshape(256, 16)
    update = alpha @ torch.randn(16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mixed = torch.linalg.lstsq(rows, update).solution
    assert torch.allclose(rows @ mixed, update, atol=1e-9)


@pytest.mark.parametrize("reading", READINGS)
def test_both_readings_take_sparse_codes(reading):
    for part in parts().values():
        for run in part.runs:
            values = method_settings(part, run, reading)
            if values["method"] == "filter-subspace":
                assert SOLVERS[values["solver"]] in ("penalty", "support")
