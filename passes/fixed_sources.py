"""Where the terms of a fixed-point sum come from: bytes, sums of integers, and what is computed of them exactly.

Cast(sums)                     sums, int32
DequantizeLinear(x, s, z)      (x - z) s
AveragePool(DQ(x, s, z))       quant::SumPool(x) {x_zero_point: z} s / n        n taps are inside the image
ReduceMean(DQ(x, s, z))        (ReduceSum(Cast(x)) - n z) s / n
Mul(DQ(x, s, z), DQ(y, r, w))  (Cast(x) - z)(Cast(y) - w) s r
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphopt.ir import QUANT, DType, Node, TensorType, Value
from graphopt.passes.algebra import reduced_axes
from graphopt.passes.integer_sums import centred
from graphopt.passes.integers import LARGEST_SUM, Dequantized, dequantized, limits, sum_reach
from graphopt.rewrite import Builder
from graphopt.runtime.reference_pool import divisors

Make = Callable[[Builder], Value]


class NoTerms(Exception):
    """Why a value is no sum of terms."""


@dataclass(frozen=True)
class Term:
    """`(x - zero_point) coefficient`: x are bytes or, without zero point, int32; `make` builds it.

    `reach` is the largest magnitude of x, with its zero point and without; one number, or as the coefficient is.
    """

    make: Make
    shape: tuple[int, ...]
    coefficient: np.ndarray
    reach: np.ndarray
    is_bytes: bool = False
    zero_point: int = 0


def source_of(node: Node) -> Term:
    """The one term that `node` makes. Raises NoTerms with the reason where it makes none."""
    if node.output.dtype is not DType.float32:
        raise NoTerms(f"'{node.output.name}' is not float32")
    made = SOURCES.get(node.op_type)
    if made is None:
        raise NoTerms(f"{node.op_type} has no form in fixed point")
    return made(node)


def _dequantized(node: Node) -> Term:
    return _of_bytes(_operand(node.output))


def _cast(node: Node) -> Term:
    x = node.inputs[0]
    assert x is not None
    if x.dtype is DType.int32:
        return Term(lambda _: x, x.static_shape, np.ones(()), sum_reach(x))
    if limits(x.dtype) is None:
        raise NoTerms(f"'{x.name}' are integers of {x.dtype}")
    return _of_bytes(Dequantized(x, np.ones(1, np.float32), 0))


def _of_bytes(found: Dequantized) -> Term:
    x = found.x
    return Term(lambda _: x, x.static_shape, _scale(found), np.array(found.reach), True, found.zero_point)


def _product(node: Node) -> Term:
    first, second = (_operand(v) for v in node.inputs if v is not None)

    def make(build: Builder) -> Value:
        return build.op("Mul", *(centred(build, source.x, source.zero_point) for source in (first, second)))

    reach = _within(first.reach * second.reach)
    return Term(make, node.output.static_shape, _scale(first) * _scale(second), reach)


def _average_pool(node: Node) -> Term:
    x = node.inputs[0]
    assert x is not None
    counts = divisors(node, x.static_shape[2:])
    counts = counts.reshape(counts.shape[2:]) if np.ptp(counts) else counts.max()
    return _pooled(node, math.prod(node.ints("kernel_shape") or ()), np.asarray(counts, np.float64))


def _global_average_pool(node: Node) -> Term:
    x = node.inputs[0]
    assert x is not None
    taps = math.prod(x.static_shape[2:])
    return _pooled(node, taps, np.array(float(taps)), kernel_shape=x.static_shape[2:])


def _pooled(node: Node, taps: int, counts: np.ndarray, **attributes: object) -> Term:
    found = _operand(node.inputs[0])
    kept = {k: v for k, v in node.attributes.items() if k != "count_include_pad"}
    type = TensorType(DType.int32, node.output.shape)

    def make(build: Builder) -> Value:
        how = {**kept, **attributes, "x_zero_point": found.zero_point}
        return build.ops("SumPool", found.x, outputs=1, domain=QUANT, types=(type,), **how)[0]  # type: ignore[arg-type]

    return Term(make, node.output.static_shape, _scale(found) / counts, _within(found.reach * taps))


def _mean(node: Node) -> Term:
    found, axes = _operand(node.inputs[0]), reduced_axes(node)
    if not axes:
        raise NoTerms("the axes of its mean are not known")
    count = math.prod(found.x.static_shape[axis] for axis in axes)

    def make(build: Builder) -> Value:
        wide = build.op("Cast", found.x, to=DType.int32.onnx_code)
        total = build.op("ReduceSum", wide, build.shape(axes, "axes"), keepdims=node.int("keepdims", 1))
        shift = count * found.zero_point
        return build.op("Sub", total, build.const(np.int32(shift), name="zero_points")) if shift else total

    return Term(make, node.output.static_shape, _scale(found) / count, _within(found.reach * count))


def _operand(value: Value | None) -> Dequantized:
    assert value is not None
    found = dequantized(value) if value.is_static else None
    if found is None:
        raise NoTerms(f"'{value.name}' is not dequantised with one scale")
    return found


def _scale(found: Dequantized) -> np.ndarray:
    return found.scale.astype(np.float64).reshape(())


def _within(reach: float) -> np.ndarray:
    if reach >= LARGEST_SUM:
        raise NoTerms(f"sums up to {reach:.0f} do not fit 32 bits")
    return np.array(reach)


SOURCES: dict[str, Callable[[Node], Term]] = {
    "AveragePool": _average_pool,
    "Cast": _cast,
    "DequantizeLinear": _dequantized,
    "GlobalAveragePool": _global_average_pool,
    "Mul": _product,
    "ReduceMean": _mean,
}
