"""Layers on one input become one."""

from __future__ import annotations

import pytest

from graphopt.ir import Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

RULE = "merge-parallel"


def outputs(g: Draft, *values: Value) -> Value:
    g.output(*(g.op("Relu", value) for value in values))
    return values[0]


def convs(g: Draft, *, bias: bool = True, batch: int | str = 1, **attributes: object) -> Value:
    x = g.input(batch, 3, 4, 4)
    layers = [
        g.op("Conv", x, g.weight(c, 3, 1, 1), *([g.weight(c)] if bias else []), **attributes)
        for c in (2, 4, 3)
    ]
    return outputs(g, *layers)


def projections(g: Draft, *, biases: int = 3) -> Value:
    """Queries, keys and values."""
    x = g.input(1, 6, 8)
    layers = [g.op("MatMul", x, g.weight(8, 8)) for _ in range(3)]
    return outputs(g, *(g.op("Add", y, g.weight(8)) if i < biases else y for i, y in enumerate(layers)))


def gemms(g: Draft) -> Value:
    x = g.input(3, 5)
    return outputs(g, *(g.op("Gemm", x, g.weight(5, n), g.weight(n)) for n in (2, 4)))


def two_kinds(g: Draft) -> Value:
    """Windows of one size merge with each other."""
    x = g.input(1, 3, 4, 4)
    small = [g.op("Conv", x, g.weight(2, 3, 1, 1)) for _ in range(2)]
    large = [g.op("Conv", x, g.weight(2, 3, 3, 3), pads=(1, 1, 1, 1)) for _ in range(2)]
    return outputs(g, *small, *large)


CASES: dict[str, Build] = {
    "convs": convs,
    "convs_no_bias": lambda g: convs(g, bias=False, batch="N", strides=(2, 2)),
    "projections": projections,
    "projections_no_bias": lambda g: projections(g, biases=0),
    "projections_two_biases": lambda g: projections(g, biases=2),
    "gemms": gemms,
    "two_kinds": two_kinds,
}


@pytest.mark.parametrize("case", CASES)
def test_fires(case: str, update_golden: bool) -> None:
    check_fires(RULE, RULE, CASES[case], f"parallel_{case}", update_golden)


def shared_weights(g: Draft) -> Value:
    x, w = g.input(2, 5), g.weight(5, 4)
    return outputs(g, g.op("MatMul", x, w), g.op("MatMul", x, w))


def computed(g: Draft) -> Value:
    x = g.input(2, 5)
    return outputs(g, g.op("MatMul", x, g.input(5, 4)), g.op("MatMul", x, g.input(5, 4)))


def wide(g: Draft) -> Value:
    x = g.input(1, 2, 2, 2)
    return outputs(g, *(g.op("Conv", x, g.weight(65, 2, 1, 1)) for _ in range(2)))


def grouped(g: Draft) -> Value:
    x = g.input(1, 4, 2, 2)
    return outputs(g, *(g.op("Conv", x, g.weight(4, 2, 1, 1), group=2) for _ in range(2)))


def batched(g: Draft) -> Value:
    x = g.input(2, 3, 5)
    return outputs(g, *(g.op("MatMul", x, g.weight(2, 5, 4)) for _ in range(2)))


def turned(g: Draft) -> Value:
    x = g.input(3, 5)
    return outputs(g, *(g.op("Gemm", x, g.weight(2, 5), transB=1) for _ in range(2)))


def row_bias(g: Draft) -> Value:
    x = g.input(3, 5)
    return outputs(g, *(g.op("Gemm", x, g.weight(5, 2), g.weight(3, 1)) for _ in range(2)))


STAYS: dict[str, tuple[Build, str]] = {
    "shared_weights": (shared_weights, "its weights are shared"),
    "computed": (computed, "not constant floats"),
    "wide": (wide, "more than 64 channels"),
    "grouped": (grouped, "it has groups"),
    "batched": (batched, "not a matrix"),
    "turned": (turned, "not a plain product"),
    "row_bias": (row_bias, "not one number per channel"),
}


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    build, reason = STAYS[case]
    check_stays(RULE, RULE, build, reason)


def test_a_sum_that_is_an_output_keeps_its_own_addition(update_golden: bool) -> None:
    def build(g: Draft) -> Value:
        x = g.input(2, 5)
        products = [g.op("MatMul", x, g.weight(5, 4)) for _ in range(2)]
        g.output(*products, *(g.op("Add", y, g.weight(4)) for y in products))
        return x

    check_fires(RULE, RULE, build, "parallel_outputs", update_golden)
