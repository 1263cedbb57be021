"""Building operators of `graphopt.quant`: what `lower_integer`, `lower_dynamic` and `requantize` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphopt.ir import QUANT, DType, Node, Value
from graphopt.ir.types import Shape, TensorType
from graphopt.passes.algebra import channel_axis
from graphopt.rewrite import Builder


def floats(build: Builder, data: np.ndarray, name: str) -> Value:
    """A constant of float32."""
    return build.const(np.asarray(data, np.float32), name=name)


def fits(integers: np.ndarray, kind: type[np.signedinteger]) -> bool:
    """Whether all are within the range of `kind`."""
    bounds = np.iinfo(kind)
    return not integers.size or bool(integers.min() >= bounds.min and integers.max() <= bounds.max)


def narrowest(build: Builder, integers: np.ndarray, name: str) -> Value:
    """Weights as a constant of int8 or, where they do not fit, int16."""
    kind = np.int8 if fits(integers, np.int8) else np.int16
    return build.const(np.ascontiguousarray(integers.astype(kind)), name=name)


def integer_sums(
    build: Builder,
    op_type: str,
    operands: Sequence[Value],
    attributes: Mapping[str, object],
    shape: Shape | None,
) -> Value:
    """The result, in int32, of an operator of `graphopt.quant`."""
    type = TensorType(DType.int32, shape)
    (sums,) = build.ops(op_type, *operands, outputs=1, domain=QUANT, types=(type,), **attributes)  # type: ignore[arg-type]
    return sums


def as_floats(build: Builder, integers: Value) -> Value:
    """A cast to float32."""
    return build.op("Cast", integers, to=DType.float32.onnx_code)


def centred(build: Builder, x: Value, zero: int) -> Value:
    """Bytes in int32, without their zero point."""
    wide = build.op("Cast", x, to=DType.int32.onnx_code)
    return build.op("Sub", wide, build.const(np.int32(zero), name="zero_point")) if zero else wide


def by_channel(node: Node, data: np.ndarray) -> np.ndarray:
    """One number per output channel as it broadcasts against the node's output; a single one stays single."""
    if data.size == 1:
        return data.reshape(())
    spatial = (node.output.rank or 2) - 2 if channel_axis(node) == 1 else 0
    return data.reshape(-1, *(1,) * spatial)
