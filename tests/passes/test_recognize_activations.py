"""Activations spelt out of primitives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphopt.ir import DType, Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

PASS = "recognize-activations"
ROOT_HALF, ROOT_TWO_OVER_PI = math.sqrt(0.5), math.sqrt(2 / math.pi)


def exp_of_minus(g: Draft, x: Value) -> Value:
    return g.op("Add", g.const(1.0), g.op("Exp", g.op("Neg", x)))


def relu6_of_x_plus_3(g: Draft, x: Value) -> Value:
    return g.op("Clip", g.op("Add", x, g.const(3.0)), g.const(0.0), g.const(6.0))


def erf_gate(g: Draft, x: Value, *, product: bool = False) -> Value:
    inner = g.op("Mul", x, g.const(ROOT_HALF)) if product else g.op("Div", x, g.const(math.sqrt(2)))
    return g.op("Add", g.op("Erf", inner), g.const(1.0))


def tanh_gate(g: Draft, inner: Value) -> Value:
    return g.op("Add", g.op("Tanh", inner), g.const(1.0))


def cube(g: Draft, x: Value, power: bool) -> Value:
    return g.op("Pow", x, g.const(3.0)) if power else g.op("Mul", g.op("Mul", x, x), x)


def tanh_line(g: Draft, x: Value, power: bool = True) -> Value:
    cubic = g.op("Mul", g.const(0.044715), cube(g, x, power))
    return g.op("Mul", g.op("Add", x, cubic), g.const(ROOT_TWO_OVER_PI))


def tanh_fast(g: Draft, x: Value) -> Value:
    square = g.op("Mul", g.op("Mul", g.const(0.044715), x), x)
    return g.op("Mul", g.op("Mul", x, g.const(ROOT_TWO_OVER_PI)), g.op("Add", g.const(1.0), square))


def tanh_outwards(g: Draft, x: Value) -> Value:
    cubic = g.op("Mul", x, g.op("Mul", x, g.op("Mul", g.const(0.044715), x)))
    return g.op("Mul", g.const(ROOT_TWO_OVER_PI), g.op("Add", x, cubic))


def half_last(g: Draft, x: Value, gate: Value) -> Value:
    return g.op("Mul", g.op("Mul", x, gate), g.const(0.5))


def half_first(g: Draft, x: Value, gate: Value) -> Value:
    return g.op("Mul", g.op("Mul", g.const(0.5), x), gate)


def half_gate(g: Draft, x: Value, gate: Value) -> Value:
    return g.op("Mul", x, g.op("Mul", g.const(0.5), gate))


def on(x_to_y: object, *, dtype: DType = DType.float32) -> Build:
    """A build on one input."""
    return lambda g: x_to_y(g, g.input(2, 5, dtype=dtype))  # type: ignore[operator]


Spelling = tuple[str, Build]

CASES: dict[str, Spelling] = {
    "sigmoid_quotient": (
        "recognize-sigmoid-quotient",
        on(lambda g, x: g.op("Div", g.const(1.0), exp_of_minus(g, x))),
    ),
    "sigmoid_reciprocal": (
        "recognize-sigmoid-reciprocal",
        on(lambda g, x: g.op("Reciprocal", exp_of_minus(g, x))),
    ),
    "swish": ("recognize-swish", on(lambda g, x: g.op("Mul", g.op("Sigmoid", x), x))),
    "swish_quotient": ("recognize-swish-quotient", on(lambda g, x: g.op("Div", x, exp_of_minus(g, x)))),
    "swish_exp": (
        "recognize-swish",
        on(lambda g, x: g.op("Mul", x, g.op("Div", g.const(1.0), exp_of_minus(g, x)))),
    ),
    "hard_sigmoid": (
        "recognize-hard-sigmoid",
        on(lambda g, x: g.op("Div", relu6_of_x_plus_3(g, x), g.const(6.0))),
    ),
    "hard_sigmoid_product": (
        "recognize-hard-sigmoid-product",
        on(lambda g, x: g.op("Mul", relu6_of_x_plus_3(g, x), g.const(1 / 6))),
    ),
    "hard_sigmoid_clip": (
        "recognize-hard-sigmoid-clip",
        on(
            lambda g, x: g.op(
                "Clip",
                g.op("Add", g.op("Mul", x, g.const(0.2)), g.const(0.5)),
                g.const(0.0),
                g.const(1.0),
            )
        ),
    ),
    "hard_swish_gate": (
        "recognize-hard-swish",
        on(lambda g, x: g.op("Mul", x, g.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))),
    ),
    "hard_swish_quotient": (
        "recognize-hard-swish-quotient",
        on(lambda g, x: g.op("Div", g.op("Mul", x, relu6_of_x_plus_3(g, x)), g.const(6.0))),
    ),
    "hard_swish_product": (
        "recognize-hard-swish-product",
        on(lambda g, x: g.op("Mul", g.op("Mul", x, relu6_of_x_plus_3(g, x)), g.const(1 / 6))),
    ),
    "gelu_erf": ("recognize-gelu", on(lambda g, x: half_last(g, x, erf_gate(g, x)))),
    "gelu_erf_half_first": (
        "recognize-gelu-half-first",
        on(lambda g, x: half_first(g, x, erf_gate(g, x, product=True))),
    ),
    "gelu_erf_half_gate": ("recognize-gelu-half-gate", on(lambda g, x: half_gate(g, x, erf_gate(g, x)))),
    "gelu_tanh": ("recognize-gelu", on(lambda g, x: half_last(g, x, tanh_gate(g, tanh_line(g, x))))),
    "gelu_tanh_products": (
        "recognize-gelu-half-first",
        on(lambda g, x: half_first(g, x, tanh_gate(g, tanh_line(g, x, power=False)))),
    ),
    "gelu_tanh_fast": (
        "recognize-gelu-half-first",
        on(lambda g, x: half_first(g, x, tanh_gate(g, tanh_fast(g, x)))),
    ),
    "gelu_tanh_outwards": (
        "recognize-gelu-half-gate",
        on(lambda g, x: half_gate(g, x, tanh_gate(g, tanh_outwards(g, x)))),
    ),
    "relu": ("recognize-relu", on(lambda g, x: g.op("Max", g.const(0.0), x))),
    "leaky_relu": (
        "recognize-leaky-relu",
        on(lambda g, x: g.op("Max", x, g.op("Mul", g.const(0.1), x))),
    ),
    "leaky_relu_prelu": (
        "recognize-leaky-relu-prelu",
        on(lambda g, x: g.op("PRelu", x, g.const([0.25] * 5))),
    ),
    "clip_min_max": (
        "recognize-clip",
        on(lambda g, x: g.op("Min", g.op("Max", x, g.const(-1.0)), g.const(1.0))),
    ),
    "clip_max_min": (
        "recognize-clip",
        on(lambda g, x: g.op("Max", g.op("Min", x, g.const(1.0)), g.const(-1.0))),
    ),
    "relu6": (
        "recognize-clip",
        on(lambda g, x: g.op("Min", g.op("Max", x, g.const(0.0)), g.const(6.0))),
    ),
    "softplus": (
        "recognize-softplus",
        on(lambda g, x: g.op("Log", g.op("Add", g.op("Exp", x), g.const(1.0)))),
    ),
    "mish": ("recognize-mish", on(lambda g, x: g.op("Mul", x, g.op("Tanh", g.op("Softplus", x))))),
}


@pytest.mark.parametrize("case", CASES)
def test_fires(case: str, update_golden: bool) -> None:
    rule, build = CASES[case]
    check_fires(PASS, rule, build, f"activation_{case}", update_golden)


def other(g: Draft, x: Value) -> Value:
    return g.op("Mul", x, g.op("Sigmoid", g.op("Neg", x)))


def gate_is_output(g: Draft, x: Value) -> Value:
    gate = g.op("Sigmoid", x)
    g.output(gate, g.op("Mul", x, gate))
    return x


def gate_fans_out(g: Draft, x: Value) -> Value:
    gate = erf_gate(g, x)
    return g.op("Add", half_last(g, x, gate), gate)


STAYS: dict[str, tuple[str, Build, str]] = {
    "swish_of_another": ("recognize-swish", on(other), "already bound to 'x'"),
    "swish_gate_is_output": ("recognize-swish", on(gate_is_output), "is a graph output"),
    "gelu_fans_out": ("recognize-gelu", on(gate_fans_out), "is also used by"),
    "gelu_other_root": (
        "recognize-gelu",
        on(lambda g, x: half_last(g, x, tanh_gate(g, g.op("Mul", tanh_line(g, x), g.const(1.1))))),
        "is not the value already bound to 'x'",
    ),
    "sigmoid_two": (
        "recognize-sigmoid-quotient",
        on(lambda g, x: g.op("Div", g.const(2.0), exp_of_minus(g, x))),
        "is 2, not 1",
    ),
    "hard_swish_slope": (
        "recognize-hard-swish",
        on(lambda g, x: g.op("Mul", x, g.op("HardSigmoid", x, alpha=0.2, beta=0.5))),
        "the gate is HardSigmoid(0.2, 0.5)",
    ),
    "relu_grows": (
        "recognize-relu",
        on(lambda g, x: g.op("Max", x, g.const([[[0.0]]]))),
        "a constant changes the shape",
    ),
    "relu_integer": (
        "recognize-relu",
        on(lambda g, x: g.op("Max", x, g.const(0, np.int32)), dtype=DType.int32),
        "is not a float",
    ),
    "leaky_steep": (
        "recognize-leaky-relu",
        on(lambda g, x: g.op("Max", x, g.op("Mul", g.const(1.5), x))),
        "the slope 1.5 is not in [0, 1)",
    ),
    "prelu_differs": (
        "recognize-leaky-relu-prelu",
        on(lambda g, x: g.op("PRelu", x, g.weight(5))),
        "the slopes differ",
    ),
    "prelu_computed": (
        "recognize-leaky-relu-prelu",
        on(lambda g, x: g.op("PRelu", x, g.input(5))),
        "not constant",
    ),
    "clip_same_side": (
        "recognize-clip",
        on(lambda g, x: g.op("Min", g.op("Min", x, g.const(3.0)), g.const(1.0))),
        "both bound the same side",
    ),
    "clip_crossed": (
        "recognize-clip",
        on(lambda g, x: g.op("Min", g.op("Max", x, g.const(2.0)), g.const(1.0))),
        "do not leave a range",
    ),
}


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    rule, build, reason = STAYS[case]
    check_stays(PASS, rule, build, reason)


def test_a_shape_that_is_not_known_is_kept(update_golden: bool) -> None:
    def build(g: Draft) -> Value:
        x = g.input("N", "M")
        return g.op("Mul", x, g.op("Sigmoid", x))

    check_fires(PASS, "recognize-swish", build, "activation_swish_dynamic", update_golden)
