"""Dense layers as plain Gemm nodes."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Value
from tests.passes.helpers import Build, Draft, check_fires, check_stays

PASS = "normalize-matmul"


def product(g: Draft, *shape: int, rows: int | str = 3) -> Value:
    return g.op("Add", g.weight(*shape), g.op("MatMul", g.input(rows, 5), g.weight(5, 4)))


def gemm(g: Draft, **attributes: object) -> Value:
    shape = (4, 5) if attributes.get("transB") else (5, 4)
    return g.op("Gemm", g.input(3, 5), g.weight(*shape), g.weight(4), **attributes)


def tied(g: Draft) -> Value:
    """Two layers with one weight: each gets its own turned copy, and equal ones are merged later."""
    w = g.weight(4, 5)
    g.output(*(g.op("Gemm", g.input(3, 5), w, transB=1) for _ in range(2)))
    return w


CASES: dict[str, tuple[str, Build]] = {
    "bias": ("matmul-add-to-gemm", lambda g: product(g, 4)),
    "row_bias": ("matmul-add-to-gemm", lambda g: product(g, 1, 4, rows="N")),
    "single_bias": ("matmul-add-to-gemm", lambda g: product(g, 1)),
    "turned": ("plain-gemm", lambda g: gemm(g, transB=1)),
    "scaled": ("plain-gemm", lambda g: gemm(g, alpha=0.5, beta=2.0)),
    "tied": ("plain-gemm", tied),
}


@pytest.mark.parametrize("case", CASES)
def test_fires(case: str, update_golden: bool) -> None:
    rule, build = CASES[case]
    check_fires(PASS, rule, build, f"matmul_{case}", update_golden)


def three_axes(g: Draft) -> Value:
    return g.op("Add", g.op("MatMul", g.input(2, 3, 5), g.weight(5, 4)), g.weight(4))


def fans_out(g: Draft) -> Value:
    y = g.op("MatMul", g.input(3, 5), g.weight(5, 4))
    g.output(g.op("Add", y, g.weight(4)), g.op("Relu", y))
    return y


def is_output(g: Draft) -> Value:
    y = g.op("MatMul", g.input(3, 5), g.weight(5, 4))
    g.output(y, g.op("Add", y, g.weight(4)))
    return y


def integers(g: Draft) -> Value:
    x = g.input(3, 5, dtype=DType.int32)
    y = g.op("MatMul", x, g.const(np.ones((5, 4)), np.int32))
    return g.op("Add", y, g.const([1, 2, 3, 4], np.int32))


STAYS: dict[str, tuple[str, Build, str]] = {
    "three_axes": ("matmul-add-to-gemm", three_axes, "an operand is not a matrix"),
    "by_row": ("matmul-add-to-gemm", lambda g: product(g, 3, 1), "not one number per column"),
    "growing": ("matmul-add-to-gemm", lambda g: product(g, 2, 3, 4), "not one number per column"),
    "fans_out": ("matmul-add-to-gemm", fans_out, "is also used by"),
    "is_output": ("matmul-add-to-gemm", is_output, "is a graph output"),
    "integers": ("matmul-add-to-gemm", integers, "the weights are not floats"),
    "plain": ("plain-gemm", gemm, "it is plain already"),
    "computed": ("plain-gemm", lambda g: g.op("Gemm", g.input(3, 5), g.input(5, 4)), "is not a constant"),
}


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    rule, build, reason = STAYS[case]
    check_stays(PASS, rule, build, reason)
