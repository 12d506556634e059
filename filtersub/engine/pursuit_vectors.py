"""Vector instructions for orthogonal pursuit: ``LANES`` atoms of one row at a time, in float64.

All arrays are addressed flat, by element; ``width``, the atoms padded to whole vectors, is the distance between two
rows of the Gram matrix and of the factor's columns. Nothing here checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import F64, bits_of, for_range, fused, load_scalar, load_vector, splat, store_vector, zeros

LANES = 16
_BEST = types.Tuple((types.float64, types.int64))


@intrinsic
def correlate_lanes(typingctx, rows, first, count, atoms_t, lane, width, out, energy):
    """``out[lane:] = sum_k x_k atoms_t[k, lane:]`` for ``x = rows[first : first + count]``; returns ``sum_k x_k^2``."""

    def codegen(context, builder, signature, args):
        def add(k, state):
            total, square = state
            scalar = load_scalar(context, builder, signature, args, 0, builder.add(args[1], k))
            place = builder.add(builder.mul(k, args[5]), args[4])
            atoms = load_vector(context, builder, signature, args, 3, place, LANES)
            total = fused(builder, splat(builder, scalar, LANES), atoms, total)
            return [total, fused(builder, scalar, scalar, square)]

        total, square = for_range(builder, args[2], [zeros(LANES), F64(0.0)], add)
        store_vector(context, builder, signature, args, 6, args[4], total)
        return square

    kinds = (rows, types.int64, types.int64, atoms_t, types.int64, types.int64, out, types.float64)
    return types.float64(*kinds), codegen


@intrinsic
def best_of_lanes(typingctx, correlations, free, lane, nonnegative):
    """(score, atom) of the largest ``correlations^2 * free`` from ``lane`` on; only positive ones where asked."""

    def codegen(context, builder, signature, args):
        values = load_vector(context, builder, signature, args, 0, args[2], LANES)
        free = load_vector(context, builder, signature, args, 1, args[2], LANES)
        scores = builder.fmul(builder.fmul(values, values), free)
        above = builder.fcmp_ordered(">", values, zeros(LANES))
        both = builder.or_(above, builder.select(args[3], _mask_of(0), _mask_of(1)))
        scores = builder.select(both, scores, zeros(LANES))
        name = f"llvm.vector.reduce.fmax.v{LANES}f64"
        reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(F64, [scores.type]), name)
        top = builder.call(reduce, [scores], fastmath=("nnan",))
        bits = bits_of(builder, builder.fcmp_ordered("==", scores, splat(builder, top, LANES)))
        atom = builder.add(args[2], builder.cttz(bits, ir.IntType(1)(0)))
        return context.make_tuple(builder, _BEST, [top, atom])

    return _BEST(correlations, free, types.int64, types.boolean), codegen


@intrinsic
def eliminate_lanes(typingctx, gram, columns, atom, count, lane, width, out):
    """``out[lane:] = gram[atom, lane:] - sum over k < count of columns[k, atom] columns[k, lane:]``."""

    def codegen(context, builder, signature, args):
        atom, count, lane, width = args[2:6]

        def subtract(k, state):
            start = builder.mul(k, width)
            weight = load_scalar(context, builder, signature, args, 1, builder.add(start, atom))
            column = load_vector(context, builder, signature, args, 1, builder.add(start, lane), LANES)
            return [fused(builder, splat(builder, builder.fneg(weight), LANES), column, state[0])]

        place = builder.add(builder.mul(atom, width), lane)
        initial = load_vector(context, builder, signature, args, 0, place, LANES)
        (rest,) = for_range(builder, count, [initial], subtract)
        store_vector(context, builder, signature, args, 6, lane, rest)
        return context.get_dummy_value()

    return types.none(gram, columns, *[types.int64] * 4, out), codegen


@intrinsic
def append_lanes(typingctx, remaining, scale, lane, columns, start, part, correlations):
    """``columns[start + lane:] = scale * remaining[lane:]``, and ``part`` times that off the correlations."""

    def codegen(context, builder, signature, args):
        remaining = load_vector(context, builder, signature, args, 0, args[2], LANES)
        column = builder.fmul(remaining, splat(builder, args[1], LANES))
        store_vector(context, builder, signature, args, 3, builder.add(args[4], args[2]), column)
        values = load_vector(context, builder, signature, args, 6, args[2], LANES)
        part = splat(builder, builder.fneg(args[5]), LANES)
        store_vector(context, builder, signature, args, 6, args[2], fused(builder, part, column, values))
        return context.get_dummy_value()

    kinds = (remaining, types.float64, types.int64, columns, types.int64, types.float64, correlations)
    return types.none(*kinds), codegen


@intrinsic
def shrink_lanes(typingctx, columns, start, lane, rest, free, floor):
    """``rest -= columns[start:]^2``; ``free``, where not zero, becomes one over it, or zero at the floor."""

    def codegen(context, builder, signature, args):
        column = load_vector(context, builder, signature, args, 0, builder.add(args[1], args[2]), LANES)
        rest = load_vector(context, builder, signature, args, 3, args[2], LANES)
        free = load_vector(context, builder, signature, args, 4, args[2], LANES)
        floor = load_vector(context, builder, signature, args, 5, args[2], LANES)
        rest = fused(builder, builder.fneg(column), column, rest)
        store_vector(context, builder, signature, args, 3, args[2], rest)
        keep = builder.and_(builder.fcmp_ordered(">", free, zeros(LANES)), builder.fcmp_ordered(">", rest, floor))
        inverse = builder.fdiv(
            splat(builder, F64(1.0), LANES), builder.select(keep, rest, splat(builder, F64(1.0), LANES))
        )
        store_vector(context, builder, signature, args, 4, args[2], builder.select(keep, inverse, zeros(LANES)))
        return context.get_dummy_value()

    return types.none(columns, types.int64, types.int64, rest, free, floor), codegen


@intrinsic
def subtract_lanes(typingctx, weight, source, start, lane, target):
    """``target[lane:] -= weight * source[start + lane:]``."""

    def codegen(context, builder, signature, args):
        vector = load_vector(context, builder, signature, args, 1, builder.add(args[2], args[3]), LANES)
        values = load_vector(context, builder, signature, args, 4, args[3], LANES)
        weight = splat(builder, builder.fneg(args[0]), LANES)
        store_vector(context, builder, signature, args, 4, args[3], fused(builder, weight, vector, values))
        return context.get_dummy_value()

    return types.none(types.float64, source, types.int64, types.int64, target), codegen


@intrinsic
def copy_lanes(typingctx, source, lane, target):
    """``target[lane:] = source[lane:]``."""

    def codegen(context, builder, signature, args):
        values = load_vector(context, builder, signature, args, 0, args[1], LANES)
        store_vector(context, builder, signature, args, 2, args[1], values)
        return context.get_dummy_value()

    return types.none(source, types.int64, target), codegen


def _mask_of(bit):
    kind = ir.VectorType(ir.IntType(1), LANES)
    return ir.Constant(kind, [bit] * LANES)
