"""The exact LASSO where the rows are: batched over rows in torch, for GPUs, so that codes never leave the device.

Few atoms: the primal-dual active set method by the table of principal pivots, from coordinate descent or the codes
given. More atoms, and rows that cycle there: the solution path, all rows in step. Both in float64; a row counts as
solved when its optimality conditions hold by the Gram matrix itself. What is left then (nearly dependent atoms) is
marked, and the caller hands those few rows to the kernels on the CPU. ``l1_neg`` is the penalty of negative codes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_EXCHANGES = 8
_SWEEPS = 10
_DOUBTFUL = 1e-8  # squared sine of the angle to the span of the active atoms
_RELATIVE = 1e-15  # rounding of a correlation, relative to the norms of row and atom
_BYTES = 1 << 30  # of scratch at a time


def solve(
    rows: Tensor, atoms: Tensor, l1: float, l1_neg: float, tol: float, max_iter: int, given: Tensor | None, few: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(codes, solved, violation, slack) in float64, of rows (n, d) over atoms (m, d); all but codes are (n,)."""
    atoms = atoms.to(rows.device, torch.float64)
    gram = atoms @ atoms.T
    table = _table(atoms) if few else None
    room = min(atoms.shape)
    per_row = 8 * (8 * len(atoms) + 2 * room * room + (len(atoms) * len(atoms) if few else 0))
    parts = []
    for begin in range(0, rows.shape[0], max(1, _BYTES // per_row)):
        part = slice(begin, begin + max(1, _BYTES // per_row))
        data = rows[part].double()
        start = None if given is None else given[part].double()
        parts.append(_solve_part(data, atoms, gram, table, l1, l1_neg, tol, max_iter, start))
    if not parts:
        return rows.new_zeros((0, len(atoms)), dtype=torch.float64), *(rows.new_zeros(0) for _ in range(3))
    return tuple(torch.cat(piece) for piece in zip(*parts, strict=True))


def _solve_part(data, atoms, gram, table, l1, l1_neg, tol, max_iter, start):
    corr = data @ atoms.T
    norm = float(gram.diagonal().max().clamp_min(0).sqrt())
    slack = tol * l1 + _RELATIVE * len(atoms) * norm * data.norm(dim=1)
    codes = torch.zeros_like(corr)
    solved = torch.zeros(len(corr), dtype=torch.bool, device=corr.device)
    if table is not None:
        first = _guess(corr, gram, l1, l1_neg) if start is None else start
        codes, solved = _exchange(corr, gram, table, l1, l1_neg, slack, first)
    rest = torch.nonzero(~solved)[:, 0]
    if rest.numel():
        found = follow(corr[rest], gram, l1, l1_neg, min(atoms.shape), min(max_iter, 8 * min(atoms.shape) + 8))
        found = _refined(corr[rest], gram, l1, found)
        codes[rest] = found
        solved[rest] = violation_of(corr[rest], gram, found, l1, l1_neg) <= slack[rest]
    return codes, solved, violation_of(corr, gram, codes, l1, l1_neg), slack


def violation_of(corr: Tensor, gram: Tensor, codes: Tensor, l1: float, l1_neg: float) -> Tensor:
    """Each row's largest violation of the optimality conditions."""
    left = corr - codes @ gram
    on = (left - l1 * codes.sign()).abs()
    off = torch.maximum(left - l1, -left - l1_neg)
    return torch.where(codes != 0, on, off).amax(1).clamp_min(0)


def _table(atoms: Tensor) -> tuple[Tensor, Tensor]:
    """The table of principal pivots, (n_sets, m, m), and which sets are dependent; built on the CPU, it is small."""
    from ..engine.lasso import pivot_table

    host = atoms.cpu().numpy()
    (n_atoms, d), width = host.shape, len(pivot_table.lanes_for(len(host)))
    space = pivot_table.Space(n_atoms, d)
    space.gram[:n_atoms, :n_atoms], space.atoms_t[:, :n_atoms] = host @ host.T, host.T
    columns, dependent = pivot_table.build(space.gram[:n_atoms], space.atoms_t, space.columns, 1)
    columns = columns[: (1 << n_atoms) * n_atoms * width].reshape(1 << n_atoms, n_atoms, width)[:, :, :n_atoms]
    return torch.from_numpy(np.ascontiguousarray(columns)).to(atoms.device), torch.from_numpy(dependent).to(
        atoms.device
    )


def _guess(corr: Tensor, gram: Tensor, l1: float, l1_neg: float) -> Tensor:
    """Some sweeps of coordinate descent in float32."""
    corr, gram = corr.float(), gram.float()
    codes, square = torch.zeros_like(corr), gram.diagonal()
    alive = torch.nonzero(square > 0)[:, 0].tolist()
    for _ in range(_SWEEPS):
        for j in alive:
            rest = corr[:, j] - codes @ gram[j] + square[j] * codes[:, j]
            codes[:, j] = ((rest - l1).clamp_min(0) + (rest + l1_neg).clamp_max(0)) / square[j]
    return codes.double()


def _exchange(corr, gram, table, l1, l1_neg, slack, first):
    """Primal-dual exchanges of all rows at once: codes, and which rows they solve."""
    columns, dependent = table
    bits = 1 << torch.arange(len(gram), device=corr.device)
    first = torch.where(first.isfinite() & ((first > 0) | (l1_neg < float("inf"))), first, 0)
    sign, codes = first.sign(), torch.zeros_like(corr)
    solved = torch.zeros(len(corr), dtype=torch.bool, device=corr.device)
    at = torch.arange(len(corr), device=corr.device)
    for _ in range(_EXCHANGES):
        active = ((sign != 0) * bits).sum(1)
        ready = ~dependent[active]
        at, sign, active = at[ready], sign[ready], active[ready]
        b, on = corr[at], sign != 0
        y = torch.bmm(torch.where(on, b - l1 * sign, 0)[:, None], columns[active])[:, 0]
        left, bound = b - y, slack[at, None]
        entering = (left > l1 + bound).double() - (left < -l1_neg - bound).double()
        following = torch.where(on, torch.where(y * sign > 0, sign, 0), entering)
        same = (following == sign).all(1)
        found = torch.where(on[same], y[same], 0)
        good = violation_of(b[same], gram, found, l1, l1_neg) <= bound[same, 0]
        done = at[same][good]
        codes[done], solved[done] = found[good], True
        at, sign = at[~same], following[~same]
        if not at.numel():
            break
    return codes, solved


def follow(corr: Tensor, gram: Tensor, l1: float, l1_neg: float, room: int, max_steps: int) -> Tensor:
    """Codes at l1 at the end of each row's path from zero; rows on which that goes wrong stop where it does."""
    n, m = corr.shape
    whole = corr.new_zeros(n, m)
    at = torch.arange(n, device=corr.device)
    state = _start(corr, l1_neg, room, l1)
    for _ in range(max_steps):
        state = _enter(state, gram, room)
        state, over = _advance(state, gram, l1, l1_neg)
        if bool(over.any()):
            whole[at[over]] = _by_atom(state, m)[over]
            at, state = at[~over], {name: value[~over] for name, value in state.items()}
        if not at.numel():
            return whole
    whole[at] = _by_atom(state, m)
    return whole


def _start(corr: Tensor, l1_neg: float, room: int, l1: float) -> dict[str, Tensor]:
    """What is known of each row: correlations left (NaN: stays out), penalty, entering atom; active atoms by place."""
    n = len(corr)
    penalty, entering = (corr.abs() if l1_neg < float("inf") else corr).max(1)
    return {
        "left": corr.clone(),
        "penalty": penalty.clamp_min(l1),
        "entering": torch.where(penalty > l1, entering, -1),
        "count": corr.new_zeros(n, dtype=torch.long),
        "members": corr.new_zeros(n, room, dtype=torch.long),
        "sign": corr.new_zeros(n, room),
        "codes": corr.new_zeros(n, room),
        "inverse": corr.new_zeros(n, room, room),
    }


def _enter(state: dict[str, Tensor], gram: Tensor, room: int) -> dict[str, Tensor]:
    """Make the entering atoms active, where they differ from the span of the active ones; none of them enters again."""
    row = torch.nonzero(state["entering"] >= 0)[:, 0]
    if not row.numel():
        return state
    atom, count = state["entering"][row], state["count"][row]
    places = torch.arange(room, device=gram.device)
    used = places < count[:, None]
    products = torch.where(used, gram[atom[:, None], state["members"][row]], 0)
    weights = torch.bmm(products[:, None], state["inverse"][row])[:, 0]
    own = gram.diagonal()[atom]
    pivot = own - (products * weights).sum(1)
    left = state["left"][row, atom]
    state["left"][row, atom] = float("nan")
    free = (pivot > _DOUBTFUL * own) & (count < room)
    row, atom, count, weights, pivot, left = (v[free] for v in (row, atom, count, weights, pivot, left))
    border = -weights
    border.scatter_(1, count[:, None], 1.0)
    state["inverse"][row] += border[:, :, None] * border[:, None] / pivot[:, None, None]
    state["members"][row, count], state["sign"][row, count] = atom, left.sign()
    state["codes"][row, count] = 0.0
    state["count"][row] = count + 1
    return state


def _advance(state: dict[str, Tensor], gram: Tensor, l1: float, l1_neg: float) -> tuple[dict[str, Tensor], Tensor]:
    """To the next change of the support, or to l1; which rows have arrived there."""
    room = state["sign"].shape[1]
    used = torch.arange(room, device=gram.device) < state["count"][:, None]
    speed = torch.bmm(state["inverse"], state["sign"][:, :, None])[:, :, 0]
    slope = _spread(torch.where(used, speed, 0), state["members"], len(gram)) @ gram
    left, penalty = state["left"], state["penalty"][:, None]
    never = float("inf")
    rise = torch.where(1 - slope > 0, (penalty - left).clamp_min(0) / (1 - slope), never)
    fall = torch.where(1 + slope > 0, (penalty + left).clamp_min(0) / (1 + slope), never)
    times = torch.minimum(rise, fall if l1_neg < never else rise)
    enter_time, entering = torch.where(left.isnan(), never, times).min(1)
    towards = -speed * state["sign"]
    vanish = torch.where(used & (towards > 0), (state["codes"] * state["sign"]).clamp_min(0) / towards, never)
    vanish_time, place = vanish.min(1)
    end = state["penalty"] - l1
    leaves = (vanish_time < end) & (vanish_time < enter_time)
    enters = ~leaves & (enter_time < end)
    length = torch.where(leaves, vanish_time, torch.where(enters, enter_time, end))[:, None]
    state["codes"] = torch.where(used, state["codes"] + length * speed, 0)
    state["left"] = left - length * slope
    state["penalty"] = state["penalty"] - length[:, 0]
    state["entering"] = torch.where(enters, entering, -1)
    return _leave(state, torch.nonzero(leaves)[:, 0], place), ~(leaves | enters)


def _leave(state: dict[str, Tensor], row: Tensor, place: Tensor) -> dict[str, Tensor]:
    """Drop the atoms at these places of these rows, the last active ones in their stead."""
    if not row.numel():
        return state
    place, last = place[row], state["count"][row] - 1
    atom, penalty = state["members"][row, place], state["penalty"][row]
    state["left"][row, atom] = penalty * state["sign"][row, place]
    inverse = state["inverse"][row]
    step = torch.arange(len(row), device=row.device)
    column = inverse[step, place]
    inverse = inverse - column[:, :, None] * column[:, None] / column[step, place][:, None, None]
    inverse[step, place] = inverse[step, last]
    inverse[step, :, place] = inverse[step, :, last]
    inverse[step, last] = 0.0
    inverse[step, :, last] = 0.0
    state["inverse"][row] = inverse
    for name in ("members", "sign", "codes"):
        state[name][row, place] = state[name][row, last]
    state["sign"][row, last] = 0.0
    state["codes"][row, last] = 0.0
    state["count"][row] = last
    return state


def _spread(values: Tensor, members: Tensor, m: int) -> Tensor:
    return values.new_zeros(len(values), m).scatter_add_(1, members, values)


def _by_atom(state: dict[str, Tensor], m: int) -> Tensor:
    return _spread(state["codes"], state["members"], m)


def _refined(corr: Tensor, gram: Tensor, l1: float, codes: Tensor) -> Tensor:
    """One Newton step on the support of each row, unless it changes a sign: rounding of a long path goes out."""
    on = codes != 0
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    refined = codes.clone()
    for part in torch.arange(len(codes), device=codes.device).split(max(1, _BYTES // (16 * gram.numel()))):
        mask = on[part]
        square = torch.where(mask[:, :, None] & mask[:, None], gram, eye)
        residual = torch.where(mask, corr[part] - codes[part] @ gram - l1 * codes[part].sign(), 0)
        factor, failed = torch.linalg.cholesky_ex(square)
        step = torch.cholesky_solve(residual[:, :, None], factor)[:, :, 0]
        kept = (failed == 0)[:, None] & ((codes[part] + step).sign() == codes[part].sign()).all(1, keepdim=True)
        refined[part] = torch.where(kept, codes[part] + step, codes[part])
    return refined
