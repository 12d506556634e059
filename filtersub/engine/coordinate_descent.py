"""Coordinate descent for the LASSO on blocks of 64 rows at once, float32 or float64: one atom at a time, all rows."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compile import compiled
from .vectors import I64, for_range, fused, load_scalar, load_vector, splat, store_vector

BLOCK = 64  # rows side by side


@intrinsic
def descend(typingctx, gram, n_atoms, atom, inverse, corr, codes, l1, l1_neg):
    """Minimise over the codes of one atom, the others fixed: the correlation left, shrunk, over the atom's square.

    ``gram`` is flat (n_atoms, n_atoms) with a zero diagonal, ``corr`` and ``codes`` flat (n_atoms, BLOCK), all of one
    dtype. ``l1_neg`` penalises negative codes.
    """

    def codegen(context, builder, signature, args):
        first, place = builder.mul(args[2], args[1]), builder.mul(args[2], I64(BLOCK))

        def subtract(other, state):
            weight = builder.fneg(load_scalar(context, builder, signature, args, 0, builder.add(first, other)))
            column = load_vector(context, builder, signature, args, 5, builder.mul(other, I64(BLOCK)), BLOCK)
            return [fused(builder, splat(builder, weight, BLOCK), column, state[0])]

        initial = load_vector(context, builder, signature, args, 4, place, BLOCK)
        (rest,) = for_range(builder, args[1], [initial], subtract)
        l1, l1_neg, zero = *(splat(builder, args[a], BLOCK) for a in (6, 7)), ir.Constant(rest.type, None)
        positive, negative = builder.fsub(rest, l1), builder.fadd(rest, l1_neg)
        positive = builder.select(builder.fcmp_ordered(">", positive, zero), positive, zero)
        negative = builder.select(builder.fcmp_ordered("<", negative, zero), negative, zero)
        shrunk = builder.fmul(builder.fadd(positive, negative), splat(builder, args[3], BLOCK))
        store_vector(context, builder, signature, args, 5, place, shrunk)
        return context.get_dummy_value()

    dtype = gram.dtype
    return types.none(gram, types.int64, types.int64, dtype, corr, codes, dtype, dtype), codegen


@compiled
def guess_codes(corr, stride, guess, l1, l1_neg, n_atoms, count, corr32, codes32):
    """Improve ``codes32`` (n_atoms, BLOCK) flat, by the correlations ``corr[r * stride + j]`` of ``count`` rows."""
    gram32, inverse, sweeps = guess
    for j in range(n_atoms):
        for r in range(count):
            corr32[j * BLOCK + r] = corr[r * stride + j]
    for _ in range(sweeps):
        for j in range(n_atoms):
            descend(gram32, n_atoms, j, inverse[j], corr32, codes32, np.float32(l1), np.float32(l1_neg))
