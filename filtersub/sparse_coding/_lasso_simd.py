"""Vector instructions for the LASSO kernels: what LLVM does not find by itself in loops of 6 to 16 steps.

Each intrinsic works on whole vectors: ``len(lanes)`` float64 (one row, its atoms side by side) or ``BLOCK`` float32
(one atom, 64 rows side by side). They are written in LLVM's portable vector types, so any CPU that numba knows
runs them, in as many registers as it takes. ``lanes`` is a tuple of which only the length counts: a number that
the compiler knows. Sets of atoms are bit masks in an int64, atom j being bit j. Nothing here checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._lasso_jit import compiled as compiled

BLOCK = 64

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_F32, _F64 = ir.FloatType(), ir.DoubleType()
_FUSE = ("contract",)  # a * b + c in one rounding where the CPU can; nothing is reassociated
_STATE = types.UniTuple(types.int64, 2)


@intrinsic
def correlate(typingctx, rows, first, count, atoms_t, out, out_first, lanes):
    """Write the correlations ``sum_k x_k atoms_t[k]`` of ``x = rows[first : first + count]``; return ``sum_k x_k^2``.

    ``atoms_t`` is flat, ``count`` vectors of lanes. Arrays of two axes count their elements row by row.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[6].count

        def add(k, state):
            total, energy = state
            scalar = builder.load(_at(context, builder, signature, args, 0, builder.add(args[1], k)), typ=_F64)
            start = builder.mul(k, _I64(width))
            atoms = _load(context, builder, signature, args, 3, start, width)
            total = _fused(builder, _splat(builder, scalar, width), atoms, total)
            return [total, _fused(builder, scalar, scalar, energy)]

        total, energy = _for_range(builder, args[2], [_zeros(width), _F64(0.0)], add)
        _store(context, builder, signature, args, 4, args[5], total)
        return energy

    return types.float64(rows, types.int64, types.int64, atoms_t, out, types.int64, lanes), codegen


