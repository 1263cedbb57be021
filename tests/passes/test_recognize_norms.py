"""Layer normalisation, root-mean-square normalisation and softmax spelt out of primitives."""

from __future__ import annotations

import pytest

from graphopt.ir import Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

LAYER, RMS, SOFTMAX = "recognize-layernorm", "recognize-rmsnorm", "recognize-softmax"


def mean(g: Draft, x: Value, *axes: int, keepdims: int = 1) -> Value:
    return g.op("ReduceMean", x, g.ints(*axes), keepdims=keepdims)


def layer_norm(
    g: Draft, *axes: int, square: str = "Mul", reciprocal: bool = False, again: bool = False
) -> Value:
    """The usual spelling; with `again` the variance centres x a second time."""
    x = g.input(2, 3, 4)
    centred = g.op("Sub", x, mean(g, x, *axes))
    inner = g.op("Sub", x, mean(g, x, *axes)) if again else centred
    squared = g.op("Mul", inner, inner) if square == "Mul" else g.op("Pow", inner, g.const(2.0))
    root = g.op("Sqrt", g.op("Add", mean(g, squared, *axes), g.const(1e-5)))
    if reciprocal:
        return g.op("Mul", centred, g.op("Reciprocal", root))
    return g.op("Div", centred, root)


def reciprocal_times(g: Draft, x: Value, *gamma: int) -> tuple[Value, Value, Value]:
    """The mean, the centred x, and the reciprocal deviation times gamma."""
    average = mean(g, x, -1)
    centred = g.op("Sub", x, average)
    variance = mean(g, g.op("Mul", centred, centred), -1)
    inverse = g.op("Reciprocal", g.op("Sqrt", g.op("Add", variance, g.const(1e-3))))
    return average, centred, g.op("Mul", inverse, g.weight(*gamma))


def flax(g: Draft, *gamma: int) -> Value:
    _, centred, factor = reciprocal_times(g, g.input("N", 3, 4), *gamma)
    return g.op("Mul", centred, factor)


def keras(g: Draft, *beta: int) -> Value:
    x = g.input("N", 3, 4)
    average, _, factor = reciprocal_times(g, x, 4)
    shift = g.op("Sub", g.weight(*beta), g.op("Mul", average, factor))
    return g.op("Add", g.op("Mul", x, factor), shift)


def scaled(g: Draft, *shape: int) -> Value:
    return g.op("Mul", layer_norm(g, -1), g.weight(*shape))


def shifted(g: Draft, *shape: int) -> Value:
    return g.op("Add", g.weight(*shape), layer_norm(g, 1, 2))


def rms_norm(g: Draft, *axes: int, how: str = "div", gamma: tuple[int, ...] = (4,)) -> Value:
    x = g.input("N", 3, 4)
    square = g.op("Pow", x, g.const(2.0)) if how == "div" else g.op("Mul", x, x)
    root = g.op("Sqrt", g.op("Add", mean(g, square, *axes), g.const(1e-6)))
    if how == "div":
        return g.op("Mul", g.op("Div", x, root), g.weight(*gamma))
    inverse = g.op("Reciprocal", root) if how == "reciprocal" else g.op("Div", g.const(1.0), root)
    return g.op("Mul", g.weight(*gamma), g.op("Mul", x, inverse))


def softmax(g: Draft, axis: int, *, maximum: int | None = None, keepdims: int = 1) -> Value:
    x = g.input(2, 3, 3)
    if maximum is not None:
        x = g.op("Sub", x, g.op("ReduceMax", x, g.ints(maximum)))
    odds = g.op("Exp", x)
    return g.op("Div", odds, g.op("ReduceSum", odds, g.ints(axis), keepdims=keepdims))


CASES: dict[str, tuple[str, str, Build]] = {
    "layer": (LAYER, "recognize-layernorm", lambda g: layer_norm(g, -1)),
    "layer_two_axes": (LAYER, "recognize-layernorm", lambda g: layer_norm(g, 1, 2, square="Pow")),
    "layer_again": (LAYER, "recognize-layernorm", lambda g: layer_norm(g, 2, again=True)),
    "layer_reciprocal": (
        LAYER,
        "recognize-layernorm-reciprocal",
        lambda g: layer_norm(g, -1, reciprocal=True),
    ),
    "layer_flax": (LAYER, "recognize-layernorm-scaled", lambda g: flax(g, 1, 1, 4)),
    "layer_keras": (LAYER, "recognize-layernorm-affine", lambda g: keras(g, 4)),
    "layer_scale": (LAYER, "layernorm-scale", lambda g: scaled(g, 1, 4)),
    "layer_shift": (LAYER, "layernorm-shift", lambda g: shifted(g, 3, 4)),
    "rms_div": (RMS, "recognize-rmsnorm", lambda g: rms_norm(g, -1)),
    "rms_reciprocal": (RMS, "recognize-rmsnorm", lambda g: rms_norm(g, 2, how="reciprocal")),
    "rms_inverse": (RMS, "recognize-rmsnorm", lambda g: rms_norm(g, 1, 2, how="one over", gamma=(3, 4))),
    "softmax": (SOFTMAX, "recognize-softmax", lambda g: softmax(g, 1, maximum=1)),
    "softmax_plain": (SOFTMAX, "recognize-softmax-plain", lambda g: softmax(g, -1)),
    "log_softmax": (
        SOFTMAX,
        "recognize-log-softmax",
        lambda g: g.op("Log", g.op("Softmax", g.input(2, 3), axis=0)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_fires(case: str, update_golden: bool) -> None:
    spec, rule, build = CASES[case]
    check_fires(spec, rule, build, f"norm_{case}", update_golden)


def unequal_axes(g: Draft) -> Value:
    x = g.input(2, 3, 3)
    centred = g.op("Sub", x, mean(g, x, 2))
    variance = mean(g, g.op("Mul", centred, centred), 1, 2)
    return g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.const(1e-5))))


