"""Kernels whose steps follow one another: TopK, CumSum, CumProd, MaxUnpool."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from tests.targets.lower.data import data, whole
from tests.targets.lower.kernels import Case, Outputs, assert_same, case, names, run_cases

HALF, BYTE, LONG, INT = np.float16, np.int8, np.int64, np.int32


def not_numbers() -> np.ndarray:
    """A row with one NaN, a row with two, and a row of them."""
    x = data(3, 20)
    x[0, 3] = x[1, 4] = x[1, 5] = np.nan
    x[0, 7], x[1, 9], x[2] = -np.inf, np.inf, np.nan
    return x


def top(x: np.ndarray, k: int, axis: int, largest: int) -> Case:
    return case("TopK", x, np.array([k]), axis=axis, largest=largest, outputs=2)


TOPS = [
    top(x, k, axis, largest)
    for largest in (0, 1)
    for x, k, axis in (
        (data(3, 7), 4, -1),
        (data(7, 3, 5, dtype=HALF), 3, 0),
        (data(4, 9, 5, dtype=BYTE), 9, 1),
        (whole(5, 50, limit=3), 20, 1),
        (not_numbers(), 20, 1),
        (not_numbers(), 5, 1),
        (data(9).astype(np.uint8), 1, 0),
        (data(5).astype(np.uint64), 5, 0),
        (data(20, 3000), 100, -1),
    )
]

SCANS = [
    case(op_type, x, axis, exclusive=exclusive, reverse=reverse)
    for op_type, exclusive, reverse in itertools.product(("CumSum", "CumProd"), (0, 1), (0, 1))
    for x, axis in (
        (np.copysign(1.5, data(4, 5, 37)), np.array(1)),
        (data(7, dtype=LONG), np.array(0)),
        (data(3, 600, 40, dtype=INT), np.array(-2)),
        (data(2, 600, 70), np.array(0)),
        (np.copysign(HALF(0.5), data(3, 9, dtype=HALF)), np.array(-1)),
    )
]

PLACES = np.array([[[[5, 7], [13, 15]], [[21, 23], [29, 31]]]])

CASES = [
    *TOPS,
    *SCANS,
    case("MaxUnpool", data(1, 2, 2, 2), PLACES, kernel_shape=(2, 2), strides=(2, 2)),
    case("MaxUnpool", data(1, 2, 2, 2), PLACES, [1, 2, 5, 6], kernel_shape=(2, 2), strides=(2, 2)),
]


@pytest.fixture(scope="module")
def results() -> list[Outputs]:
    return run_cases(CASES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=names(CASES))
def test_orders_as_the_reference_does(number: int, results: list[Outputs]) -> None:
    assert_same(results[number], CASES[number])


@pytest.mark.parametrize("read", [0, 1], ids=["values", "places"])
def test_half_of_a_result_may_be_read_by_nobody(read: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["values", "places"]),
        helper.make_node("Identity", [("values", "places")[read]], ["y"]),
    ]
    made = (TensorProto.FLOAT, TensorProto.INT64)[read]
    graph = helper.make_graph(
        nodes,
        "top",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (3, 9))],
        [helper.make_tensor_value_info("y", made, (3, 4))],
        [numpy_helper.from_array(np.array([4]), "k")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "top.onnx")
    bundle = graphopt.compile(tmp_path / "top.onnx", out=tmp_path / "top.bundle")
    x = data(3, 9)
    order = np.argsort(-x, axis=1)[:, :4]
    expected = (np.take_along_axis(x, order, 1), order)[read]
    np.testing.assert_array_equal(graphopt.Module(bundle.path)({"x": x})["y"], expected)