@intrinsic
def pivot_step(typingctx, table, active, positive, corr, first, l1, above, below, n_atoms, out, lanes):
    """One exchange of the primal-dual active set method, for a row with correlations ``corr[first:]``.

    With the signs s of the active atoms, writes ``y = T (corr - l1 s)``, where T are the columns of the principal
    pivot of the active set: the codes on the active set, and ``gram @ codes`` off it. Returns the next (active,
    positive): codes of the wrong sign leave, remaining correlations above the one bound or below the other enter.
    All atoms take part, with weight zero off the active set: a loop of one length needs no guess of its end. Where
    their number is odd, so does a column after the last one.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[10].count
        active, positive = _mask(builder, args[1], width), _mask(builder, args[2], width)
        correlations = _load(context, builder, signature, args, 3, args[4], width)
        shift = builder.select(positive, _splat(builder, args[5], width), _splat(builder, builder.fneg(args[5]), width))
        shifted = builder.select(active, builder.fsub(correlations, shift), _zeros(width))
        shifted = cgutils.alloca_once_value(builder, shifted)
        start = builder.mul(builder.mul(args[1], args[8]), _I64(width))

        def term(atom, total):
            weight = builder.load(builder.gep(shifted, [atom], source_etype=_F64), typ=_F64)
            place = builder.add(start, builder.mul(atom, _I64(width)))
            values = _load(context, builder, signature, args, 0, place, width)
            return _fused(builder, _splat(builder, weight, width), values, total)

        zero = _zeros(width)
        y = _sum_in_pairs(builder, args[8], zero, term)
        _store(context, builder, signature, args, 9, _I64(0), y)
        remainder = builder.fsub(correlations, y)
        stays_up = builder.and_(positive, builder.fcmp_ordered(">", y, zero))
        stays_down = builder.and_(builder.not_(positive), builder.fcmp_ordered("<", y, zero))
        enters_up = builder.fcmp_ordered(">", remainder, _splat(builder, args[6], width))
        enters_down = builder.fcmp_ordered("<", remainder, _splat(builder, args[7], width))
        up = _bits(builder, builder.select(active, stays_up, enters_up))
        down = _bits(builder, builder.select(active, stays_down, enters_down))
        return cgutils.pack_array(builder, [builder.or_(up, down), up])

    integer, real = types.int64, types.float64
    return _STATE(table, integer, integer, corr, integer, real, real, real, integer, out, lanes), codegen


@intrinsic
def judge(typingctx, gram, n_atoms, active, positive, corr, first, l1, down, slack, codes, totals, lanes):
    """Check ``codes`` against the optimality conditions with the Gram matrix itself; returns the failing atoms.

    Clears the codes off the active set. Where every atom is within ``slack``, the violations and the objective
    (without the half square of the row) join ``totals``: lanes of running maxima, then lanes of running sums.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[11].count
        active, positive = _mask(builder, args[2], width), _mask(builder, args[3], width)
        correlations = _load(context, builder, signature, args, 4, args[5], width)
        codes = builder.select(active, _load(context, builder, signature, args, 9, _I64(0), width), _zeros(width))
        _store(context, builder, signature, args, 9, _I64(0), codes)
        worst = _load(context, builder, signature, args, 10, _I64(0), width)
        value = _load(context, builder, signature, args, 10, _I64(width), width)
        l1, down, slack = (_splat(builder, args[a], width) for a in (6, 7, 8))

        remainder = _minus_gram_times(context, builder, signature, args, (0, 1, 9, 4, 5), width)
        below = builder.fneg(remainder)
        on = _absolute(builder, builder.fsub(builder.select(positive, remainder, below), l1))
        over, under = builder.fsub(remainder, l1), builder.fsub(below, down)
        off = builder.select(builder.fcmp_ordered(">", over, under), over, under)
        violation = builder.select(active, on, off)
        # negated, so that NaN counts as a failure
        failing = builder.not_(builder.fcmp_ordered("<=", violation, slack))
        bits = builder.and_(_bits(builder, failing), _all_atoms(builder, args[1]))
        passed = builder.icmp_unsigned("==", bits, _I64(0))
        larger = builder.select(builder.fcmp_ordered(">", violation, worst), violation, worst)
        # 1/2 z'Gz - b'z + l |z| = |z| l - 1/2 z'(b + (b - Gz))
        smooth = builder.fmul(
            builder.fmul(_splat(builder, _F64(-0.5), width), codes), builder.fadd(correlations, remainder)
        )
        value_with = builder.fadd(value, _fused(builder, l1, _absolute(builder, codes), smooth))
        _store(context, builder, signature, args, 10, _I64(0), builder.select(passed, larger, worst))
        _store(context, builder, signature, args, 10, _I64(width), builder.select(passed, value_with, value))
        return bits

    integer, real = types.int64, types.float64
    return integer(gram, *[integer] * 3, corr, integer, real, real, real, codes, totals, lanes), codegen


