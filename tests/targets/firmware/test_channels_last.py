"""Kernels for images of bytes that are kept channels-last: the same bits as numpy's, with every tile and every strip.

What is printed for a core is compiled for this machine too, where the DSP extension's functions are those written in C.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from graphopt.api import compile, optimize
from graphopt.ir import QUANT, DType, Graph, TensorType, Value
from graphopt.preparation import legalized
from graphopt.runtime.reference import run
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.targets.schedules.templates.channels_last import convolution
from graphopt.targets.schedules.templates.channels_last.inner import Inner
from graphopt.targets.schedules.templates.channels_last.layer import Layer as Sums
from graphopt.targets.schedules.templates.channels_last.plan import IN_PLACE, LINES, WINDOWS, Plan, plans
from tests.passes.helpers import Draft
from tests.targets.conftest import runnable
from tests.targets.firmware.native import Arrays, here
from tests.targets.layers.base import Layer
from tests.targets.layers.integers import (
    channels_last,
    dilated,
    grouped,
    image,
    long_row,
    lowest_weights,
    odd_channels,
    one_band,
    one_dimension,
    pointwise_residual,
    requantized,
    short_image,
    short_photograph,
    six_bands,
    sums,
    sums_themselves,
    uneven_pads,
    window_wider_than_image,
)


def one_filter(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 5, 6, 7), 1, (3, 2), zero=-9, bias=False))


def strided_pointwise(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 2, 7, 6, 9), 9, (1, 1), zero=1, strides=(2, 2)), residual=True)


def grouped_pointwise(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 9, 5, 5), 15, (1, 1), zero=8, group=3), relu=True)


def short_pointwise(g: Draft) -> Value:
    """Activations of 16 bits, which may be read where they are."""
    y = sums(g, image(g, 1, 12, 5, 6, dtype=DType.int16), 9, (1, 1))
    return requantized(g, y, zero=0, dtype=np.int16)


def product(
    g: Draft,
    *rows: int,
    depth: int = 16,
    width: int = 21,
    zero: int = -11,
    bias: bool = False,
    largest: int = 128,
    dtype: DType = DType.int8,
) -> Value:
    """quant::MatMul with constant weights, requantised by column."""
    w = g.const(g.random.integers(-largest, largest, (depth, width)), np.int8)
    operands = [g.input(*rows, depth, dtype=dtype), w]
    operands += [g.const(g.random.integers(-1000, 1001, width), np.int32)] if bias else []
    types = (TensorType(DType.int32, (*rows, width)),)
    (y,) = g.ops("MatMul", *operands, outputs=1, domain=QUANT, types=types, a_zero_point=zero)
    scale = g.const(g.random.uniform(0.5, 1.5, width) / (140 * np.sqrt(depth)))
    v = g.op("Mul", g.op("Cast", y, to=DType.float32.onnx_code), scale)
    return g.op("QuantizeLinear", v, g.const(1.0), g.const(5, np.int8))


def one_row(g: Draft) -> Value:
    return product(g, 1, depth=37)


def several_rows(g: Draft) -> Value:
    return product(g, 7, width=3, zero=100, bias=True)


def row_of_each_step(g: Draft) -> Value:
    """As a recurrence has it: steps, a batch of one, channels."""
    return product(g, 6, 1)


def nibbles(g: Draft) -> Value:
    """Weights of 4 bits: a kernel's rows are no whole words."""
    return requantized(g, sums(g, image(g, 1, 7, 6, 9), 11, (3, 3), zero=-9, largest=7, pads=(1, 1, 1, 1)))


def pointwise_nibbles(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 2, 12, 5, 6), 9, (1, 1), zero=5, largest=7), relu=True)


def grouped_nibbles(g: Draft) -> Value:
    y = sums(g, image(g, 1, 8, 7, 6), 8, (2, 3), zero=-128, largest=7, group=2, strides=(2, 1), bias=False)
    return requantized(g, y, residual=True)


def short_nibbles(g: Draft) -> Value:
    y = sums(g, image(g, 1, 8, 5, 6, dtype=DType.int16), 9, (3, 3), largest=7)
    return requantized(g, y, zero=0, dtype=np.int16)


