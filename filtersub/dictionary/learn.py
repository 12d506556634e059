"""Atoms and codes of a kernel matrix, by name of solver, learner and start."""

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import ConvergenceWarning, FiltersubError, check_name
from ..setting_fields import INITS, LEARNERS, MAX_ROUNDS, TOL
from ..settings import check_number, check_whole
from ..sparse_coding import SOLVERS, CodingResult, check_solver, principal_atoms
from ..sparse_coding.result import check_penalty, check_problem, largest_penalty
from .alternate import Alternation, Stop, Task, array_of
from .online import learn_online
from .result import DictionaryResult
from .starts import RANDOM_INITS, given_atoms, initial_atoms, learn_from_starts, random_directions, usual_starts

_FEW_ROWS = 64
_REHEARSED: set[tuple[object, ...]] = set()


def learn_dictionary(
    rows: Tensor,
    n_atoms: int,
    *,
    solver: str = "lasso",
    l1_penalty: float = 1e-3,
    n_nonzero: int | None = None,
    nonnegative: bool = False,
    init: str = "rows",
    atoms_init: Tensor | DictionaryResult | None = None,
    patch_shape: tuple[int, ...] | None = None,
    learner: str = "alternating",
    max_rounds: int = MAX_ROUNDS,
    tol: float = TOL,
    seed: int = 0,
    n_starts: int | None = None,
    sample_rows: int = 4096,
    batch_rows: int = 1024,
    forgetting: float = 10.0,
    on_round: Callable[[int, float], None] | None = None,
) -> DictionaryResult:
    """Atoms and codes that minimise ``1/2 ||rows - C atoms||_F^2 + l1_penalty ||C||_1``, atoms of unit norm.

    That is equation 1 of Chen, Miao and Qiu (arXiv:2403.00269) with l1_penalty = lambda / 2; for solvers that bound the
    support (omp, mp) the penalty is replaced by ``n_nonzero``. The problem is not convex: a local minimum is found,
    another seed may find a better one.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, d), float32 or float64
    n_atoms : int from 1 to n_rows (for the linear solvers also at most d)
    solver : a name in sparse_coding.SOLVERS; the linear ones have their atoms in closed form: the principal directions
    l1_penalty : float >= 0; from the largest norm of a row upwards every code is zero
    n_nonzero : int, largest support of a row, default a third of the atoms, at least 1
    nonnegative : bool, codes >= 0, for solvers that can
    init : "rows" (random ones), "pca", "kmeans++" (spread-out rows), "dct" or "fourier-bessel"; the last two need
        ``patch_shape``, (p, *kernel_size, q) as KernelLayout.patch_shape. Fewer atoms than wanted are completed by
        random rows, which ``notes`` tells
    atoms_init : Tensor of shape (n_atoms, d), or a DictionaryResult to go on from, instead of ``init``
    learner : "alternating" (coding and atom updates in turn, from statistics, extrapolated), "ksvd" (or
        "approximate-ksvd"; for omp and mp alone), "online" (mini-batches, for very tall matrices)
    max_rounds : int, rounds on all rows at most (online: passes), and as many on each part of the rows before
    tol : float, stop when the last five rounds lowered the objective by less than tol of itself each, on average
        (online: when a pass did); by a third of that on the first part of the rows, or all of a small matrix, where
        rounds cost little
    seed : the same seed and rows give the same result, bit for bit, on one machine, on any number of threads
    n_starts : int, random starts of which the one with the lowest objective is kept; default 1, and with the solver
        "lasso", which is quick, up to 3 on small matrices: as many as have 32,768 rows together, but one where
        rounds need more than a few sweeps
    sample_rows : int, size of the random part of the rows that is learned on first; the next part is eight times
        as large, as long as at least twice as many rows remain. 0: all rows from the start
    batch_rows, forgetting : of the online learner, see FadingStatistics
    on_round : called with (rounds done, objective); on a part of the rows, the objective is scaled to all rows

    Returns
    -------
    DictionaryResult
        Atoms are canonical: ordered by falling energy of their codes, each with its largest entry positive (with
        nonnegative codes the sign is not free and stays). ``objective`` never rises.

    Raises FiltersubError on unknown names, pairs that make no sense, bad counts and shapes, NaN and infinity.
    Warns ConvergenceWarning when the last coding missed its tolerance, UserWarning when every code is zero, with the
    penalty from which that is so.

    Notes
    -----
    With solver "lasso" the rounds improve the codes by a few sweeps of coordinate descent each, and the codes
    returned are exact; every other solver codes in full in each round.

    ``max_rounds`` and ``tol`` are those of every recipe (DecompositionConfig). ``tol=1e-4`` stops earlier: going on
    from there to 1e-6 took 200 to 1,000 more rounds and lowered the objective by another 0 to 1.6 % (median 0.6 %;
    9 and 12 atoms over four matrices of 3 x 3 kernels, two seeds). Seeds differ by as much.
    """
    check_rows(rows)
    task = checked_task(rows, n_atoms, solver, l1_penalty, n_nonzero, nonnegative)
    check_name("learner", learner, LEARNERS)
    check_name("init", init, INITS)
    check_whole("max_rounds", max_rounds, int(learner == "online"))
    check_number("tol", tol, 0)
    check_whole("seed", seed, 0)
    check_whole("n_starts", 1 if n_starts is None else n_starts, 1)
    check_whole("sample_rows", sample_rows, 0)
    check_whole("batch_rows", batch_rows, 1)
    check_number("forgetting", forgetting, 0)
    check_pair(task, learner)
    _rehearse(task, rows, learner, init if atoms_init is None else "rows", patch_shape)
    started = time.perf_counter()
    device, generator = rows.device, np.random.default_rng(seed)
    if solver == "lasso":
        rows = rows.detach().cpu().contiguous()
    stop, notes, coder = Stop(max_rounds, tol, on_round=on_round), (), None
    if all_zero(rows):
        found = Alternation(
            array_of(random_directions(n_atoms, rows.shape[1], generator)), [], "every row is zero", True
        )
    elif task.kind == "linear":
        found = Alternation(array_of(principal_atoms(rows, n_atoms)), [], "principal directions, in closed form", True)
    else:
        if atoms_init is not None:
            begin = given_atoms(atoms_init, n_atoms, rows)
        else:
            begin, notes = initial_atoms(rows, n_atoms, init, generator, patch_shape)
        if learner == "online":
            found = learn_online(rows, array_of(begin), task.coder, stop, batch_rows, forgetting, generator)
        else:
            wanted = n_starts or usual_starts(task, rows, learner, max_rounds)
            begins = [begin]
            if atoms_init is None and init in RANDOM_INITS:
                begins += [initial_atoms(rows, n_atoms, init, generator, patch_shape)[0] for _ in range(wanted - 1)]
            found, coder = learn_from_starts(
                begins, rows, task, learner, stop, sample_rows, generator, n_starts is None
            )
    atoms = torch.from_numpy(found.atoms).to(rows)
    coding = found.coding or task.encode(rows, atoms, None if coder is None else coder.codes)
    counted = solver in ("lasso", "pca")  # the solver's own objective is this one, in float64
    value = coding.objective[-1] if counted else task.objective(rows, atoms, coding.codes)
    history = [] if learner == "online" else [earlier for earlier in found.history if earlier >= value]
    _warn(rows, atoms, task, coding)
    atoms, codes = canonical(atoms, coding.codes, nonnegative=nonnegative)
    return DictionaryResult(
        atoms.to(device),
        codes.to(device),
        (*history, value),
        found.rounds,
        time.perf_counter() - started,
        coding.optimality,
        found.converged,
        found.stopped,
        notes,
    )


