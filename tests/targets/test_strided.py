"""Views against numpy: whatever a chain of moves makes, the strides lead to the same elements."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Value
from graphopt.runtime.reference import run
from graphopt.targets.strided import View, moves_of, view_from, view_of
from tests.passes.helpers import Build, Draft


def heads(g: Draft) -> Value:
    part = g.ops("Split", g.input(2, 5, 24), outputs=2, axis=-1, num_outputs=2)[1]
    return g.op("Transpose", g.op("Reshape", part, g.ints(2, 5, 3, 4)), perm=(0, 2, 1, 3))


def picked(g: Draft) -> Value:
    x = g.op("Transpose", g.op("Reshape", g.input(2, 5, 24), g.ints(2, 5, 3, 2, 4)), perm=(2, 0, 3, 1, 4))
    return g.op("Gather", x, g.const(2, np.int64), axis=0)


def copied(g: Draft) -> Value:
    """The last reshape joins what no stride can; by itself it moves nothing."""
    return g.op("Reshape", heads(g), g.ints(2, 3, 20))


def elements(view: View, data: np.ndarray) -> np.ndarray:
    index = np.full(view.shape, view.offset)
    for axis, stride in enumerate(view.strides):
        index = index + np.arange(view.shape[axis]).reshape(-1, *(1,) * (len(view.shape) - axis - 1)) * stride
    return data.reshape(-1)[index]


@pytest.mark.parametrize(("build", "steps"), [(heads, 3), (picked, 3), (copied, 1)])
def test_a_view_reads_what_the_moves_make(build: Build, steps: int) -> None:
    g = Draft()
    value = build(g)
    moves = moves_of(value)
    assert len(moves) == steps
    view = view_of(value, moves)
    g.output(value, view.source)
    x = np.random.default_rng(0).normal(size=(2, 5, 24)).astype(np.float32)
    want, source = run(g.graph, {"x0": x}).values()
    np.testing.assert_array_equal(elements(view, source), want)


def test_heads_side_by_side_are_taken_apart() -> None:
    g = Draft()
    x = g.input(2, 5, 12)
    data = np.arange(120.0)
    want = data.reshape(2, 5, 3, 4).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(elements(view_of(x, [], 3), data), want)


def test_a_result_is_found_behind_a_transpose() -> None:
    g = Draft()
    x = g.input(2, 3, 5, 4)
    y = g.op("Transpose", x, perm=(0, 2, 1, 3))
    data = np.random.default_rng(0).normal(size=(2, 3, 5, 4))
    view = view_from(x, [y.producer])  # type: ignore[list-item]
    assert view is not None and view.source is y
    np.testing.assert_array_equal(elements(view, data.transpose(0, 2, 1, 3)), data)
    z = g.op("Reshape", y, g.ints(2, 5, 12))
    assert view_from(x, [y.producer, z.producer]) is None  # type: ignore[list-item]
