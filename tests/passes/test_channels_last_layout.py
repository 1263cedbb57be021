"""Images in one block of all their channels, as cores without vectors have them: any channels are whole blocks."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import Value
from graphopt.ir.layout import blocked_of
from graphopt.passes.blocked_twins import ALL_CHANNELS
from graphopt.preparation import blocked_for, legalized
from graphopt.runtime.reference import random_inputs, run
from graphopt.targets.device import load_target
from tests.passes.helpers import Build, Draft, made
from tests.passes.test_assign_layout import (
    assigned,
    conv,
    few_channels,
    network,
    odd_groups,
    other_rows,
    resized_by_scales,
    uneven_channels_last,
    uneven_concat,
)

MOVED = ("graphopt.kernel::Pack", "graphopt.kernel::Unpack", "Transpose")


def grouped(g: Draft) -> Value:
    return g.op("Transpose", odd_groups(g), perm=(0, 2, 3, 1))


def odd_parts(g: Draft) -> Value:
    """Split, cut and joined where no block of more than one channel would end."""
    x = conv(g, g.input(2, 3, 5, 5), 11)
    a, b = g.ops("Split", x, g.ints(4, 7), outputs=2, axis=1)
    c = g.op("Slice", b, g.ints(1), g.ints(6), g.ints(1))
    return conv(g, g.op("Concat", c, a, conv(g, b, 5, 3, pads=(1, 1, 1, 1)), axis=1), 3)


def flattened(g: Draft) -> Value:
    x = g.op("Reshape", conv(g, g.input(2, 3, 3, 2), 5), g.ints(2, 30))
    return g.op("Gemm", x, g.weight(5, 30), g.weight(5), transB=1)


def one_channel(g: Draft) -> Value:
    """Its elements lie in one order; so do those of one pixel."""
    x = conv(g, g.input(2, 1, 6, 6), 1, 3)
    pooled = g.op("GlobalAveragePool", conv(g, g.op("Relu", x), 5))
    g.output(x, conv(g, pooled, 7))
    return x


@pytest.mark.parametrize("build", [network, flattened, one_channel])
def test_nothing_is_moved(build: Build) -> None:
    _, operators, _ = assigned(build, ALL_CHANNELS)
    packed = int(build is flattened)  # the graph's input, which comes channels-first
    assert [operators[name] for name in MOVED] == [packed, 0, 0]


@pytest.mark.parametrize(
    "build",
    [grouped, odd_parts, uneven_concat, few_channels, uneven_channels_last, resized_by_scales, other_rows],
)
def test_channels_need_fill_no_block(build: Build) -> None:
    graph, operators, reasons = assigned(build, ALL_CHANNELS)
    assert reasons in ([], ["it has further results"])
    assert operators["graphopt.kernel::Unpack"] <= 1 and operators["Transpose"] == 0
    layouts = [layout for v in graph.values() if (layout := blocked_of(v.type)) is not None]
    assert layouts and all(layout.block == layout.channels for layout in layouts)


def test_an_image_that_came_channels_last_is_taken_as_it_is() -> None:
    """Whatever reads it first."""

    def build(g: Draft) -> Value:
        x = g.op("Relu", g.op("Transpose", g.input(1, 4, 4, 3), perm=(0, 3, 1, 2)))
        return g.op("Transpose", conv(g, x, 5, 3), perm=(0, 2, 3, 1))

    _, operators, reasons = assigned(build, ALL_CHANNELS)
    assert reasons == [] and not any(operators[name] for name in MOVED)


def test_microcontrollers_keep_bytes_channels_last() -> None:
    """And compute the same from them; blocks of 16 would fill up nine channels with seven."""

    def build(g: Draft) -> Value:
        def quantised(x: Value, scale: float) -> Value:
            scales = g.const(scale), g.const(3, np.int8)
            return g.op("DequantizeLinear", g.op("QuantizeLinear", x, *scales), *scales)

        w = g.op(
            "DequantizeLinear", g.const(g.random.integers(-127, 128, (9, 3, 3, 3)), np.int8), g.const(0.01)
        )
        x = g.op("Transpose", quantised(g.input(1, 8, 8, 3), 0.1), perm=(0, 3, 1, 2))
        return quantised(g.op("Conv", x, w, pads=(1, 1, 1, 1)), 0.05)

    exact = legalized(made(build), fixed_point=True)
    inputs = random_inputs(exact, dims={})
    for name, block in (("cortex-m4f", 9), ("cortex-m55", 9), ("rv32imac", 9), ("rpi4", 16)):
        graph = blocked_for(exact, load_target(name))
        layouts = [layout for v in graph.values() if (layout := blocked_of(v.type)) and layout.channels == 9]
        assert layouts and {layout.block for layout in layouts} == {block}
        for key, want in run(exact, inputs).items():
            np.testing.assert_array_equal(run(graph, inputs)[key], want)
