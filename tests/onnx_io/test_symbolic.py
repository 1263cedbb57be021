"""Shapes known in part: whatever numbers the symbols stand for, the symbolic answer is numpy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir import DType, Graph, Shape, TensorType
from graphopt.onnx_io.infer import infer_graph
from graphopt.onnx_io.symbolic import broadcast, reshaped

SYMBOLS = ("N", "M", "K")
DIMS = st.sampled_from((1, 2, 3, 4, *SYMBOLS))
SHAPES = st.lists(DIMS, max_size=4).map(tuple)
NUMBERS = st.fixed_dictionaries({symbol: st.integers(1, 5) for symbol in SYMBOLS})


def with_numbers(shape: Shape, numbers: dict[str, int]) -> tuple[int, ...]:
    return tuple(numbers[d] if isinstance(d, str) else d for d in shape)


def check(symbolic: Shape, concrete: tuple[int, ...], numbers: dict[str, int]) -> None:
    assert len(symbolic) == len(concrete)
    for said, true in zip(symbolic, concrete, strict=True):
        if isinstance(said, int) or not said.startswith("?"):
            assert numbers.get(said, said) == true  # type: ignore[call-overload]


def elements(*items: object) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


@given(SHAPES, SHAPES, NUMBERS)
@settings(deadline=None)
def test_broadcast(one: Shape, other: Shape, numbers: dict[str, int]) -> None:
    try:
        concrete = np.broadcast_shapes(with_numbers(one, numbers), with_numbers(other, numbers))
    except ValueError:
        return
    check(broadcast(one, other), concrete, numbers)


@given(SHAPES, st.permutations(range(4)), st.integers(0, 4), NUMBERS)
@settings(deadline=None)
def test_reshape_with_a_rest(shape: Shape, order: list[int], kept: int, numbers: dict[str, int]) -> None:
    """Some of the dimensions, in any order, and -1 for the others."""
    target = [shape[k] for k in order if k < len(shape)][:kept]
    concrete = with_numbers(tuple(target), numbers)
    total = math.prod(with_numbers(shape, numbers))
    got = reshaped(shape, elements(*target, -1), allowzero=False)
    check(got, (*concrete, total // math.prod(concrete)), numbers)


@pytest.mark.parametrize(
    ("shape", "target", "want"),
    [
        (("N", 4, 4), ("N", -1), ("N", 16)),
        (("N", 4, 4), (-1, 16), ("N", 16)),
        (("N", 4, 4), (0, -1), ("N", 16)),
        (("N", "M"), (-1,), ("?",)),
        ((4, 6), (-1, 5), ("?", 5)),
        ((2, 3), (None, -1), ("?", "?")),
        (None, (0, -1, 7), ("?", "?", 7)),
    ],
)
def test_reshape(shape: Shape | None, target: tuple, want: tuple) -> None:
    got = reshaped(shape, elements(*target), allowzero=False)
    assert tuple("?" if isinstance(d, str) and d.startswith("?") else d for d in got) == want


def test_a_zero_that_is_meant() -> None:
    assert reshaped((0, 3), elements(3, 0), allowzero=True) == (3, 0)


def test_inference_follows_symbols() -> None:
    """Through element-wise operators, unnamed ones too; and again when an input becomes a number."""
    graph = Graph("g", opset=24)
    x = graph.add_input("x", TensorType(DType.float32, ("?7", 4)))
    relu = graph.add("Relu", [x], types=[None]).output
    shape = graph.add("Shape", [relu], types=[None]).output
    ones = graph.add("ConstantOfShape", [shape], types=[None]).output
    total = graph.add("Add", [ones, relu], types=[None]).output
    wide = graph.add("Expand", [x, shape], types=[None]).output
    assert infer_graph(graph) == 5
    assert [value.shape for value in (relu, ones, total, wide)] == [("?7", 4)] * 4
    assert infer_graph(graph) == 0, "nothing new the second time"
    x.type = TensorType(DType.float32, (3, 4))
    infer_graph(graph)
    assert [value.shape for value in (relu, ones, total, wide)] == [(3, 4)] * 4
