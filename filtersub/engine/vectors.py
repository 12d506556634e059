"""Vectors as values of kernels: what LLVM does not find by itself in loops of 6 to 16 steps.

``load`` takes neighbours out of an array, ``store`` puts them back; in between ``+ - * /``, comparisons and ``& | ~``
work on all lanes at once, and a number stands for a vector of it. A vector lives in as many registers as it takes, of
any processor that numba knows. ``lanes`` is a number that stands in the source, or a tuple or a vector of which only
the length counts: the compiler has to know it. Places in an array count its elements row by row. Nothing here checks
bounds.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from .compile import compiled, inlined

I1, I32, I64, F32 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()
_FUSE = ("contract",)  # a * b + c in one rounding where the CPU can; nothing is reassociated
_WIDE = 16  # float64 of two AVX-512 registers


class Vector(types.Type):
    """``count`` numbers of one type side by side."""

    def __init__(self, dtype: types.Type, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(f"Vector({dtype} x {count})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(manager[kind.dtype].get_value_type(), kind.count))


def _count(lanes):
    return lanes.literal_value if isinstance(lanes, types.IntegerLiteral) else lanes.count


def splat(builder, scalar, count):
    """The scalar in every lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, count), ir.Undefined)
    return picked(builder, builder.insert_element(undefined, scalar, I32(0)), [0] * count)


def _wide(context, builder, value, kind, vector):
    """The value of that kind as a vector like the other one."""
    if isinstance(kind, Vector):
        return value
    return splat(builder, context.cast(builder, value, kind, vector.dtype), vector.count)


def _both(function, method, *sign):
    """Let kernels use an operator of Python's on two vectors, or a vector and a number; comparisons have a sign."""

    @type_callable(function)
    def _(context):
        def typed(one, other):
            vector = one if isinstance(one, Vector) else other
            if isinstance(vector, Vector):
                return Vector(types.boolean if sign else vector.dtype, vector.count)

        return typed

    def lowered(context, builder, signature, args):
        vector = next(kind for kind in signature.args if isinstance(kind, Vector))
        pairs = zip(args, signature.args, strict=True)
        return getattr(builder, method)(*sign, *(_wide(context, builder, *pair, vector) for pair in pairs))

    for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(function, *kinds)(lowered)


for _operator, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.and_, "and_"),
    (operator.or_, "or_"),
):
    _both(_operator, _method)
for _operator, _sign in ((operator.gt, ">"), (operator.lt, "<"), (operator.le, "<="), (operator.eq, "==")):
    _both(_operator, "fcmp_ordered", _sign)


def _alone(function, method):
    @type_callable(function)
    def _(context):
        return lambda vector: vector if isinstance(vector, Vector) else None

    lower_builtin(function, Vector)(lambda context, builder, signature, args: getattr(builder, method)(*args))


_alone(operator.neg, "fneg")
_alone(operator.invert, "not_")


def _elementwise(kinds, of_values):
    """An intrinsic on vectors; numbers among the arguments become vectors like the first of these, if there is one."""
    vector = next((kind for kind in kinds if isinstance(kind, Vector) and kind.dtype != types.boolean), None)

    def codegen(context, builder, signature, args):
        if vector is not None:
            args = [_wide(context, builder, *pair, vector) for pair in zip(args, signature.args, strict=True)]
        return of_values(builder, *args)

    return (vector or kinds[-1])(*kinds), codegen


def fuse(builder, factor, other, addend):
    return builder.fadd(builder.fmul(factor, other, flags=_FUSE), addend, flags=_FUSE)


@intrinsic
def fused(typingctx, factor, other, addend):
    """``factor * other + addend``."""
    return _elementwise((factor, other, addend), fuse)


@intrinsic
def select(typingctx, mask, chosen, other):
    """``chosen`` where the mask is set, else ``other``."""
    return _elementwise((mask, chosen, other), lambda builder, *values: builder.select(*values))


def element_address(context, builder, signature, args, argument, index):
    """Address of element ``index`` of the array that is this argument of an intrinsic."""
    kind, first = signature.args[argument], args[argument]
    if not isinstance(kind, types.CPointer):
        first = context.make_array(kind)(context, builder, first).data
    return builder.gep(first, [index], inbounds=True, source_etype=context.get_data_type(kind.dtype))


def read(builder, address, dtype, count):
    """That many numbers from there on."""
    return builder.load(address, align=4 if dtype == F32 else 8, typ=ir.VectorType(dtype, count))


def write(builder, vector, address):
    if not address.type.is_opaque:  # llvmlite's typed pointers, until they are removed
        address = builder.bitcast(address, vector.type.as_pointer())
    builder.store(vector, address, align=4 if vector.type.element == F32 else 8)


@intrinsic(prefer_literal=True)
def load(typingctx, array, first, lanes):
    """``array[first : first + lanes]``."""

    def codegen(context, builder, signature, args):
        address = element_address(context, builder, signature, args, 0, args[1])
        return read(builder, address, context.get_data_type(array.dtype), _count(lanes))

    return Vector(array.dtype, _count(lanes))(array, types.int64, lanes), codegen


