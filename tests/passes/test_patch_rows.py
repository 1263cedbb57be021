"""The first layers in bands of rows: the same numbers, and only where rows need few rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.ir import DType, Graph, Value
from graphopt.passes.patch_rows import PatchRows, bands_of, cuts_of, rows_needed
from graphopt.pipeline import Pipeline
from graphopt.preparation import legalized
from graphopt.runtime.reference import random_inputs, run
from tests.passes.helpers import Draft
from tests.targets.firmware.residual import residual


def windows(g: Draft) -> Value:
    """Strides, dilations, pads on one side, a pool, and heights that no number of bands divides."""
    x = g.input(1, 3, 19, 8)
    x = g.op("Relu", g.op("Conv", x, g.weight(4, 3, 5, 3), pads=(2, 1, 2, 1)))
    x = g.op("Conv", x, g.weight(4, 4, 3, 3), dilations=(3, 1), pads=(3, 1, 3, 1))
    x = g.op("Conv", x, g.weight(4, 1, 3, 3), group=4, strides=(2, 1), pads=(0, 1, 1, 1))
    x = g.op("AveragePool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    return g.op("MaxPool", x, kernel_shape=(2, 2), strides=(1, 1), pads=(1, 0, 0, 0))


def branches(g: Draft) -> Value:
    """A residual whose paths need different rows, and a transpose in front."""
    image = g.op("Transpose", g.input(1, 12, 7, 3), perm=(0, 3, 1, 2))
    x = g.op("Conv", image, g.weight(6, 3, 3, 3), pads=(1, 1, 1, 1))
    y = g.op("Relu", g.op("Conv", x, g.weight(6, 6, 5, 1), pads=(2, 0, 2, 0)))
    return g.op("Mul", g.op("Add", g.op("Conv", y, g.weight(6, 6, 1, 1)), x), g.weight(6, 1, 1))


def drawn(build: Callable[[Draft], Value]) -> Graph:
    g = Draft()
    x = build(g)
    g.output(g.op("Conv", x, g.weight(2, x.static_shape[1], 3, 3)))
    return g.graph


@pytest.mark.parametrize("bands", [2, 3, 5])
@pytest.mark.parametrize("build", [windows, branches])
def test_floats_are_the_same(build: Callable[[Draft], Value], bands: int) -> None:
    """At every place to stop: each number is the same sum."""
    graph = drawn(build)
    inputs = random_inputs(graph)
    wanted = run(graph, inputs)
    cuts = cuts_of(graph)
    assert len(cuts) >= 3
    for cut in cuts:
        copy = graph.clone()
        Pipeline((PatchRows(cut.value.name, bands),)).run(copy)
        assert sum(node.is_op("Concat") for node in copy.nodes) == 1
        for name, array in run(copy, inputs).items():
            np.testing.assert_allclose(array, wanted[name], rtol=1e-5, atol=1e-5)


def test_integers_are_the_same_bits() -> None:
    """Zero points at the borders, a residual in fixed point."""
    ready = legalized(residual(), fixed_point=True)
    inputs = random_inputs(ready)
    (wanted,) = run(ready, inputs).values()
    stored = [cut for cut in cuts_of(ready) if cut.value.dtype is DType.int8]
    assert len(stored) >= 4
    for cut in stored[:4]:
        copy = ready.clone()
        Pipeline((PatchRows(cut.value.name, 3),)).run(copy)
        (made,) = run(copy, inputs).values()
        np.testing.assert_array_equal(made, wanted)


def test_bands_need_their_rows_and_a_border() -> None:
    graph = drawn(lambda g: g.op("Conv", g.input(1, 3, 16, 8), g.weight(4, 3, 3, 3), pads=(1, 1, 1, 1)))
    (cut,) = cuts_of(graph)
    needed = [rows_needed(cut, span)[cut.source] for span in bands_of(16, 4)]
    assert needed == [(0, 5), (3, 9), (7, 13), (11, 16)]
    assert bands_of(10, 4) == [(0, 2), (2, 5), (5, 7), (7, 10)]


def fanned_out(g: Draft) -> Value:
    """The image is read further on too."""
    x = g.input(1, 4, 8, 8)
    y = g.op("Conv", x, g.weight(4, 4, 1, 1))
    return g.op("Concat", g.op("Softmax", y, axis=2), x, axis=1)


def resized(g: Draft) -> Value:
    return g.op("Conv", g.op("Transpose", g.input(1, 4, 8, 8), perm=(0, 1, 3, 2)), g.weight(4, 4, 3, 3))


def two_images(g: Draft) -> Value:
    return g.op("Conv", g.input(2, 4, 8, 8), g.weight(4, 4, 3, 3))


def by_row(g: Draft) -> Value:
    """A constant with a number for each row."""
    return g.op("Conv", g.op("Add", g.input(1, 4, 8, 8), g.weight(4, 8, 1)), g.weight(4, 4, 3, 3))


def unknown_pads(g: Draft) -> Value:
    return g.op("Conv", g.input(1, 4, 8, 8), g.weight(4, 4, 3, 3), auto_pad="SAME_UPPER")


@pytest.mark.parametrize("build", [fanned_out, resized, two_images, by_row, unknown_pads])
def test_what_is_left_alone(build: Callable[[Draft], Value]) -> None:
    graph = drawn(build)
    assert cuts_of(graph) == []


def test_what_cannot_be_done_is_told() -> None:
    graph = drawn(windows)
    first = cuts_of(graph)[0].value
    for step, message in (
        (PatchRows("nothing", 2), "'nothing' is no image that can be computed in bands"),
        (PatchRows(first.name, 1), "1 bands of 19 rows"),
        (PatchRows(first.name, 20), "20 bands of 19 rows"),
    ):
        with pytest.raises(UsageError, match=message):
            Pipeline((step,)).run(graph.clone())