@intrinsic
def residuals(typingctx, gram, n_atoms, active, positive, corr, first, l1, down, slack, codes, left, lanes):
    """What ``codes`` leave to be done, by the Gram matrix: (active atoms unsolved, inactive atoms that may enter).

    Writes to ``left`` the remaining correlations, less ``l1`` times the sign on the active set.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[11].count
        active, positive = _mask(builder, args[2], width), _mask(builder, args[3], width)
        remainder = _minus_gram_times(context, builder, signature, args, (0, 1, 9, 4, 5), width)
        l1, zero = _splat(builder, args[6], width), _zeros(width)
        shift = builder.select(positive, l1, builder.fneg(l1))
        left = builder.fsub(remainder, builder.select(active, shift, zero))
        _store(context, builder, signature, args, 10, _I64(0), left)
        half = _splat(builder, builder.fmul(args[8], _F64(0.5)), width)
        unsolved = builder.and_(active, builder.fcmp_ordered(">", _absolute(builder, left), half))
        above, below = builder.fadd(args[6], args[8]), builder.fneg(builder.fadd(args[7], args[8]))
        out = builder.or_(
            builder.fcmp_ordered(">", left, _splat(builder, above, width)),
            builder.fcmp_ordered("<", left, _splat(builder, below, width)),
        )
        enters = builder.and_(builder.not_(active), out)
        return cgutils.pack_array(builder, [_bits(builder, unsolved), _bits(builder, enters)])

    integer, real = types.int64, types.float64
    return _STATE(gram, *[integer] * 3, corr, integer, real, real, real, codes, left, lanes), codegen


@intrinsic
def newton_step(typingctx, table, start, active, positive, left, codes, out, lanes):
    """Write the codes that solve the normal equations on the active set, as a step from ``codes``.

    Returns the active atoms whose sign that changes. A step, since small steps lose no digits.
    """

    def codegen(context, builder, signature, args):
        width = signature.args[7].count
        active, positive = _mask(builder, args[2], width), _mask(builder, args[3], width)

        def left_of(member):
            return builder.load(_at(context, builder, signature, args, 4, member), typ=_F64)

        def column(member):
            place = builder.add(args[1], builder.mul(member, _I64(width)))
            return _load(context, builder, signature, args, 0, place, width)

        codes = _load(context, builder, signature, args, 5, _I64(0), width)
        target = _weighted_sum(builder, args[2], left_of, column, codes)
        target = builder.select(active, target, _zeros(width))
        _store(context, builder, signature, args, 6, _I64(0), target)
        up, down = (builder.fcmp_ordered(sign, target, _zeros(width)) for sign in "><")
        return _bits(builder, builder.and_(active, builder.not_(builder.select(positive, up, down))))

    return types.int64(table, *[types.int64] * 3, left, codes, out, lanes), codegen


@intrinsic
def signs_of(typingctx, codes, first, down, lanes):
    """Which atoms have a code in ``codes[first:]``, and one above zero; not where it is not finite, or forbidden."""

    def codegen(context, builder, signature, args):
        width = signature.args[3].count
        values = _load(context, builder, signature, args, 0, args[1], width)
        zero = ir.Constant(values.type, None)
        infinity = _splat(builder, values.type.element(float("inf")), width)
        allowed = builder.fcmp_ordered("<", args[2], _F64(float("inf")))
        up = builder.and_(builder.fcmp_ordered(">", values, zero), builder.fcmp_ordered("<", values, infinity))
        down = builder.and_(
            builder.fcmp_ordered("<", values, zero), builder.fcmp_ordered(">", values, builder.fneg(infinity))
        )
        down = builder.select(allowed, _bits(builder, down), _I64(0))
        up = _bits(builder, up)
        return cgutils.pack_array(builder, [builder.or_(up, down), up])

    return _STATE(codes, types.int64, types.float64, lanes), codegen


@intrinsic
def lowest(typingctx, atoms):
    """The first atom of a set that is not empty."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], _I1(1))

    return types.int64(types.int64), codegen


