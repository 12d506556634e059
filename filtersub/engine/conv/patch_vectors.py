"""Vector instructions on the patches of a stored matrix: d = p q lanes hold one row of its kernel matrix.

The patch whose first entry is element ``first`` of the flat weight has its p lines ``stride`` apart. ``lines`` and
``line`` are tuples of which only the length counts, p and q. float32 or float64 throughout; nothing checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..vectors import I32, I64, for_range, fused, load_scalar, load_vector, splat, store_vector


@intrinsic
def add_packed(typingctx, total, out, first, stride, values, indices, start, count, small, lines, line):
    """Patch of ``out`` = patch of ``total`` + ``sum_k values[start + k] small[indices[start + k]]``, k < count."""

    def codegen(context, builder, signature, args):
        p, q = signature.args[9].count, signature.args[10].count
        initial = _load_patch(context, builder, signature, args, 0, (2, 3), p, q)

        def add(k, state):
            value, place = _packed_entry(context, builder, signature, args, (4, 5, 6), k, p * q)
            atom = load_vector(context, builder, signature, args, 8, place, p * q)
            return [fused(builder, value, atom, state[0])]

        (patch,) = for_range(builder, args[7], [initial], add)
        _store_patch(context, builder, signature, args, 1, (2, 3), patch, p, q)
        return context.get_dummy_value()

    integer = types.int64
    kinds = (total, out, integer, integer, values, indices, integer, integer, small, lines, line)
    return types.none(*kinds), codegen


@intrinsic
def gather_packed(typingctx, gradient, first, stride, values, indices, start, count, into, lines, line):
    """``into[indices[start + k]] += values[start + k] patch`` for the patch of ``gradient``, k < count."""

    def codegen(context, builder, signature, args):
        p, q = signature.args[8].count, signature.args[9].count
        patch = _load_patch(context, builder, signature, args, 0, (1, 2), p, q)

        def add(k, state):
            value, place = _packed_entry(context, builder, signature, args, (3, 4, 5), k, p * q)
            before = load_vector(context, builder, signature, args, 7, place, p * q)
            store_vector(context, builder, signature, args, 7, place, fused(builder, value, patch, before))
            return state

        for_range(builder, args[6], [], add)
        return context.get_dummy_value()

    integer = types.int64
    kinds = (gradient, integer, integer, values, indices, integer, integer, into, lines, line)
    return types.none(*kinds), codegen


@intrinsic
def add_mapped(typingctx, total, source, out, first, stride, small, lines, line):
    """Patch of ``out`` = patch of ``total`` + (patch of ``source`` as a row of d) times ``small`` (d, d)."""

    def codegen(context, builder, signature, args):
        p, q = signature.args[6].count, signature.args[7].count
        patch = _load_patch(context, builder, signature, args, 0, (3, 4), p, q)
        for k in range(p * q):
            entry = _patch_entry(context, builder, signature, args, 1, (3, 4), I64(0), k, q)
            row = load_vector(context, builder, signature, args, 5, I64(k * p * q), p * q)
            patch = fused(builder, splat(builder, entry, p * q), row, patch)
        _store_patch(context, builder, signature, args, 2, (3, 4), patch, p, q)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(total, source, out, integer, integer, small, lines, line), codegen


@intrinsic
def gather_mapped(typingctx, source, gradient, first, stride, count, into, lines, line):
    """``into`` (d, d) += sum over ``count`` patches side by side of ``(patch of source)^T (patch of gradient)``."""

    def codegen(context, builder, signature, args):
        p, q = signature.args[6].count, signature.args[7].count
        d = p * q
        initial = [load_vector(context, builder, signature, args, 5, I64(k * d), d) for k in range(d)]

        def add(i, state):
            shift = builder.mul(i, I64(q))
            patch = _load_patch(context, builder, signature, args, 1, (2, 3), p, q, shift)
            entries = [_patch_entry(context, builder, signature, args, 0, (2, 3), shift, k, q) for k in range(d)]
            return [fused(builder, splat(builder, e, d), patch, s) for e, s in zip(entries, state, strict=True)]

        for k, row in enumerate(for_range(builder, args[4], initial, add)):
            store_vector(context, builder, signature, args, 5, I64(k * d), row)
        return context.get_dummy_value()

    integer = types.int64
    return types.none(source, gradient, integer, integer, integer, into, lines, line), codegen


def _packed_entry(context, builder, signature, args, which, k, d):
    """Entry k of the packed codes: its value in every lane, and where its atom begins."""
    values, indices, start = which
    place = builder.add(args[start], k)
    value = load_scalar(context, builder, signature, args, values, place)
    index = load_scalar(context, builder, signature, args, indices, place)
    return splat(builder, value, d), builder.mul(builder.zext(index, I64), I64(d))


def _patch_entry(context, builder, signature, args, array, place, shift, k, q):
    """Entry k = (a, b) of a patch, a scalar."""
    first, stride = args[place[0]], args[place[1]]
    index = builder.add(first, builder.add(shift, builder.add(builder.mul(stride, I64(k // q)), I64(k % q))))
    return load_scalar(context, builder, signature, args, array, index)


def _load_patch(context, builder, signature, args, array, place, p, q, shift=None):
    """The p lines of a patch one after the other."""
    begin = args[place[0]] if shift is None else builder.add(args[place[0]], shift)
    whole = None
    for a in range(p):
        index = builder.add(begin, builder.mul(args[place[1]], I64(a)))
        part = load_vector(context, builder, signature, args, array, index, q)
        whole = part if whole is None else _joined(builder, whole, part)
    return whole


def _store_patch(context, builder, signature, args, array, place, patch, p, q):
    for a in range(p):
        index = builder.add(args[place[0]], builder.mul(args[place[1]], I64(a)))
        store_vector(context, builder, signature, args, array, index, _picked(builder, patch, range(a * q, a * q + q)))


def _joined(builder, one, other):
    """Two vectors as one."""
    n, m = one.type.count, other.type.count
    if n == m:
        return _picked(builder, one, range(n + m), other)
    widened = _picked(builder, other, [*range(m), *[0] * (n - m)])  # a shuffle takes two of the same length
    return _picked(builder, one, [*range(n), *range(n, n + m)], widened)


def _picked(builder, one, lanes, other=None):
    other = ir.Constant(one.type, ir.Undefined) if other is None else other
    mask = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
    return builder.shuffle_vector(one, other, mask)
