"""The whole method in plain torch, to read first. The package does the same faster, for every layer, and more exactly.

The steps of Chen, Miao and Qiu (arXiv:2403.00269) and the functions that take them; l is half of the paper's lambda:
    1. min over alpha, D:  1/2 ||F - alpha D||^2 + l ||alpha||_1,  atoms of unit norm      codes, learn
    2. F = alpha x D, one row of alpha for each kernel                                      kernel_matrix, weight_of
    3. 1x1 kernels in blocks of k_c x k_c channels                                          the same, with a block
    4. F + alpha x dD, with dD = 0 at the start and alpha frozen                            Atoms, wrap, merge
    5. each atom over m_1 atoms of its own:  dD[i] = sum_j d-alpha_1[i, j] dD_1[i, j]       AtomsOfAtoms
tests/test_method.py compares each function with the package.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def kernel_matrix(weight: Tensor, block: int = 1) -> Tensor:
    """A patch a row: (c, c', h, w) -> (c/b * c'/b, b * b * h * w). With block b = 1 a row is one h x w kernel."""
    outputs, inputs, *size = weight.shape
    blocks = weight.reshape(outputs // block, block, inputs // block, block, *size)
    return blocks.permute(0, 2, 1, 4, 5, 3).reshape(outputs // block * (inputs // block), -1)


def weight_of(rows: Tensor, shape: torch.Size, block: int = 1) -> Tensor:
    """The inverse of kernel_matrix."""
    outputs, inputs, *size = shape
    blocks = rows.reshape(outputs // block, inputs // block, block, *size, block)
    return blocks.permute(0, 2, 1, 5, 3, 4).reshape(shape)


def codes(rows: Tensor, atoms: Tensor, l1_penalty: float, steps: int = 500) -> Tensor:
    """Step 1 for fixed atoms, by FISTA (Beck and Teboulle 2009): (n_rows, d), (m, d) -> (n_rows, m)."""
    step = 1 / torch.linalg.matrix_norm(atoms, 2) ** 2
    alpha = ahead = rows.new_zeros(len(rows), len(atoms))
    momentum = 1.0
    for _ in range(steps):
        moved = ahead - step * (ahead @ atoms - rows) @ atoms.T
        new = moved.sign() * (moved.abs() - step * l1_penalty).clamp(min=0)  # soft threshold
        momentum, before = (1 + (1 + 4 * momentum**2) ** 0.5) / 2, momentum
        ahead = new + (before - 1) / momentum * (new - alpha)
        alpha = new
    return alpha


def learn(rows: Tensor, n_atoms: int, l1_penalty: float, rounds: int = 30, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Step 1 for both, in turns: codes, then each atom to its best place on the unit sphere. -> alpha, D."""
    start = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:n_atoms]
    atoms = nn.functional.normalize(rows[start], dim=1)
    for _ in range(rounds):
        alpha = codes(rows, atoms, l1_penalty)
        for j in range(n_atoms):  # with the other atoms fixed, the best one lies along what they leave over
            left_over = alpha[:, j] @ (rows - alpha @ atoms) + alpha[:, j].square().sum() * atoms[j]
            if left_over.norm() > 0:
                atoms[j] = left_over / left_over.norm()
    return codes(rows, atoms, l1_penalty), atoms


class Atoms(nn.Module):
    """Settings 1 and 3: the weight becomes F + alpha x dD; only dD, (m, d), is trained."""

    def __init__(self, alpha: Tensor, patch_size: int, block: int = 1) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("alpha", alpha)
        self.atoms = nn.Parameter(alpha.new_zeros(alpha.shape[1], patch_size))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + weight_of(self.alpha @ self.atoms, weight.shape, self.block)


class AtomsOfAtoms(Atoms):
    """Setting 2: dD[i] = sum_j d-alpha_1[i, j] dD_1[i, j]; d-alpha_1 starts at random, dD_1 at zero."""

    def __init__(self, alpha: Tensor, patch_size: int, expansion: int) -> None:
        super().__init__(alpha, patch_size)
        self.atoms = nn.Parameter(alpha.new_zeros(alpha.shape[1], expansion, patch_size))
        self.alpha_1 = nn.Parameter(nn.init.kaiming_uniform_(alpha.new_empty(alpha.shape[1], expansion)))

    def forward(self, weight: Tensor) -> Tensor:
        atoms = torch.einsum("ij,ijd->id", self.alpha_1, self.atoms)
        return weight + weight_of(self.alpha @ atoms, weight.shape)


def wrap(model: nn.Module, n_atoms: int = 9, l1_penalty: float = 1e-3) -> None:
    """Setting 1 on a model: freeze it, and give each ungrouped spatial convolution its atoms."""
    model.requires_grad_(False)
    for layer in list(model.modules()):
        if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1 and layer.groups == 1:
            rows = kernel_matrix(layer.weight)
            alpha, _ = learn(rows, n_atoms, l1_penalty)
            parametrize.register_parametrization(layer, "weight", Atoms(alpha, rows.shape[1]))


def merge(model: nn.Module) -> None:
    """Plain weights again, which compute the same."""
    for layer in list(model.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