@intrinsic
def take(typingctx, counter):
    """The first element of the int64 array before it is raised by one; no two threads get the same."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw("add", _at(context, builder, signature, args, 0, _I64(0)), _I64(1), "monotonic")

    return types.int64(counter), codegen


@intrinsic
def descend_coordinate(typingctx, gram, atom, n_atoms, inverse, corr, codes, l1, down):
    """Minimise over the codes of one atom, for a block of rows, the others fixed; ``down`` penalises negative codes.

    ``gram`` is flat (n_atoms, n_atoms) float32 with a zero diagonal, ``corr`` and ``codes`` flat (n_atoms, BLOCK).
    """

    def codegen(context, builder, signature, args):
        atom, n_atoms = args[1], args[2]
        start = builder.mul(atom, _I64(BLOCK))
        initial = _load(context, builder, signature, args, 4, start, BLOCK)

        def subtract(other, state):
            place = builder.add(builder.mul(atom, n_atoms), other)
            weight = builder.fneg(builder.load(_at(context, builder, signature, args, 0, place), typ=_F32))
            codes = _load(context, builder, signature, args, 5, builder.mul(other, _I64(BLOCK)), BLOCK)
            return [_fused(builder, _splat(builder, weight, BLOCK), codes, state[0])]

        (rest,) = _for_range(builder, n_atoms, [initial], subtract)
        l1, down, zero = *(_splat(builder, args[a], BLOCK) for a in (6, 7)), ir.Constant(initial.type, None)
        above, below = builder.fsub(rest, l1), builder.fadd(rest, down)
        above = builder.select(builder.fcmp_ordered(">", above, zero), above, zero)
        below = builder.select(builder.fcmp_ordered("<", below, zero), below, zero)
        codes = builder.fmul(builder.fadd(above, below), _splat(builder, args[3], BLOCK))
        _store(context, builder, signature, args, 5, start, codes)
        return context.get_dummy_value()

    return types.none(gram, *[types.int64] * 2, types.float32, corr, codes, *[types.float32] * 2), codegen


def _at(context, builder, signature, args, argument, index):
    """Address of element ``index`` of the array in that argument."""
    array = context.make_array(signature.args[argument])(context, builder, args[argument])
    return builder.gep(array.data, [index], inbounds=True)


def _load(context, builder, signature, args, argument, index, width):
    dtype = context.get_data_type(signature.args[argument].dtype)
    address = _at(context, builder, signature, args, argument, index)
    return builder.load(address, align=4 if dtype == _F32 else 8, typ=ir.VectorType(dtype, width))


def _store(context, builder, signature, args, argument, index, vector):
    address = _at(context, builder, signature, args, argument, index)
    address = builder.bitcast(address, vector.type.as_pointer())
    builder.store(vector, address, align=4 if vector.type.element == _F32 else 8)


def _splat(builder, scalar, width):
    vector = ir.VectorType(scalar.type, width)
    undefined = ir.Constant(vector, ir.Undefined)
    seed = builder.insert_element(undefined, scalar, _I32(0))
    return builder.shuffle_vector(seed, undefined, ir.Constant(ir.VectorType(_I32, width), [0] * width))


def _fused(builder, factor, other, addend):
    return builder.fadd(builder.fmul(factor, other, flags=_FUSE), addend, flags=_FUSE)


def _absolute(builder, vector):
    zero = ir.Constant(vector.type, None)
    return builder.select(builder.fcmp_ordered("<", vector, zero), builder.fneg(vector), vector)


def _mask(builder, bits, width):
    return builder.bitcast(builder.trunc(bits, ir.IntType(width)), ir.VectorType(_I1, width))


def _bits(builder, mask):
    return builder.zext(builder.bitcast(mask, ir.IntType(mask.type.count)), _I64)


def _weighted_sum(builder, members, weight_of, vector_of, initial):
    """``initial + sum over the members of weight_of(member) * vector_of(member)``."""

    def add(_, state):
        rest, total = state
        member = builder.cttz(rest, _I1(1))
        weight = _splat(builder, weight_of(member), initial.type.count)
        total = _fused(builder, weight, vector_of(member), total)
        return [builder.and_(rest, builder.sub(rest, _I64(1))), total]

    return _for_range(builder, builder.ctpop(members), [members, initial], add)[1]


def _minus_gram_times(context, builder, signature, args, which, width):
    """``corr - gram @ codes``; ``which`` says which arguments are gram, n_atoms, codes, corr and its first element."""
    gram, n_atoms, codes, corr, first = which

    def term(atom, total):
        code = builder.fneg(builder.load(_at(context, builder, signature, args, codes, atom), typ=_F64))
        column = _load(context, builder, signature, args, gram, builder.mul(atom, _I64(width)), width)
        return _fused(builder, _splat(builder, code, width), column, total)

    initial = _load(context, builder, signature, args, corr, args[first], width)
    return _sum_in_pairs(builder, args[n_atoms], initial, term)


def _sum_in_pairs(builder, n_atoms, initial, term):
    """Add the terms of even and of odd atoms side by side: half the wait, and one atom too many of an odd number."""

    def both(pair, state):
        even = builder.shl(pair, _I64(1))
        return [term(even, state[0]), term(builder.or_(even, _I64(1)), state[1])]

    pairs = builder.lshr(builder.add(n_atoms, _I64(1)), _I64(1))
    return builder.fadd(*_for_range(builder, pairs, [initial, ir.Constant(initial.type, None)], both))


def _all_atoms(builder, n_atoms):
    return builder.sub(builder.shl(_I64(1), n_atoms), _I64(1))


def _zeros(width):
    return ir.Constant(ir.VectorType(_F64, width), None)


def _for_range(builder, count, initial, body):
    """``for i in range(count): state = body(i, state)``, the state in registers; returns the last state."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_I64)
    state = [builder.phi(value.type) for value in initial]
    index.add_incoming(_I64(0), before)
    for phi, value in zip(state, initial, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, after)
    builder.position_at_end(inside)
    following = body(index, state)
    index.add_incoming(builder.add(index, _I64(1)), builder.block)
    for phi, value in zip(state, following, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return state


def _for_bits(builder, bits, initial, body):
    """The same for every i whose bit is set, from the lowest to the highest."""

    def next_one(_, state):
        left, *state = state
        index = builder.cttz(left, ir.Constant(ir.IntType(1), 1))
        return [builder.and_(left, builder.sub(left, _I64(1))), *body(index, state)]

    _, *state = _for_range(builder, builder.ctpop(bits), [bits, *initial], next_one)
    return state