def _rehearse(task: Task, rows: Tensor, learner: str, init: str, patch_shape: tuple[int, ...] | None) -> None:
    """Learn from a few made-up rows first, once in a process for each kind of problem.

    Imports, the loading and compiling of kernels and the start of threads are then in no result's seconds.
    """
    how = (task.solver, task.n_atoms, task.nonnegative, task.l1_penalty > 0, learner, init, patch_shape)
    kind = (*how, rows.shape[1], rows.dtype, rows.device)
    if kind in _REHEARSED:
        return
    _REHEARSED.add(kind)
    few = torch.randn(
        max(_FEW_ROWS, task.n_atoms), rows.shape[1], dtype=rows.dtype, generator=torch.Generator().manual_seed(0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learn_dictionary(
            few.to(rows.device),
            task.n_atoms,
            solver=task.solver,
            l1_penalty=min(task.l1_penalty, 0.01),
            n_nonzero=task.n_nonzero,
            nonnegative=task.nonnegative,
            init=init,
            patch_shape=patch_shape,
            learner=learner,
            max_rounds=1,
            n_starts=1,
        )


def all_zero(matrix: Tensor) -> bool:
    """Whether every number is zero; quick where the first rows tell."""
    return not bool(matrix[:256].any()) and not bool(matrix.any())


def _warn(rows: Tensor, atoms: Tensor, task: Task, coding: CodingResult) -> None:
    """What the user should hear of the last coding; attributed to the line that called learn_dictionary."""
    if not coding.converged:
        warnings.warn(
            f"solver {task.solver!r} left an optimality gap of {coding.optimality:.1e} in its last coding",
            ConvergenceWarning,
            3,
        )
    if task.kind == "penalty" and all_zero(coding.codes) and not all_zero(rows):
        largest = max(float(part.norm(dim=1).max()) for part in rows.split(1 << 16))
        here = largest_penalty(rows, atoms)
        warnings.warn(
            f"every code is zero at l1_penalty {task.l1_penalty:g}: for these atoms from {here:.6g} upwards, and "
            f"for any from {largest:.6g}, the largest norm of a row; choose a smaller one",
            UserWarning,
            3,
        )


def canonical(atoms: Tensor, codes: Tensor, *, nonnegative: bool = False) -> tuple[Tensor, Tensor]:
    """Atoms ordered by falling energy of their codes, each with its largest entry (in absolute value) positive.

    atoms (n_atoms, d), codes (n_rows, n_atoms). With nonnegative codes the sign is not open, and stays. The first of
    equal entries decides the sign; atoms of equal energy keep their order.
    """
    # in float64 from the first: squares of float32 codes below 1e-23 are 0, and above 1e19 infinite
    energy = torch.stack([part.double().square().sum(0) for part in codes.split(1 << 16)]).sum(0)
    order = energy.argsort(descending=True, stable=True)
    peaks = atoms.gather(1, atoms.abs().argmax(1, keepdim=True))[:, 0]
    signs = torch.where((peaks < 0) & (not nonnegative), -1.0, 1.0).to(atoms.dtype)[order]
    moved = codes.gather(1, order.expand_as(codes))  # a third of the time that codes[:, order] takes
    return atoms[order] * signs[:, None], moved.mul_(signs)


def check_rows(rows: Tensor) -> None:
    """Raise FiltersubError unless the rows are a finite float32 or float64 matrix that is not empty."""
    if rows.ndim != 2 or 0 in rows.shape:
        raise FiltersubError(f"rows must be (n_rows, d), neither 0, got {tuple(rows.shape)}")
    check_problem(rows, rows[:1], look_at=("rows",))


def checked_task(
    rows: Tensor, n_atoms: int, solver: str, l1_penalty: float, n_nonzero: int | None, nonnegative: bool
) -> Task:
    """The task, with the default support where the solver needs one."""
    kind = SOLVERS[check_solver(solver)]
    check_penalty(l1_penalty)
    check_whole("the number of atoms", n_atoms, 1)
    if n_nonzero is not None:
        check_whole("n_nonzero", n_nonzero, 1)
    if n_atoms > rows.shape[0]:
        raise FiltersubError(f"{n_atoms} atoms for {rows.shape[0]} rows: use at most as many atoms as rows")
    if kind == "linear" and n_atoms > rows.shape[1]:
        raise FiltersubError(
            f"solver {solver!r} has at most as many atoms as a patch has numbers, {rows.shape[1]}; got {n_atoms}"
        )
    if kind == "support" and n_nonzero is None:
        n_nonzero = max(1, n_atoms // 3)
    return Task(solver, n_atoms, l1_penalty, n_nonzero, nonnegative)


def check_pair(task: Task, learner: str) -> None:
    """Raise FiltersubError on a solver and a learner that make no sense together."""
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