def dropped_axis(g: Draft) -> Value:
    x = g.input(4)
    centred = g.op("Sub", x, mean(g, x, 0, keepdims=0))
    variance = mean(g, g.op("Mul", centred, centred), 0, keepdims=0)
    return g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.const(1e-5))))


def unknown_width(g: Draft) -> Value:
    x = g.input(2, "M")
    centred = g.op("Sub", x, mean(g, x, 1))
    variance = mean(g, g.op("Mul", centred, centred), 1)
    return g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.const(1e-5))))


def variance_is_output(g: Draft) -> Value:
    x = g.input(2, 4)
    centred = g.op("Sub", x, mean(g, x, 1))
    variance = mean(g, g.op("Mul", centred, centred), 1)
    g.output(variance, g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.const(1e-5)))))
    return x


def norm_fans_out(g: Draft) -> Value:
    y = g.op("LayerNormalization", g.input(2, 4), g.weight(4))
    return g.op("Add", g.op("Mul", y, g.weight(4)), g.op("Neg", y))


def exp_elsewhere(g: Draft) -> Value:
    """Reading the exponentials elsewhere is fine: they stay."""
    x = g.input(2, 3)
    odds = g.op("Exp", x)
    g.output(odds, g.op("Div", odds, g.op("ReduceSum", odds, g.ints(1))))
    return x


STAYS: dict[str, tuple[str, str, Build, str]] = {
    "unequal_axes": (LAYER, LAYER, unequal_axes, "the means are over different axes"),
    "first_axis": (LAYER, LAYER, lambda g: layer_norm(g, 0), "the axes [0] are not the last ones"),
    "dropped": (LAYER, LAYER, dropped_axis, "a mean drops its axes"),
    "dynamic": (LAYER, LAYER, unknown_width, "the normalised dimensions are not known"),
    "variance_is_output": (LAYER, LAYER, variance_is_output, "is a graph output"),
    "scale_other": (LAYER, "layernorm-scale", lambda g: scaled(g, 3, 4), "has the shape [3, 4], not [4]"),
    "scale_grows": (LAYER, "layernorm-scale", lambda g: scaled(g, 1, 1, 1, 4), "changes the shape"),
    "shift_other": (LAYER, "layernorm-shift", lambda g: shifted(g, 4), "has the shape [4], not [3, 4]"),
    "flax_gamma": (LAYER, "recognize-layernorm-scaled", lambda g: flax(g, 3, 1), "not one number per"),
    "flax_grows": (LAYER, "recognize-layernorm-scaled", lambda g: flax(g, 1, 1, 1, 4), "changes the shape"),
    "keras_beta": (LAYER, "recognize-layernorm-affine", lambda g: keras(g, 1), "not one number per"),
    "norm_fans_out": (LAYER, "layernorm-scale", norm_fans_out, "is also used by"),
    "rms_first_axis": (RMS, RMS, lambda g: rms_norm(g, 1), "the axes [1] are not the last ones"),
    "rms_gamma": (RMS, RMS, lambda g: rms_norm(g, 2, gamma=(1, 4)), "not one number per normalised element"),
    "two_axes": (SOFTMAX, "recognize-softmax-plain", lambda g: two_axes(g), "not over one axis"),
    "other_maximum": (
        SOFTMAX,
        "recognize-softmax",
        lambda g: softmax(g, 1, maximum=2),
        "the maximum is over other axes",
    ),
    "sum_drops": (
        SOFTMAX,
        "recognize-softmax-plain",
        lambda g: one_row(g),
        "the sum drops its axis",
    ),
    "softmax_is_output": (
        SOFTMAX,
        "recognize-log-softmax",
        lambda g: softmax_is_output(g),
        "is a graph output",
    ),
}


def two_axes(g: Draft) -> Value:
    odds = g.op("Exp", g.input(2, 3))
    return g.op("Div", odds, g.op("ReduceSum", odds, g.ints(0, 1)))


def one_row(g: Draft) -> Value:
    odds = g.op("Exp", g.input(3))
    return g.op("Div", odds, g.op("ReduceSum", odds, g.ints(0), keepdims=0))


def softmax_is_output(g: Draft) -> Value:
    y = g.op("Softmax", g.input(2, 3))
    g.output(y, g.op("Log", y))
    return y


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    spec, rule, build, reason = STAYS[case]
    check_stays(spec, rule, build, reason)


def test_exponentials_that_are_an_output_stay(update_golden: bool) -> None:
    check_fires(SOFTMAX, "recognize-softmax-plain", exp_elsewhere, "norm_softmax_exp_output", update_golden)
