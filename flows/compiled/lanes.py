"""One number of every lane of a block, as a value of compiled code: a register of the processor.

Within functions that numba compiles, ``at(block, i, k)`` is the vector of WIDTH lanes at [i, k] of
a block (rows, columns, WIDTH), ``put`` its inverse, and vectors are added, multiplied, compared and
chosen from like numbers; a float beside a vector stands for all lanes. Sums that many terms are
added to stay in registers, which loops over the lanes of an array do not: they load and store it
every time, and take three times as long.

Nothing is checked here, indices least of all, and negative ones do not count from the end.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.extending import intrinsic as _intrinsic
from numba.extending import models, overload, register_model

# Two registers of AVX2 or one of AVX-512: with one of AVX2, the next operation waits for the last.
WIDTH: Final = 8
# Whether it is one of AVX-512, of which there are thirty-two.
WIDE: Final = bool(get_host_cpu_features().get("avx512f", False))

_VECTOR: Final = ir.VectorType(ir.DoubleType(), WIDTH)
_FLAGS: Final = ir.VectorType(ir.IntType(1), WIDTH)
# A product and a sum may become one instruction.
_CONTRACT: Final = ("contract",)

Codegen = Callable[[Any, Any, Any, Any], Any]
# To the type checker what is inside is not what is called.
intrinsic: Any = _intrinsic


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Lanes{WIDTH}")


class _MaskType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Mask{WIDTH}")


# What annotations in compiled code call such values.
Lanes = Any
Mask = Any
LANES: Final = _LanesType()
MASK: Final = _MaskType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLAGS)


def _spread(builder: Any, value: Any) -> Any:
    """The vector of WIDTH equal numbers."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.IntType(32)(0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), order)


def _vectors(builder: Any, signature: Any, args: Any) -> list[Any]:
    """The arguments, floats spread over the lanes."""
    return [
        _spread(builder, arg) if kind == types.float64 else arg
        for kind, arg in zip(signature.args, args, strict=True)
    ]


def _spot(context: Any, builder: Any, kind: Any, array: Any, i: Any, k: Any) -> Any:
    """The address of [i, k, 0] of a contiguous block."""
    struct = context.make_array(kind)(context, builder, array)
    columns = builder.extract_value(struct.shape, 1)
    data = builder.bitcast(struct.data, _VECTOR.as_pointer())
    return builder.gep(data, [builder.add(builder.mul(i, columns), k)])


def _call(builder: Any, name: str, args: Any) -> Any:
    """One of LLVM's functions of vectors."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(args))
    there = builder.module.declare_intrinsic(f"{name}.v{WIDTH}f64", (), kind)
    return builder.call(there, args)


@intrinsic
def at(_: Any, block: Any, i: Any, k: Any) -> tuple[Any, Codegen]:
    """The lanes of block[i, k]."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_spot(context, builder, signature.args[0], *args))
        value.align = 8
        return value

    return LANES(block, types.intp, types.intp), generate


@intrinsic
def put(_: Any, block: Any, i: Any, k: Any, value: Any) -> tuple[Any, Codegen]:
    """block[i, k] = value."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *where_to, number = _vectors(builder, signature, args)
        builder.store(number, _spot(context, builder, signature.args[0], *where_to)).align = 8
        return context.get_dummy_value()

    return types.void(block, types.intp, types.intp, value), generate


@intrinsic
def every(_: Any, value: Any) -> tuple[Any, Codegen]:
    """The same number in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[0])

    return LANES(types.float64), generate


@intrinsic
def where(_: Any, mask: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
    """``a`` in lanes with the mask set, ``b`` in the others."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*_vectors(builder, signature, args))

    return LANES(mask, a, b), generate


@intrinsic
def anywhere(_: Any, mask: Any) -> tuple[Any, Codegen]:
    """Whether the mask is set in any lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = ir.IntType(WIDTH)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), bits(0))

    return types.boolean(mask), generate


def _unary(name: str, summary: str) -> Any:
    """A function of every lane that LLVM has."""

    @intrinsic
    def function(_: Any, value: Any) -> tuple[Any, Codegen]:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _call(builder, name, args)

        return LANES(value), generate

    function.__doc__ = summary
    return function


root = _unary("llvm.sqrt", "The square root of every lane.")
magnitude = _unary("llvm.fabs", "The absolute value of every lane.")


def _binary(name: str, summary: str) -> Any:
    """A function of two vectors that LLVM has; a float stands for all lanes."""

    @intrinsic
    def function(_: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _call(builder, name, _vectors(builder, signature, args))

        return LANES(a, b), generate

    function.__doc__ = summary
    return function


with_sign = _binary("llvm.copysign", "The size of the one with the sign of the other.")
larger = _binary("llvm.maxnum", "The larger number of each lane; of a number and a NaN the number.")


def _operator(function: Callable[..., Any], result: Any, emit: Callable[..., Any]) -> None:
    """Make ``function`` act on every lane."""

    @intrinsic
    def operate(_: Any, a: Any, b: Any) -> tuple[Any, Codegen]:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(builder, *_vectors(builder, signature, args))

        return result(a, b), generate

    kinds = (LANES, types.float64) if function not in (operator.and_, operator.or_) else (MASK,)

    @overload(function)
    def chosen(a: Any, b: Any) -> Any:
        if kinds[0] not in (a, b) or not {a, b} <= set(kinds):
            return None

        # numba compares the signature with the one above, annotations included.
        def implementation(a: Any, b: Any) -> Any:
            return operate(a, b)

        return implementation


for _name in ("add", "sub", "mul", "truediv"):
    _instruction = {"truediv": "fdiv"}.get(_name, f"f{_name}")
    for _function in (getattr(operator, _name), getattr(operator, f"i{_name}")):
        _operator(
            _function, LANES, lambda b, x, y, i=_instruction: getattr(b, i)(x, y, flags=_CONTRACT)
        )
# Ordered: nothing compares with a NaN.
for _function, _name in ((operator.gt, ">"), (operator.lt, "<"), (operator.le, "<=")):
    _operator(_function, MASK, lambda b, x, y, name=_name: b.fcmp_ordered(name, x, y))
_operator(operator.and_, MASK, lambda b, x, y: b.and_(x, y))
_operator(operator.or_, MASK, lambda b, x, y: b.or_(x, y))
