"""Blocked layouts: the same numbers, kept in blocks; nothing packed or unpacked without need."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from graphopt.ir import Graph, Value, verify
from graphopt.ir.layout import Blocked, blocked_of, blocked_type, from_blocks, plain_type, to_blocks
from graphopt.ir.text import to_text
from graphopt.ir.types import DType, TensorType
from graphopt.passes.assign_layout import AssignLayout
from graphopt.passes.eliminate_dead_code import EliminateDeadCode
from graphopt.pipeline import Pipeline
from tests.passes.helpers import UNIT, Build, Draft, compare_golden, made, outputs_of

TERMS = 200
"""The longest sum of a case: the reference may add in another order."""


def conv(g: Draft, x: Value, made: int, size: int = 1, **attributes: object) -> Value:
    channels = x.static_shape[1] // int(attributes.get("group", 1))  # type: ignore[call-overload]
    return g.op("Conv", x, g.weight(made, channels, size, size), g.weight(made), **attributes)


def assigned(build: Build, block: int = 4, narrow: int = 0) -> tuple[Graph, Counter[str], list[str]]:
    """The graph after the pass, its operators, and why nodes stayed plain. The outputs are compared on the way."""
    graph = made(build)
    before = outputs_of(graph, {})
    steps = Pipeline((AssignLayout(block, narrow), EliminateDeadCode()))
    record = steps.run(graph, explain=("assign-layout",))
    verify(graph)
    for name, want in outputs_of(graph, {}).items():
        assert np.abs(want - before[name]).max() <= TERMS * UNIT * np.abs(want).max()
    reasons = [a.reason for a in record.statistics().attempts if a.reason]
    return graph, Counter(node.key for node in graph.nodes), reasons


def network(g: Draft) -> Value:
    """Channels-last input, a residual block, a gate, a classifier."""
    x = g.op("Transpose", g.input(1, 6, 6, 3), perm=(0, 3, 1, 2))
    x = g.op("Relu", conv(g, x, 8, 3, strides=(2, 2)))
    y = conv(g, conv(g, x, 8, 3, group=8, pads=(1, 1, 1, 1)), 8)
    x = g.op("Add", y, x)
    gate = g.op("Sigmoid", conv(g, g.op("GlobalAveragePool", x), 8))
    x = g.op("MaxPool", g.op("Mul", x, gate), kernel_shape=(2, 2))
    return g.op("Gemm", g.op("Flatten", g.op("GlobalAveragePool", x)), g.weight(8, 5))


def test_a_network_stays_in_blocks(update_golden: bool) -> None:
    graph, operators, _ = assigned(network)
    assert operators["graphopt.kernel::Pack"] == operators["graphopt.kernel::Unpack"] == 0
    compare_golden(to_text(graph, weights="digest"), "layout_network", update_golden)


def test_a_plain_reader_gets_one_unpack() -> None:
    def readers(g: Draft) -> Value:
        x = conv(g, g.input(1, 3, 4, 4), 8)
        g.output(g.op("Transpose", x), g.op("ReduceSum", x), x)
        return x

    _, operators, _ = assigned(readers)
    assert operators["graphopt.kernel::Unpack"] == 1


def test_channels_that_do_not_fill_their_blocks() -> None:
    def build(g: Draft) -> Value:
        x = conv(g, g.input(2, 3, 5, 5), 6)
        y = g.op("Add", g.op("Exp", x), g.weight(6, 1, 1))
        return conv(g, g.op("Concat", g.op("Reciprocal", y), x, axis=2), 7, 3)

    graph, operators, _ = assigned(build)
    labels = {v.type.layout for v in graph.values() if v.type and v.type.layout}
    assert labels == {"NCHW4c/6", "NCHW4c/7"}
    assert operators["graphopt.kernel::Unpack"] == 1  # the graph's output


def test_few_channels_are_in_narrow_blocks() -> None:
    """Half a vector of them. A convolution reads those, and makes whole ones where there are more."""

    def build(g: Draft) -> Value:
        x = g.op("Relu", conv(g, g.input(1, 3, 9, 9), 8, 3, strides=(2, 2)))
        x = g.op("Mul", conv(g, x, 8, 3, group=8, pads=(1, 1, 1, 1)), g.weight(8, 1, 1))
        gate = g.op("Sigmoid", conv(g, g.op("GlobalAveragePool", x), 8))
        mean = g.op("ReduceMean", conv(g, gate, 8), g.ints(2, 3))
        x = g.op("Concat", g.op("Mul", x, mean), g.op("AveragePool", x, kernel_shape=(1, 1)), axis=2)
        return conv(g, conv(g, x, 12, 1), 8)

    graph, operators, _ = assigned(build, 16, 8)
    labels = {v.type.layout for v in graph.values() if v.type and v.type.layout}
    assert labels == {"NCHW8c", "NCHW16c/12"}
    assert operators["graphopt.kernel::Pack"] == 0
    assert operators["graphopt.kernel::Unpack"] == 1  # the graph's output


def test_channels_of_a_narrow_block_are_no_whole_one() -> None:
    """Two images of 8 channels make one of 16, which is one block; and the other way round."""

    def build(g: Draft) -> Value:
        x = conv(g, g.input(1, 3, 5, 5), 8)
        whole = conv(g, g.op("Concat", x, g.op("Relu", x), axis=1), 16)
        half = g.op("Slice", whole, g.ints(8), g.ints(16), g.ints(1))
        return conv(g, half, 16)

    _, _, reasons = assigned(build, 16, 8)
    assert "an operand's channels are not whole blocks" in reasons
    assert "a part's channels are not whole blocks" in reasons


def test_a_depthwise_convolution_of_an_input_is_packed() -> None:
    _, operators, _ = assigned(lambda g: conv(g, g.input(1, 8, 5, 5), 8, 3, group=8))
    assert operators["graphopt.kernel::Pack"] == 1


def test_parts_of_whole_blocks_stay_in_blocks() -> None:
    def build(g: Draft) -> Value:
        x = conv(g, g.input(2, 3, 5, 5), 24)
        a, b = g.ops("Split", x, g.ints(8, 16), outputs=2, axis=1)
        c = g.op("Slice", b, g.ints(4), g.ints(100), g.ints(1))
        y = g.op("Concat", a, conv(g, b, 8, 3, pads=(1, 1, 1, 1)), c, axis=1)
        g.output(y, g.op("Slice", b, g.ints(0), g.ints(3), g.ints(1)))
        return y

    _, operators, reasons = assigned(build)
    assert operators["Slice"] == 4 and operators["Split"] == 0
    assert operators["graphopt.kernel::Unpack"] == 2  # the outputs, one of which is no whole block
    assert any("are not whole blocks" in reason for reason in reasons)


def test_a_mean_over_all_pixels_is_a_pool() -> None:
    def build(g: Draft) -> Value:
        x, y = conv(g, g.input(1, 3, 4, 5), 8), conv(g, g.input(1, 3, 4, 5), 7)
        g.output(g.op("ReduceMean", x, g.ints(2, 3)), g.op("ReduceMean", y, g.ints(-1, 2), keepdims=0))
        g.output(g.op("ReduceMean", x, g.ints(3)))
        return x

    _, operators, _ = assigned(build)
    assert operators["graphopt.kernel::GlobalAveragePool"] == 2
    assert operators["ReduceMean"] == 1


def test_a_pool_of_one_window_is_a_global_pool() -> None:
    def build(g: Draft) -> Value:
        x = conv(g, g.input(1, 3, 4, 5), 8)
        g.output(g.op("AveragePool", x, kernel_shape=(4, 5), strides=(4, 5), auto_pad="VALID"))
        g.output(g.op("MaxPool", x, kernel_shape=(4, 5)), g.op("MaxPool", x, kernel_shape=(4, 4)))
        g.output(g.op("AveragePool", x, kernel_shape=(4, 5), pads=(1, 0, 1, 0), strides=(3, 1)))
        return x

    _, operators, _ = assigned(build)
    assert operators["graphopt.kernel::GlobalAveragePool"] == operators["graphopt.kernel::GlobalMaxPool"] == 1
    assert operators["graphopt.kernel::AveragePool"] == operators["graphopt.kernel::MaxPool"] == 1


def test_pools_with_holes_and_beyond_the_pads_stay_in_blocks() -> None:
    def build(g: Draft) -> Value:
        x = conv(g, g.input(1, 3, 8, 8), 6)
        x = g.op("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1)
        return g.op("AveragePool", x, kernel_shape=(2, 2), dilations=(2, 3), pads=(1, 1, 1, 1))

    _, operators, _ = assigned(build)
    assert operators["graphopt.kernel::MaxPool"] == operators["graphopt.kernel::AveragePool"] == 1
    assert operators["graphopt.kernel::Unpack"] == 1  # the graph's output


def resized(g: Draft, x: Value, *factors: float, **attributes: object) -> Value:
    return g.op("Resize", x, None, g.const(factors), **attributes)


def resized_by_region(g: Draft) -> Value:
    region = g.const([0, 0.25, -0.1, 1, 0.75, 1.2])
    modes = {"mode": "cubic", "coordinate_transformation_mode": "tf_crop_and_resize"}
    return g.op(
        "Resize", conv(g, g.input(1, 3, 6, 4), 6), region, None, g.ints(6, 5, 7), axes=(1, 2, 3), **modes
    )


def resized_by_scales(g: Draft) -> Value:
    return resized(g, conv(g, g.input(2, 3, 5, 4), 8), 1, 1, 2, 1.5, mode="linear")


def to_nearest(g: Draft) -> Value:
    x = g.op("Conv", g.input(1, 3, 9), g.weight(6, 3, 1))
    return resized(g, x, 2, axes=(2,), mode="nearest")


def other_rows(g: Draft) -> Value:
    x = g.op("Reshape", conv(g, g.input(2, 3, 4, 6), 7), g.ints(2, 7, 24))
    return g.op("Conv", g.op("Relu", x), g.weight(5, 7, 3))


@pytest.mark.parametrize("build", [resized_by_region, resized_by_scales, to_nearest, other_rows])
def test_movements_stay_in_blocks(build: Build) -> None:
    _, operators, reasons = assigned(build)
    assert reasons == []
    assert operators["graphopt.kernel::Unpack"] == 1  # the graph's output


@pytest.mark.parametrize("transposed", [False, True])
def test_products_read_flattened_blocks(transposed: bool) -> None:
    def classifier(g: Draft) -> Value:
        x = g.op("Reshape", conv(g, g.input(2, 3, 3, 2), 7), g.ints(2, 42))
        if transposed:
            return g.op("Gemm", x, g.weight(5, 42), g.weight(5), transB=1, alpha=0.5)
        return g.op("MatMul", x, g.weight(42, 5))

    _, operators, _ = assigned(classifier)
    assert operators["graphopt.kernel::Unpack"] == 0


def test_a_transpose_to_channels_last_moves_blocks() -> None:
    def tokens(g: Draft) -> Value:
        x = conv(g, g.input(2, 3, 8, 8), 12, 4, strides=(4, 4))
        x = g.op("Transpose", g.op("Reshape", x, g.ints(2, 12, 4)), perm=(0, 2, 1))
        return g.op("Add", x, g.weight(4, 12))

    _, operators, _ = assigned(tokens)
    assert operators["graphopt.kernel::Unpack"] == 0
    assert operators["Transpose"] == 1


def test_an_unblocked_operand_is_packed() -> None:
    _, operators, _ = assigned(lambda g: g.op("Add", conv(g, g.input(1, 3, 4, 4), 8), g.input(1, 8, 4, 4)))
    assert operators["graphopt.kernel::Pack"] == 1


def few_channels(g: Draft) -> Value:
    return conv(g, g.input(1, 3, 4, 4), 1)


def computed_weights(g: Draft) -> Value:
    return g.op("Conv", g.input(1, 3, 4, 4), g.input(8, 3, 1, 1))


def dynamic(g: Draft) -> Value:
    x = g.input("N", 3, 4, 4)
    g.output(g.op("Conv", x, g.weight(8, 3, 1, 1)))
    return x


def odd_groups(g: Draft) -> Value:
    return conv(g, g.input(1, 6, 4, 4), 12, group=2)


def volume(g: Draft) -> Value:
    return g.op("Conv", g.input(1, 3, 4, 4, 4), g.weight(8, 3, 1, 1, 1))


def pool_with_indices(g: Draft) -> Value:
    y, where = g.ops("MaxPool", conv(g, g.input(1, 3, 4, 4), 8), outputs=2, kernel_shape=(2, 2))
    g.output(y, where)
    return y


def uneven_concat(g: Draft) -> Value:
    x = g.input(1, 3, 4, 4)
    return g.op("Concat", conv(g, x, 6), conv(g, x, 8), axis=1)


def broadcast_from_below(g: Draft) -> Value:
    x = g.input(1, 3, 4, 4)
    return g.op("Add", conv(g, x, 8), g.op("ReduceSum", x, g.ints(1)))


def upsampled(g: Draft, *, group: int = 1, size: int = 2, computed: bool = False) -> Value:
    shape = (8, 8 // group, size, size)
    w = g.input(*shape) if computed else g.weight(*shape)
    return g.op("ConvTranspose", conv(g, g.input(1, 3, 4, 4), 8), w, group=group, strides=(2, 2))


def test_a_transposed_convolution_stays_in_blocks() -> None:
    _, operators, reasons = assigned(lambda g: conv(g, upsampled(g, size=3), 8))
    assert reasons == []
    assert operators["graphopt.kernel::ConvTranspose"] == 1


def taken_apart(g: Draft) -> Value:
    return g.op("Reshape", conv(g, g.input(1, 3, 4, 4), 8), g.ints(1, 4, 2, 16))


def rows_of_pixels(g: Draft) -> Value:
    return g.op("MatMul", g.op("Reshape", conv(g, g.input(2, 3, 3, 2), 8), g.ints(16, 6)), g.weight(6, 5))


def computed_product(g: Draft) -> Value:
    return g.op("MatMul", g.op("Reshape", conv(g, g.input(2, 3, 3, 2), 8), g.ints(2, 48)), g.input(48, 5))


def many_missing(g: Draft) -> Value:
    return g.op("MatMul", g.op("Reshape", conv(g, g.input(2, 3, 3, 2), 6), g.ints(2, 36)), g.weight(36, 5))


def one_pixel(g: Draft) -> Value:
    return g.op("MatMul", g.op("Reshape", conv(g, g.input(2, 3, 1, 1), 8), g.ints(2, 8)), g.weight(8, 5))


def to_columns_first(g: Draft) -> Value:
    return g.op("Transpose", conv(g, g.input(1, 3, 4, 4), 8), perm=(0, 1, 3, 2))


def uneven_channels_last(g: Draft) -> Value:
    return g.op("Transpose", conv(g, g.input(1, 3, 4, 4), 6), perm=(0, 2, 3, 1))


def more_channels(g: Draft) -> Value:
    return resized(g, conv(g, g.input(1, 3, 4, 4), 8), 1, 2, 1, 1, mode="nearest")


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda g: upsampled(g, group=2), "transposed in groups"),
        (lambda g: upsampled(g, size=1), "some outputs meet no tap"),
        (lambda g: upsampled(g, computed=True), "are not constant"),
        (rows_of_pixels, "no flattened images"),
        (computed_product, "are not constant"),
        (many_missing, "too large"),
        (one_pixel, "in the order of the channels"),
        (taken_apart, "takes channels apart"),
        (to_columns_first, "does not bring the channels to the end"),
        (uneven_channels_last, "do not fill their blocks"),
        (more_channels, "resizes more than the pixels"),
        (few_channels, "would leave most lanes empty"),
        (computed_weights, "are not constant"),
        (odd_groups, "are not whole blocks"),
        (volume, "of one or two dimensions"),
        (pool_with_indices, "has further results"),
        (uneven_concat, "are not whole blocks"),
        (broadcast_from_below, "cannot be rearranged"),
    ],
)
def test_stays_plain(build: Build, reason: str) -> None:
    _, _, reasons = assigned(build)
    assert any(reason in given for given in reasons), reasons


def test_unknown_shapes_stay_plain() -> None:
    graph = made(dynamic)
    record = Pipeline((AssignLayout(4),)).run(graph, explain=("assign-layout",))
    assert record.statistics().fired["assign-layout"] == 0


@pytest.mark.parametrize(("channels", "block"), [(1, 4), (4, 4), (6, 4), (17, 16), (24, 8)])
def test_blocks_and_back(channels: int, block: int) -> None:
    image = np.random.default_rng(0).normal(size=(2, channels, 3, 5)).astype(np.float32)
    type = TensorType(DType.float32, image.shape)
    kept = blocked_type(type, block)
    assert kept.shape == to_blocks(image, block).shape
    assert blocked_of(kept) == Blocked(channels, block, 2)
    assert plain_type(kept) == type
    assert np.array_equal(from_blocks(to_blocks(image, block), channels), image)
