"""Canonical forms: nodes that do nothing, reshapes, arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from graphopt.ir import DType, Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

PASS = "canonicalize"
FLOAT, DOUBLE, HALF = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16


def after(g: Draft, op_type: str, *operands: Value, **attributes: object) -> Value:
    """The operator on Neg(x), so that the result is not a graph input."""
    return g.op("Abs", g.op(op_type, g.op("Neg", g.input(2, 3, 4)), *operands, **attributes))


CASES: dict[str, tuple[str, Build]] = {
    "identity": ("remove-identity", lambda g: after(g, "Identity")),
    "dropout": ("remove-identity", lambda g: after(g, "Dropout")),
    "cast": ("remove-no-op", lambda g: after(g, "Cast", to=FLOAT)),
    "transpose": ("remove-no-op", lambda g: after(g, "Transpose", perm=(0, 1, 2))),
    "reshape": ("remove-no-op", lambda g: after(g, "Reshape", g.ints(2, -1, 4))),
    "pad": ("remove-no-op", lambda g: after(g, "Pad", g.ints(0, 0, 0, 0, 0, 0))),
    "slice": ("remove-no-op", lambda g: after(g, "Slice", g.ints(0), g.ints(99), g.ints(1))),
    "expand": ("remove-no-op", lambda g: after(g, "Expand", g.ints(3, 1))),
    "tile": ("remove-no-op", lambda g: after(g, "Tile", g.ints(1, 1, 1))),
    "resize": ("remove-no-op", lambda g: resized(g, (1.0, 1.0, 1.0))),
    "flatten": ("reshape-forms", lambda g: after(g, "Flatten", axis=2)),
    "unsqueeze": ("reshape-forms", lambda g: after(g, "Unsqueeze", g.ints(1))),
    "squeeze": ("reshape-forms", lambda g: g.op("Squeeze", g.input(2, 1, 4), g.ints(1))),
    "flatten_batch": ("reshape-forms", lambda g: g.op("Flatten", g.input("N", 3, 4))),
    "copied_dims": ("reshape-forms", lambda g: after(g, "Reshape", g.ints(0, -1))),
    "unit_transpose": ("reshape-forms", lambda g: g.op("Transpose", g.input(1, 3, 1, 4), perm=(0, 2, 1, 3))),
    "reshape_chain": ("reshape-chain", lambda g: g.op("Reshape", after_reshape(g), g.ints(4, 6))),
    "reduce": ("keep-reduced-axes", lambda g: summed(g, (2, 1, 4))),
    "transpose_chain": ("transpose-chain", lambda g: turned_twice(g, (1, 2, 0))),
    "transpose_back": ("transpose-chain", lambda g: turned_twice(g, (2, 0, 1))),
    "cast_chain": ("cast-chain", lambda g: cast_twice(g, DType.float16, FLOAT, DOUBLE)),
    "relu_sigmoid": ("relu-of-relu", lambda g: g.op("Relu", after(g, "Sigmoid"))),
    "relu_clip": ("relu-of-relu", lambda g: g.op("Relu", clipped(g, 0.0, 6.0))),
    "clip_clip": ("clip-of-clip", lambda g: g.op("Clip", clipped(g, 0.0, 6.0), g.const(1.0), g.const(9.0))),
    "clip_relu": ("clip-of-clip", lambda g: g.op("Clip", after_relu(g), g.const(-1.0), g.const(6.0))),
    "clip_open": ("clip-of-clip", lambda g: g.op("Clip", clipped(g, 0.5), None, g.const(2.0))),
    "concat_one": ("single-operand", lambda g: after(g, "Concat", axis=1)),
    "sum": ("sum-to-add", lambda g: g.op("Sum", g.input(2, 3), g.input(3), g.input(2, 1))),
    "square": ("pow-2", lambda g: after(g, "Pow", g.const(2.0))),
    "root": ("pow-half", lambda g: g.op("Pow", after(g, "Abs"), g.const(0.5))),
    "times_one": ("neutral-operand", lambda g: g.op("Mul", g.const(np.ones((3, 1))), g.input(2, 3, 4))),
    "minus_zero": ("neutral-operand", lambda g: after(g, "Sub", g.const(0.0))),
    "max_lowest": ("neutral-operand", lambda g: after(g, "Max", g.const(-np.inf))),
    "quarter": ("div-by-power-of-two", lambda g: after(g, "Div", g.const(-4.0))),
    "same_upper": ("explicit-pads", lambda g: windowed(g, 7, auto_pad="SAME_UPPER")),
    "valid": ("explicit-pads", lambda g: windowed(g, 6, auto_pad="VALID")),
}


def after_reshape(g: Draft) -> Value:
    """Read twice: the chain needs no sole reader."""
    y = g.op("Reshape", g.op("Neg", g.input(2, 3, 4)), g.ints(3, 8))
    g.output(g.op("Abs", y), y)
    return y


def after_relu(g: Draft) -> Value:
    return g.op("Relu", g.input(2, 3))


def resized(g: Draft, scales: tuple[float, ...]) -> Value:
    x = g.op("Neg", g.input(1, 3, 4))
    return g.op("Abs", g.op("Resize", x, None, g.const(scales), mode="linear"))


def summed(g: Draft, shape: tuple[int, ...]) -> Value:
    y = g.op("ReduceSum", g.input(2, 3, 4), g.ints(-2), keepdims=0)
    return g.op("Reshape", y, g.ints(*shape))


def turned_twice(g: Draft, second: tuple[int, ...]) -> Value:
    y = g.op("Transpose", g.op("Neg", g.input(2, 3, 4)), perm=(1, 2, 0))
    return g.op("Abs", g.op("Transpose", y, perm=second))


def cast_twice(g: Draft, source: DType, middle: int, last: int) -> Value:
    return g.op("Cast", g.op("Cast", g.input(2, 3, dtype=source), to=middle), to=last)


def clipped(g: Draft, *bounds: float) -> Value:
    return g.op("Clip", g.input(2, 3), *(g.const(b) for b in bounds))


def windowed(g: Draft, size: int | str, **attributes: object) -> Value:
    x = g.input(1, 2, size, 5)
    return g.op("Conv", x, g.weight(2, 2, 3, 2), strides=(2, 1), **attributes)


@pytest.mark.parametrize("case", CASES)
def test_fires(case: str, update_golden: bool) -> None:
    rule, build = CASES[case]
    check_fires(PASS, rule, build, f"canonical_{case}", update_golden)


def mask_is_used(g: Draft) -> Value:
    kept, mask = g.ops("Dropout", g.input(2, 3), outputs=2)
    g.output(kept, mask)
    return kept


def training(g: Draft) -> Value:
    return g.op("Dropout", g.input(2, 3), g.const(0.5), g.input(dtype=DType.bool))


STAYS: dict[str, tuple[str, Build, str]] = {
    "mask": ("remove-identity", mask_is_used, "the mask is used"),
    "training": ("remove-identity", training, "may be training"),
    "cast": ("remove-no-op", lambda g: after(g, "Cast", to=HALF), "the result is float16"),
    "transpose": ("remove-no-op", lambda g: g.op("Transpose", g.input(3, 3), perm=(1, 0)), "it moves"),
    "reverse": (
        "remove-no-op",
        lambda g: after(g, "Slice", g.ints(-1), g.ints(-99), g.ints(1), g.ints(-1)),
        "it may reverse",
    ),
    "dynamic_slice": (
        "remove-no-op",
        lambda g: g.op("Slice", g.input("N", 3), g.ints(0), g.ints(9), g.ints(1)),
        "not static",
    ),
    "roll": ("remove-no-op", lambda g: after(g, "Pad", g.ints(0, 0, 1, 0, 0, -1)), "it moves elements"),
    "rounded_scale": ("remove-no-op", lambda g: resized(g, (1.0, 1.1, 1.0)), "it scales"),
    "two_unknown": (
        "reshape-forms",
        lambda g: g.op("Flatten", g.input("N", "M", 4), axis=1),
        "more than one",
    ),
    "computed": (
        "reshape-forms",
        lambda g: g.op("Reshape", g.input(2, 3), g.input(2, dtype=DType.int64)),
        "more than one",
    ),
    "moving_transpose": ("reshape-forms", lambda g: turned_twice(g, (2, 1, 0)), "it moves elements"),
    "other_shape": ("keep-reduced-axes", lambda g: summed(g, (1, 2, 4)), "the kept shape is"),
    "lossy_cast": (
        "cast-chain",
        lambda g: cast_twice(g, DType.float32, HALF, FLOAT),
        "float16 does not hold every float32",
    ),
    "relu_negative": ("relu-of-relu", lambda g: g.op("Relu", clipped(g, -1.0, 1.0)), "negative"),
    "clip_empty": (
        "clip-of-clip",
        lambda g: g.op("Clip", clipped(g, 0.0, 1.0), g.const(2.0), g.const(3.0)),
        "the ranges do not meet",
    ),
    "growing_power": ("pow-2", lambda g: after(g, "Pow", g.const([[[[2.0]]]])), "the result is"),
    "integer_root": (
        "pow-half",
        lambda g: g.op("Pow", g.input(3, dtype=DType.int32), g.const(0.5)),
        "not a float",
    ),
    "growing_one": (
        "neutral-operand",
        lambda g: g.op("Mul", g.input(1, 3), g.const(np.ones((2, 1)))),
        "the result is",
    ),
    "one_of_many": ("neutral-operand", lambda g: after(g, "Add", g.const([0, 0, 0, 1])), "not 0 throughout"),
    "third": ("div-by-power-of-two", lambda g: after(g, "Div", g.const(3.0)), "not a power of two"),
    "tiny": ("div-by-power-of-two", lambda g: after(g, "Div", g.const(2.0**-40)), "out of bounds"),
    "integer": (
        "div-by-power-of-two",
        lambda g: g.op("Div", g.input(3, dtype=DType.int32), g.const(2, np.int32)),
        "integer division rounds",
    ),
    "unknown_size": (
        "explicit-pads",
        lambda g: windowed(g, "H", auto_pad="SAME_LOWER"),
        "size is not known",
    ),
}


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    rule, build, reason = STAYS[case]
    check_stays(PASS, rule, build, reason)
