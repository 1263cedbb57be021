"""Products with one-hot rows as lookups, and functions of what is looked up."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Value
from graphopt.passes import catalog
from graphopt.pipeline import parse_pipeline
from graphopt.runtime.reference import run
from tests.passes.helpers import Build, Draft, check_fires, check_stays, made

SPEC = LOOKUP = "recognize-lookup"
FUNCTION = "function-of-lookup"
CLASSES = 5


def one_hot(g: Draft, x: Value, classes: np.ndarray, dtype: type = np.int32) -> Value:
    return g.op("Cast", g.op("Equal", x, g.const(classes, dtype)), to=DType.float32.onnx_code)


def product(g: Draft) -> Value:
    x = g.input("N", 3, 1, dtype=DType.int32)
    return g.op("MatMul", one_hot(g, x, np.arange(CLASSES)[None, None]), g.weight(CLASSES, 4))


def of_long_numbers(g: Draft) -> Value:
    x = g.input(7, 1, dtype=DType.int64)
    return g.op("MatMul", one_hot(g, x, np.arange(CLASSES), np.int64), g.weight(CLASSES, 2))


@pytest.mark.parametrize("build", [product, of_long_numbers])
def test_recognises(build: Build, update_golden: bool) -> None:
    check_fires(SPEC, LOOKUP, build, f"lookup_{build.__name__}", update_golden)


def test_numbers_that_are_no_class_give_zeros() -> None:
    graph = made(of_long_numbers)
    (given,), (name,) = graph.inputs, graph.output_names
    x = {given.name: np.asarray([-9, -1, 0, 4, 5, 6, 2**60], np.int64).reshape(7, 1)}
    before = run(graph, x)[name]
    parse_pipeline(SPEC, catalog()).run(graph)
    np.testing.assert_array_equal(run(graph, x)[name], before)
    assert not before[[0, 1, 4, 5, 6]].any() and before[[2, 3]].all()


def embedded(g: Draft) -> Value:
    last = g.const(CLASSES - 1, np.int32)
    rows = g.op("Clip", g.input(3, 4, dtype=DType.int32), g.const(0, np.int32), last)
    rows = g.op("Gather", g.weight(CLASSES, 4), rows)
    shifted = g.op("Sub", rows, g.weight(1, 1, 4))
    return g.op("Gelu", g.op("Mul", g.const(0.5), shifted), approximate="tanh")


def test_functions_act_on_the_table(update_golden: bool) -> None:
    check_fires(SPEC, FUNCTION, embedded, "lookup_embedded", update_golden)


def classes_that(build: np.ndarray, reason: str) -> None:
    def draft(g: Draft) -> Value:
        x = g.input(3, 1, dtype=DType.int32)
        return g.op("MatMul", one_hot(g, x, build), g.weight(CLASSES, 4))

    check_stays(SPEC, LOOKUP, draft, reason)


def test_other_classes_stay() -> None:
    classes_that(np.arange(CLASSES) + 1, "are not 0, 1, 2")


def test_classes_down_the_rows_stay() -> None:
    def draft(g: Draft) -> Value:
        x = g.input(CLASSES, 1, dtype=DType.int32)
        return g.op("MatMul", one_hot(g, x, np.arange(CLASSES)[:, None]), g.weight(1, 4))

    check_stays(SPEC, LOOKUP, draft, "a row for each class")


def test_a_table_with_infinities_stays() -> None:
    def draft(g: Draft) -> Value:
        x = g.input(3, 1, dtype=DType.int32)
        table = g.const(np.full((CLASSES, 4), np.inf))
        return g.op("MatMul", one_hot(g, x, np.arange(CLASSES)), table)

    check_stays(SPEC, LOOKUP, draft, "not finite")


def test_compared_floats_stay() -> None:
    def draft(g: Draft) -> Value:
        return g.op("MatMul", one_hot(g, g.input(3, 1), np.arange(CLASSES), np.float32), g.weight(CLASSES, 4))

    check_stays(SPEC, LOOKUP, draft, "does not compare whole numbers")


def test_several_numbers_along_the_last_axis_stay() -> None:
    def draft(g: Draft) -> Value:
        x = g.input(3, CLASSES, dtype=DType.int32)
        return g.op("MatMul", one_hot(g, x, np.arange(CLASSES)), g.weight(CLASSES, 4))

    check_stays(SPEC, LOOKUP, draft, "not alone")


def gathered(g: Draft, **attributes: object) -> Value:
    return g.op("Gather", g.weight(CLASSES, 4), g.input(3, dtype=DType.int32), **attributes)


def test_a_large_table_stays() -> None:
    check_stays(SPEC, FUNCTION, lambda g: g.op("Relu", gathered(g)), "larger than what is gathered")


def test_gathered_columns_stay() -> None:
    check_stays(SPEC, FUNCTION, lambda g: g.op("Relu", gathered(g, axis=1)), "does not gather rows")


def test_an_operand_for_each_row_stays() -> None:
    def draft(g: Draft) -> Value:
        rows = g.op("Gather", g.weight(CLASSES, 4), g.input(6, dtype=DType.int32))
        return g.op("Add", rows, g.weight(6, 1))

    check_stays(SPEC, FUNCTION, draft, "differs from row to row")


def test_another_input_stays() -> None:
    def draft(g: Draft) -> Value:
        rows = g.op("Gather", g.weight(CLASSES, 4), g.input(6, dtype=DType.int32))
        return g.op("Add", rows, g.input(4))

    check_stays(SPEC, FUNCTION, draft, "another operand is not constant")
