"""Vectors in LLVM's portable types, for intrinsics: what LLVM does not find by itself in loops of 6 to 16 steps.

An intrinsic is a function of numba that writes its own LLVM instructions. The functions here write those that all of
them share: loads, stores, multiply and add, loops whose state stays in registers. ``context, builder, signature, args``
are what numba hands an intrinsic; ``argument`` is the number of one of its arguments, an array. Any processor that
numba knows runs vectors of any length, in as many registers as they take. Nothing here checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
F32, F64 = ir.FloatType(), ir.DoubleType()
FUSE = ("contract",)  # a * b + c in one rounding where the CPU can; nothing is reassociated


def element_type(context, signature, argument):
    return context.get_data_type(signature.args[argument].dtype)


def element_address(context, builder, signature, args, argument, index):
    """Address of element ``index`` of the array in that argument, its elements counted row by row."""
    array = context.make_array(signature.args[argument])(context, builder, args[argument])
    return builder.gep(array.data, [index], inbounds=True, source_etype=element_type(context, signature, argument))


def load_scalar(context, builder, signature, args, argument, index):
    address = element_address(context, builder, signature, args, argument, index)
    return builder.load(address, typ=element_type(context, signature, argument))


def load_vector(context, builder, signature, args, argument, index, width):
    dtype = element_type(context, signature, argument)
    address = element_address(context, builder, signature, args, argument, index)
    return builder.load(address, align=4 if dtype == F32 else 8, typ=ir.VectorType(dtype, width))


def store_vector(context, builder, signature, args, argument, index, vector):
    address = element_address(context, builder, signature, args, argument, index)
    if not address.type.is_opaque:  # llvmlite's typed pointers, until they are removed
        address = builder.bitcast(address, vector.type.as_pointer())
    builder.store(vector, address, align=4 if vector.type.element == F32 else 8)


def splat(builder, scalar, width):
    """The scalar in every lane."""
    vector = ir.VectorType(scalar.type, width)
    undefined = ir.Constant(vector, ir.Undefined)
    seed = builder.insert_element(undefined, scalar, I32(0))
    return builder.shuffle_vector(seed, undefined, ir.Constant(ir.VectorType(I32, width), [0] * width))


def zeros(width):
    """float64 zeros."""
    return ir.Constant(ir.VectorType(F64, width), None)


def fused(builder, factor, other, addend):
    """``factor * other + addend``."""
    return builder.fadd(builder.fmul(factor, other, flags=FUSE), addend, flags=FUSE)


def absolute(builder, vector):
    zero = ir.Constant(vector.type, None)
    return builder.select(builder.fcmp_ordered("<", vector, zero), builder.fneg(vector), vector)


def mask_of(builder, bits, width):
    """The lowest bits of an int64 as a vector of booleans."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(width)), ir.VectorType(I1, width))


def bits_of(builder, mask):
    """The inverse of mask_of."""
    return builder.zext(builder.bitcast(mask, ir.IntType(mask.type.count)), I64)


def sum_in_pairs(builder, count, initial, term):
    """Add the terms of even and of odd numbers side by side: half the wait, and one term too many of an odd count."""

    def both(pair, state):
        even = builder.shl(pair, I64(1))
        return [term(even, state[0]), term(builder.or_(even, I64(1)), state[1])]

    pairs = builder.lshr(builder.add(count, I64(1)), I64(1))
    return builder.fadd(*for_range(builder, pairs, [initial, ir.Constant(initial.type, None)], both))


def for_range(builder, count, initial, body):
    """``for i in range(count): state = body(i, state)``, the state in registers; returns the last state."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(I64)
    state = [builder.phi(value.type) for value in initial]
    index.add_incoming(I64(0), before)
    for phi, value in zip(state, initial, strict=True):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", index, count), inside, after)
    builder.position_at_end(inside)
    following = body(index, state)
    index.add_incoming(builder.add(index, I64(1)), builder.block)
    for phi, value in zip(state, following, strict=True):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return state


def for_bits(builder, bits, initial, body):
    """The same for every i whose bit is set, from the lowest to the highest."""

    def next_one(_, state):
        left, *state = state
        index = builder.cttz(left, I1(1))
        return [builder.and_(left, builder.sub(left, I64(1))), *body(index, state)]

    _, *state = for_range(builder, builder.ctpop(bits), [bits, *initial], next_one)
    return state


@intrinsic
def convert(typingctx, source, source_first, target, target_first, count):
    """``target[target_first :] = source[source_first :]`` for ``count`` numbers, each array float32 or float64.

    A plain loop would be compiled to gathers and scatters: numba counts negative indices from the end.
    """

    def codegen(context, builder, signature, args):
        kinds = [element_type(context, signature, array) for array in (0, 2)]

        def moved(values, width):
            wanted = ir.VectorType(kinds[1], width)
            if kinds[0] == kinds[1]:
                return values
            return builder.fpext(values, wanted) if kinds[1] == F64 else builder.fptrunc(values, wanted)

        def step(width, before):
            def body(i, state):
                place = builder.add(before, builder.mul(i, I64(width)))
                from_, to = (builder.add(args[first], place) for first in (1, 3))
                values = load_vector(context, builder, signature, args, 0, from_, width)
                store_vector(context, builder, signature, args, 2, to, moved(values, width))
                return state

            return body

        whole = builder.lshr(args[4], I64(4))
        for_range(builder, whole, [], step(16, I64(0)))
        done = builder.shl(whole, I64(4))
        for_range(builder, builder.sub(args[4], done), [], step(1, done))
        return context.get_dummy_value()

    return types.none(source, types.int64, target, types.int64, types.int64), codegen


@intrinsic
def copy_vector(typingctx, source, target, first, lanes):
    """``target[first:] = source[:]`` for one vector, rounded where the target is float32."""

    def codegen(context, builder, signature, args):
        values = load_vector(context, builder, signature, args, 0, I64(0), signature.args[3].count)
        if signature.args[1].dtype == types.float32:
            values = builder.fptrunc(values, ir.VectorType(F32, values.type.count))
        store_vector(context, builder, signature, args, 1, args[2], values)
        return context.get_dummy_value()

    return types.none(source, target, types.int64, lanes), codegen


@intrinsic
def lowest(typingctx, atoms):
    """The first atom of a set that is not empty."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], I1(1))

    return types.int64(types.int64), codegen


@intrinsic
def take(typingctx, counter):
    """The first element of the int64 array before it is raised by one; no two threads get the same."""

    def codegen(context, builder, signature, args):
        return builder.atomic_rmw(
            "add", element_address(context, builder, signature, args, 0, I64(0)), I64(1), "monotonic"
        )

    return types.int64(counter), codegen