@intrinsic
def store(typingctx, array, first, vector):
    """``array[first :] = vector``, rounded where the array is float32."""

    def codegen(context, builder, signature, args):
        address, values = element_address(context, builder, signature, args, 0, args[1]), args[2]
        if array.dtype != vector.dtype:
            wanted = ir.VectorType(context.get_data_type(array.dtype), vector.count)
            widen = array.dtype == types.float64
            values = builder.fpext(values, wanted) if widen else builder.fptrunc(values, wanted)
        write(builder, values, address)
        return context.get_dummy_value()

    return types.none(array, types.int64, vector), codegen


@intrinsic(prefer_literal=True)
def load_each(typingctx, array, first, step, times, lanes):
    """A tuple of as many vectors as ``times`` says, from ``first``, ``first + step``, ... on."""

    def codegen(context, builder, signature, args):
        dtype, found = context.get_data_type(array.dtype), []
        for t in range(_count(times)):
            index = builder.add(args[1], builder.mul(args[2], I64(t)))
            address = element_address(context, builder, signature, args, 0, index)
            found.append(read(builder, address, dtype, _count(lanes)))
        return context.make_tuple(builder, signature.return_type, found)

    kind = types.UniTuple(Vector(array.dtype, _count(lanes)), _count(times))
    return kind(array, types.int64, types.int64, times, lanes), codegen


@intrinsic
def add_each(typingctx, weight, others, sums):
    """``sums + weight * others``, for each vector of two tuples."""

    def codegen(context, builder, signature, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, vectors) for vectors in args[1:]), strict=True)
        return context.make_tuple(builder, sums, [fuse(builder, args[0], *pair) for pair in pairs])

    return sums(weight, others, sums), codegen


@intrinsic
def scalar(typingctx, array, index):
    """``array[index]``; numba's own would count from the end where the index is negative, which takes time to tell."""

    def codegen(context, builder, signature, args):
        address = element_address(context, builder, signature, args, 0, args[1])
        return builder.load(address, typ=context.get_data_type(array.dtype))

    return array.dtype(array, types.int64), codegen


@intrinsic
def on_stack(typingctx, vector):
    """Where ``scalar`` finds the elements of the vector: from an array the processor would have to wait for them."""

    def codegen(context, builder, signature, args):
        place = cgutils.alloca_once_value(builder, args[0])
        return builder.bitcast(place, context.get_value_type(signature.return_type))

    return types.CPointer(vector.dtype)(vector), codegen


@intrinsic(prefer_literal=True)
def zeros(typingctx, array, lanes):
    """Zeros of the array's dtype."""

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return Vector(array.dtype, _count(lanes))(array, lanes), codegen


@intrinsic(prefer_literal=True)
def full(typingctx, number, lanes):
    """The number in every lane."""

    def codegen(context, builder, signature, args):
        return splat(builder, args[0], signature.return_type.count)

    dtype = types.unliteral(number)
    return Vector(dtype, _count(lanes))(dtype, lanes), codegen


@intrinsic(prefer_literal=True)
def mask_of(typingctx, bits, lanes):
    """The lowest bits of an int64 as a vector of booleans."""

    def codegen(context, builder, signature, args):
        kind = context.get_value_type(signature.return_type)
        return builder.bitcast(builder.trunc(args[0], ir.IntType(kind.count)), kind)

    return Vector(types.boolean, _count(lanes))(types.int64, lanes), codegen


@intrinsic
def bits_of(typingctx, mask):
    """The inverse of mask_of."""

    def codegen(context, builder, signature, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(mask.count)), I64)

    return types.int64(mask), codegen


def picked(builder, vector, lanes, other=None):
    """These lanes of the vector, or of two of one length, one after the other."""
    other = ir.Constant(vector.type, ir.Undefined) if other is None else other
    return builder.shuffle_vector(vector, other, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))


def halves(builder, vector):
    """Two vectors of half the length."""
    count = vector.type.count // 2
    return [picked(builder, vector, part) for part in (range(count), range(count, 2 * count))]


def _folded(vector, combine):
    def codegen(context, builder, signature, args):
        (values,) = args
        while values.type.count > 1:
            values = combine(builder, *halves(builder, values))
        return builder.extract_element(values, I32(0))

    return vector.dtype(vector), codegen


def _better(sign):
    return lambda builder, one, other: builder.select(builder.fcmp_ordered(sign, one, other), one, other)


@intrinsic
def largest(typingctx, vector):
    """The largest element."""
    return _folded(vector, _better(">"))


@intrinsic
def smallest(typingctx, vector):
    """The smallest element."""
    return _folded(vector, _better("<"))


@intrinsic
def total_of(typingctx, vector):
    """The sum of the elements."""
    return _folded(vector, lambda builder, one, other: builder.fadd(one, other))


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


@inlined
def correlate(row, first, count, matrix, place, stride, lanes):
    """``sum over k < count of row[first + k] * matrix[place + k stride :]``, a vector."""
    total = zeros(matrix, lanes)
    for k in range(count):
        total = fused(scalar(row, first + k), load(matrix, place + k * stride, lanes), total)
    return total


@inlined
def absolute(vector):
    return select(vector < 0.0, -vector, vector)


@compiled
def convert(source, source_first, target, target_first, count):
    """``target[target_first :] = source[source_first :]`` for ``count`` numbers, each array float32 or float64.

    A plain loop would be compiled to gathers and scatters: numba counts negative indices from the end.
    """
    whole = count // _WIDE
    for k in range(whole):
        store(target, target_first + k * _WIDE, load(source, source_first + k * _WIDE, _WIDE))
    for k in range(whole * _WIDE, count):
        store(target, target_first + k, load(source, source_first + k, 1))
