"""What learning refuses, each with a line that names the bad value and the fix."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import FiltersubError, check_name
from ..sparse_coding import SOLVERS, check_solver
from ..sparse_coding.result import check_penalty
from .coding import Task
from .initial import INITS

LEARNERS = ("alternating", "ksvd", "approximate-ksvd", "online")


def check_rows(rows: Tensor) -> None:
    """Raise FiltersubError unless the rows are a finite float32 or float64 matrix that is not empty."""
    if rows.ndim != 2 or 0 in rows.shape:
        raise FiltersubError(f"rows must be (n_rows, d), neither 0, got {tuple(rows.shape)}")
    if rows.dtype not in (torch.float32, torch.float64):
        raise FiltersubError(f"rows must be float32 or float64, got {rows.dtype}")
    # the sum is finite where all numbers are, unless it overflows: then each is looked at
    if not bool(torch.isfinite(rows.sum())) and not bool(torch.isfinite(rows).all()):
        raise FiltersubError("rows hold NaN or infinity")


def checked_task(
    rows: Tensor, n_atoms: int, solver: str, l1_penalty: float, n_nonzero: int | None, nonnegative: bool
) -> Task:
    """The task, with the default support where the solver needs one."""
    kind = SOLVERS[check_solver(solver)]
    check_penalty(l1_penalty)
    if isinstance(n_atoms, bool) or not isinstance(n_atoms, int) or n_atoms < 1:
        raise FiltersubError(f"the number of atoms must be a positive integer, got {n_atoms!r}")
    if n_atoms > rows.shape[0]:
        raise FiltersubError(f"{n_atoms} atoms for {rows.shape[0]} rows: use at most as many atoms as rows")
    if kind == "linear" and n_atoms > rows.shape[1]:
        raise FiltersubError(
            f"solver {solver!r} has at most as many atoms as a patch has numbers, {rows.shape[1]}; got {n_atoms}"
        )
    if kind == "support" and n_nonzero is None:
        n_nonzero = max(1, n_atoms // 3)
    return Task(solver, n_atoms, l1_penalty, n_nonzero, nonnegative)


def check_settings(
    task: Task,
    learner: str,
    init: str,
    max_rounds: int,
    tol: float,
    seed: int,
    n_starts: int | None,
    sample_rows: int,
    batch_rows: int,
    forgetting: float,
) -> None:
    """Raise FiltersubError on unknown names, numbers out of range, and pairs that make no sense."""
    check_name("learner", learner, LEARNERS)
    check_name("init", init, INITS)
    for name, value, least in (
        ("max_rounds", max_rounds, int(learner == "online")),
        ("tol", tol, 0),
        ("seed", seed, 0),
        ("n_starts", 1 if n_starts is None else n_starts, 1),
        ("sample_rows", sample_rows, 0),
        ("batch_rows", batch_rows, 1),
        ("forgetting", forgetting, 0),
    ):
        if not value >= least:
            raise FiltersubError(f"{name} must be at least {least}, got {value}")
    if task.kind == "linear" and learner != "alternating":
        raise FiltersubError(
            f"solver {task.solver!r} has its atoms in closed form, there is nothing for learner {learner!r} to do; "
            "leave the learner out"
        )
    if learner.endswith("ksvd") and task.kind != "support":
        raise FiltersubError(
            f"learner {learner!r} refits the codes of a bounded support and knows no penalty: use it with "
            f"{' or '.join(name for name, kind in SOLVERS.items() if kind == 'support')}, not with {task.solver!r}"
        )
    if learner.endswith("ksvd") and task.nonnegative:
        raise FiltersubError(f"learner {learner!r} cannot keep codes nonnegative; use learner 'alternating'")