def row_of_nibbles(g: Draft) -> Value:
    """The least of them among the weights."""
    return product(g, 1, depth=37, width=19, zero=127, bias=True, largest=8)


NIBBLES: tuple[Layer, ...] = (nibbles, pointwise_nibbles, grouped_nibbles, short_nibbles, row_of_nibbles)
LAYERS: tuple[Layer, ...] = (
    *NIBBLES,
    odd_channels,
    uneven_pads,
    dilated,
    window_wider_than_image,
    long_row,
    one_dimension,
    grouped,
    pointwise_residual,
    six_bands,
    one_band,
    channels_last,
    sums_themselves,
    lowest_weights,
    one_filter,
    strided_pointwise,
    grouped_pointwise,
    one_row,
    several_rows,
    short_image,
    short_photograph,
    short_pointwise,
    row_of_each_step,
)
IN_PIECES = (dilated, grouped, channels_last, grouped_pointwise, grouped_nibbles)
PADDED = (
    nibbles,
    odd_channels,
    uneven_pads,
    window_wider_than_image,
    long_row,
    one_dimension,
    six_bands,
    one_band,
)
PADDED += (short_image, short_photograph)
CASES = {
    IN_PLACE: [build for build in LAYERS if build not in (*IN_PIECES, *PADDED)],
    LINES: [build for build in LAYERS if build not in IN_PIECES],
    WINDOWS: LAYERS,
}
"""The layers that may have a strip of each kind."""
CORES = {
    "cortex-m4f": LAYERS,
    "cortex-m0plus": (*NIBBLES, *LAYERS[5::3]),
    "rv32imac": (*NIBBLES, *LAYERS[6::3]),
}


def network(layers: Sequence[Layer]) -> tuple[Graph, Arrays, Arrays]:
    """The layers side by side, inputs over all of their range, and what numpy makes of them in fixed point."""
    draft, random = Draft(), np.random.default_rng(2)
    for build in layers:
        draft.graph.add_output(build(draft), build.__name__)
    inputs = {}
    for value in draft.graph.inputs:
        bounds = np.iinfo(value.dtype.numpy)
        drawn = random.integers(bounds.min, bounds.max + 1, value.static_shape)
        inputs[value.name] = drawn.astype(value.dtype.numpy)
    want = run(legalized(optimize(draft.graph), fixed_point=True), inputs)
    assert all(len(np.unique(array)) > 2 for array in want.values())
    return draft.graph, inputs, want


def assert_same(results: Arrays, want: Arrays) -> None:
    for name, right in want.items():
        np.testing.assert_array_equal(results[name], right, name)


@pytest.mark.parametrize("core", [pytest.param(core, marks=runnable(core)) for core in CORES])
def test_every_core_computes_the_same(core: str, tmp_path: Path) -> None:
    graph, inputs, want = network(CORES[core])
    bundle = compile(graph, target=core, out=tmp_path / "fw", name="net")
    schedules = [layer["schedule"] for layer in bundle.report["layers"]]
    assert sum(schedule.startswith("channels-last-") for schedule in schedules) == len(CORES[core])
    assert sum("-4bit" in schedule for schedule in schedules) == len(NIBBLES)
    (outputs,) = EmulatedFirmware(bundle).run([inputs])
    assert_same(outputs, want)


@pytest.mark.parametrize(
    ("core", "strip"),
    [
        ("cortex-m3", IN_PLACE),
        ("cortex-m3", LINES),
        ("cortex-m3", WINDOWS),
        ("cortex-m4f", IN_PLACE),
        ("cortex-m4f", LINES),
        ("cortex-m4f", WINDOWS),
    ],
)
def test_every_strip_holds_the_same(
    core: str, strip: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And every tile, layer by layer another one."""
    turn = iter(range(1000))

    def some(layer: Sums, inner: Inner) -> Iterator[Plan]:
        found = list(plans(layer, inner))
        wanted = [plan for plan in found if plan.strip == strip] or found
        yield wanted[next(turn) % len(wanted)]

    monkeypatch.setattr(convolution, "plans", some)
    graph, inputs, want = network(CASES[strip])
    bundle = compile(graph, target=core, out=tmp_path / "fw", name="net", keep_inputs=True)
    assert_same(here(bundle, inputs, tmp_path), want)
