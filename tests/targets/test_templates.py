"""Templates: kernels built for blocked images and packed weights, against the reference, odd sizes first.

All layers of a machine are compiled into one library. The machines are this one, and this one told that it has
fewer lanes and registers, or a multiply-add that picks a lane.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from graphopt.ir import Graph, Node, Value
from graphopt.ir.fused import is_fused
from graphopt.ir.types import TensorType
from graphopt.preparation import grouped_for
from graphopt.runtime.reference import random_inputs, run
from graphopt.targets.aot import compile_model
from graphopt.targets.device import Target, load_target
from tests.passes.helpers import UNIT, Draft
from tests.targets.compiled import run_compiled

TERMS = 1200
"""The longest sum of all layers: rounding errors add up to at most so many units of the largest partial sum."""

Layer = Callable[[Draft], Value]


def conv(
    g: Draft, x: Value, made: int, kernel: tuple[int, ...], *, bias: bool = True, **attributes: object
) -> Value:
    channels = x.static_shape[1] // int(attributes.get("group", 1))  # type: ignore[call-overload]
    operands = [g.weight(made, channels, *kernel), *([g.weight(made)] if bias else [])]
    return g.op("Conv", x, *operands, **attributes)


def in_blocks(g: Draft, *shape: int) -> Value:
    """An image that some convolution made."""
    return conv(g, g.input(shape[0], 3, *shape[2:]), shape[1], (1,) * len(shape[2:]))


def channels_last(g: Draft) -> Value:
    x = g.op("Transpose", g.input(1, 9, 11, 5), perm=(0, 3, 1, 2))
    return g.op("Relu", conv(g, x, 24, (3, 3), pads=(1, 1, 1, 1), strides=(2, 2)))


def photograph(g: Draft) -> Value:
    return g.op("Relu", conv(g, g.input(1, 3, 17, 43), 40, (7, 7), pads=(3, 3, 3, 3), strides=(2, 2)))


def photograph_channels_last(g: Draft) -> Value:
    x = g.op("Transpose", g.input(1, 10, 27, 3), perm=(0, 3, 1, 2))
    return conv(g, x, 8, (3, 3), pads=(0, 0, 1, 2), strides=(2, 2), dilations=(1, 2))


def photograph_narrower_than_a_vector(g: Draft) -> Value:
    return conv(g, g.input(1, 3, 8, 3), 24, (3, 3), pads=(1, 1, 1, 1))


def odd_channels(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 19, 7, 13), 21, (3, 3), pads=(1, 1, 1, 1))


def uneven_pads(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 16, 9, 8), 16, (2, 5), pads=(1, 3, 0, 2), strides=(1, 2), bias=False)


def dilated(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 8, 12, 17), 40, (3, 3), dilations=(2, 3), pads=(2, 3, 2, 3))


def window_wider_than_image(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 16, 2, 2), 16, (5, 5), pads=(2, 2, 2, 2))


def long_row(g: Draft) -> Value:
    return conv(g, in_blocks(g, 2, 16, 1, 101), 16, (1, 3), pads=(0, 1, 0, 1))


def one_dimension(g: Draft) -> Value:
    return g.op("Relu", conv(g, in_blocks(g, 2, 20, 31), 24, (5,), pads=(2, 2), strides=(2,)))


def grouped(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 64, 6, 7), 32, (3, 3), group=2, pads=(1, 1, 1, 1))


def pointwise_residual(g: Draft) -> Value:
    x = in_blocks(g, 2, 40, 7, 9)
    return g.op("Relu", g.op("Add", conv(g, g.op("Sigmoid", x), 40, (1, 1)), x))


def gated(g: Draft) -> Value:
    x = in_blocks(g, 1, 24, 5, 6)
    gate = g.op("HardSigmoid", conv(g, g.op("GlobalAveragePool", x), 24, (1, 1)))
    return g.op("Mul", x, gate)


def pre_activation(g: Draft) -> Value:
    """Scaled, shifted and cut before it is multiplied; the residual is the input itself."""
    x = in_blocks(g, 2, 40, 9, 7)
    y = g.op("Relu", g.op("Add", g.op("Mul", x, g.weight(40, 1, 1)), g.weight(40, 1, 1)))
    return g.op("Add", conv(g, y, 40, (1, 1)), x)


def gated_input(g: Draft) -> Value:
    x = in_blocks(g, 1, 35, 6, 11)
    gate = g.op("Sigmoid", g.op("GlobalAveragePool", x))
    return g.op("Sigmoid", conv(g, g.op("Mul", x, gate), 50, (1, 1)))


def pre_activation_in_one_dimension(g: Draft) -> Value:
    x = in_blocks(g, 1, 24, 67)
    return g.op("Add", conv(g, g.op("HardSwish", x), 37, (1,), bias=False), conv(g, x, 37, (1,)))


def swish(g: Draft) -> Value:
    y = conv(g, in_blocks(g, 1, 16, 5, 5), 16, (3, 3))
    return g.op("Mul", y, g.op("Sigmoid", y))


def pointwise_column(g: Draft) -> Value:
    return g.op("Add", conv(g, in_blocks(g, 1, 16, 9, 1), 24, (1, 1)), g.input(1, 24, 9, 1))


def by_pixel(g: Draft) -> Value:
    return g.op("Mul", conv(g, in_blocks(g, 1, 16, 4, 6), 16, (1, 1)), g.weight(4, 1))


def depthwise(g: Draft) -> Value:
    x = in_blocks(g, 1, 35, 9, 15)
    return g.op("HardSwish", conv(g, x, 35, (5, 5), group=35, pads=(2, 2, 2, 2)))


def depthwise_strided(g: Draft) -> Value:
    x = in_blocks(g, 2, 32, 8, 33)
    return conv(g, x, 32, (3, 3), group=32, strides=(2, 2), pads=(0, 0, 1, 1), bias=False)


def depthwise_one_dimension(g: Draft) -> Value:
    return conv(g, in_blocks(g, 1, 24, 29), 24, (3,), group=24, pads=(1, 1))


def transposed(
    g: Draft, x: Value, made: int, kernel: tuple[int, ...], *, bias: bool = True, **attributes: object
) -> Value:
    operands = [g.weight(x.static_shape[1], made, *kernel), *([g.weight(made)] if bias else [])]
    return g.op("ConvTranspose", x, *operands, **attributes)


def doubled(g: Draft) -> Value:
    return g.op("Relu", transposed(g, in_blocks(g, 2, 20, 5, 7), 24, (2, 2), strides=(2, 2)))


def transposed_with_pads(g: Draft) -> Value:
    x = in_blocks(g, 1, 35, 6, 9)
    return transposed(g, x, 19, (4, 3), strides=(2, 2), pads=(1, 0, 0, 2), output_padding=(1, 0), bias=False)


def transposed_one_dimension(g: Draft) -> Value:
    return g.op("Gelu", transposed(g, in_blocks(g, 1, 16, 23), 16, (7,), strides=(3,), pads=(1, 2)))


def transposed_to_a_shape(g: Draft) -> Value:
    x = g.op("Transpose", g.input(1, 5, 6, 3), perm=(0, 3, 1, 2))
    return transposed(g, x, 10, (3, 5), strides=(1, 3), output_shape=(6, 17), auto_pad="SAME_UPPER")


def transposed_residual(g: Draft) -> Value:
    x = in_blocks(g, 1, 32, 8, 8)
    return g.op("Add", transposed(g, x, 32, (3, 3), pads=(1, 1, 1, 1)), x)


def max_pool(g: Draft) -> Value:
    x = in_blocks(g, 1, 20, 9, 11)
    return g.op("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))


def average_pool(g: Draft) -> Value:
    x = in_blocks(g, 1, 16, 7, 8)
    return g.op("AveragePool", x, kernel_shape=(3, 2), strides=(2, 1), pads=(1, 0, 1, 1))


def average_pool_with_pads(g: Draft) -> Value:
    x = in_blocks(g, 1, 16, 7, 8)
    return g.op("AveragePool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1), count_include_pad=1)


def max_pool_beyond_the_pads(g: Draft) -> Value:
    x = in_blocks(g, 2, 20, 10, 13)
    return g.op("MaxPool", x, kernel_shape=(3, 2), strides=(2, 3), pads=(1, 0, 0, 1), ceil_mode=1)


def average_pool_beyond_the_pads(g: Draft) -> Value:
    x = in_blocks(g, 1, 16, 10, 38)
    return g.op("AveragePool", x, kernel_shape=(3, 3), strides=(2, 3), pads=(1, 1, 1, 1), ceil_mode=1)


def average_pool_beyond_the_image(g: Draft) -> Value:
    return g.op("AveragePool", in_blocks(g, 1, 16, 9, 38), kernel_shape=(4, 5), strides=(3, 4), ceil_mode=1)


def average_pool_with_some_pads(g: Draft) -> Value:
    window = {"kernel_shape": (3, 5), "strides": (2, 3), "pads": (1, 2, 1, 2)}
    return g.op("AveragePool", in_blocks(g, 1, 16, 10, 38), ceil_mode=1, count_include_pad=1, **window)


def dilated_max_pool(g: Draft) -> Value:
    window = {"kernel_shape": (3, 2), "dilations": (2, 3), "strides": (1, 2), "pads": (2, 1, 2, 3)}
    return g.op("MaxPool", in_blocks(g, 1, 24, 9, 23), **window)


def dilated_average_pool(g: Draft) -> Value:
    window = {"kernel_shape": (3, 2), "dilations": (2, 3), "strides": (1, 2), "pads": (2, 1, 2, 2)}
    return g.op("AveragePool", in_blocks(g, 1, 24, 9, 24), ceil_mode=1, **window)


def prepared(g: Draft, x: Value) -> Value:
    return g.op("Relu", g.op("Add", g.op("Mul", x, g.weight(x.static_shape[1], 1, 1)), g.weight(1)))


def average_pool_of_activations(g: Draft) -> Value:
    x, window = in_blocks(g, 2, 24, 7, 9), {"kernel_shape": (2, 3), "strides": (2, 3)}
    return g.op("Add", g.op("AveragePool", prepared(g, x), **window), g.op("MaxPool", x, **window))


def global_pool_of_activations(g: Draft) -> Value:
    x = in_blocks(g, 2, 24, 7, 9)
    by_row = g.op("Mul", prepared(g, x), g.weight(7, 1))
    return g.op("Add", g.op("GlobalMaxPool", by_row), g.op("GlobalAveragePool", x))


def pool_one_dimension(g: Draft) -> Value:
    x = in_blocks(g, 1, 16, 22)
    return g.op("Sigmoid", g.op("AveragePool", x, kernel_shape=(3,), strides=(2,), pads=(1, 0), ceil_mode=1))


def global_pools(g: Draft) -> Value:
    x = in_blocks(g, 2, 24, 5, 7)
    return g.op("Concat", g.op("GlobalAveragePool", x), g.op("GlobalMaxPool", x), axis=1)


def concatenated(g: Draft) -> Value:
    x = in_blocks(g, 1, 32, 4, 5)
    return conv(g, g.op("Concat", x, conv(g, x, 16, (1, 1)), axis=1), 16, (3, 3), pads=(1, 1, 1, 1))


def gemm(g: Draft) -> Value:
    return g.op(
        "Relu", g.op("Gemm", g.input(5, 37), g.weight(29, 37), g.weight(29), transB=1, alpha=0.5, beta=2.0)
    )


def single_row(g: Draft) -> Value:
    return g.op("Gemm", g.input(1, 300), g.weight(300, 137), g.weight(137))


def single_column(g: Draft) -> Value:
    return g.op("MatMul", g.input(17, 9), g.weight(9, 1))


def batched_with_bias(g: Draft) -> Value:
    y = g.op("MatMul", g.input(2, 13, 64), g.weight(64, 50))
    return g.op("Gelu", g.op("Add", y, g.weight(50)))


def single_rows(g: Draft) -> Value:
    """Rows lie along an axis that another one, of length 1, follows."""
    y = g.op("MatMul", g.input(5, 1, 17), g.weight(17, 24))
    return g.op("Add", y, g.input(5, 1, 24))


def batched_with_residual(g: Draft) -> Value:
    y = g.op("MatMul", g.input(2, 3, 7, 20), g.weight(20, 48))
    return g.op("Add", g.op("Add", y, g.input(2, 3, 7, 48)), g.input(7, 1))


def split_heads(g: Draft, tokens: int, heads: int, width: int) -> list[Value]:
    """Queries, keys and values as an encoder makes them: one product, split, by heads."""
    whole = g.op("MatMul", g.input(2, tokens, 20), g.weight(20, 3 * heads * width))
    parts = g.ops("Split", whole, outputs=3, axis=2, num_outputs=3)
    shape = g.ints(2, tokens, heads, width)
    return [g.op("Transpose", g.op("Reshape", part, shape), perm=(0, 2, 1, 3)) for part in parts]


def attention_of_heads(g: Draft) -> Value:
    y = g.op("Attention", *split_heads(g, 21, 3, 12))
    return g.op("Reshape", g.op("Transpose", y, perm=(0, 2, 1, 3)), g.ints(2, 21, 36))


def attention_with_mask(g: Draft) -> Value:
    return g.op("Attention", *split_heads(g, 37, 2, 16), g.input(2, 1, 37, 37), scale=0.3)


def attention_of_past(g: Draft) -> Value:
    return g.op("Attention", *split_heads(g, 53, 2, 8), is_causal=1)


def attention_in_rows(g: Draft) -> Value:
    """Heads side by side, two of queries for each of keys, values wider than a vector."""
    operands = g.input(1, 9, 4 * 24), g.input(1, 130, 2 * 24), g.input(1, 130, 2 * 19)
    return g.op("Attention", *operands, q_num_heads=4, kv_num_heads=2)


def attention_of_one_head(g: Draft) -> Value:
    keys = g.op("Transpose", g.input(1, 1, 16, 70), perm=(0, 1, 3, 2))
    return g.op("Attention", g.input(1, 1, 6, 16), keys, g.input(1, 1, 70, 3))


def attention_of_lone_elements(g: Draft) -> Value:
    return g.op("Attention", g.input(1, 2, 7, 5), g.input(1, 2, 11, 5), g.input(1, 2, 11, 5), is_causal=1)


def softmax_of_odd_rows(g: Draft) -> Value:
    return g.op("Mul", g.op("Softmax", g.input(3, 1, 53)), g.input(3, 1, 1))


def log_softmax_of_rows(g: Draft) -> Value:
    return g.op("LogSoftmax", g.op("MatMul", g.input(7, 12), g.weight(12, 64)), axis=-1)


def rows_less_their_mean(g: Draft) -> Value:
    """Numbers far from zero: their variance is that of what is left without the mean."""
    x = g.op("Add", g.input(2, 5, 131), g.const(100.0))
    return g.op(
        "Relu", g.op("LayerNormalization", g.op("Transpose", x, perm=(1, 0, 2)), g.weight(131), g.weight(131))
    )


def rows_by_their_root(g: Draft) -> Value:
    return g.op("RMSNormalization", g.input(4, 1, 1, 96), g.weight(96))


LAYERS: dict[str, tuple[Layer, ...]] = {
    "direct-convolution": (
        channels_last,
        photograph,
        photograph_channels_last,
        photograph_narrower_than_a_vector,
        odd_channels,
        uneven_pads,
        dilated,
        window_wider_than_image,
        long_row,
        one_dimension,
        grouped,
        pointwise_residual,
        gated,
        swish,
        pointwise_column,
        by_pixel,
        concatenated,
        pre_activation,
        gated_input,
        pre_activation_in_one_dimension,
    ),
    "depthwise-convolution": (depthwise, depthwise_strided, depthwise_one_dimension),
    "transposed-convolution": (
        doubled,
        transposed_with_pads,
        transposed_one_dimension,
        transposed_to_a_shape,
        transposed_residual,
    ),
    "blocked-pool": (
        max_pool,
        max_pool_beyond_the_pads,
        average_pool,
        average_pool_with_pads,
        average_pool_beyond_the_pads,
        average_pool_beyond_the_image,
        average_pool_with_some_pads,
        dilated_max_pool,
        dilated_average_pool,
        pool_one_dimension,
        average_pool_of_activations,
        global_pool_of_activations,
        global_pools,
    ),
    "attention": (
        attention_of_heads,
        attention_with_mask,
        attention_of_past,
        attention_in_rows,
        attention_of_one_head,
        attention_of_lone_elements,
    ),
    "row-normalization": (
        softmax_of_odd_rows,
        log_softmax_of_rows,
        rows_less_their_mean,
        rows_by_their_root,
    ),
    "packed-product": (
        gemm,
        single_row,
        single_column,
        single_rows,
        batched_with_bias,
        batched_with_residual,
    ),
}


def machines() -> dict[str, Target]:
    host = load_target("host")
    narrow = dataclasses.replace(host, vector_bits=128, vector_registers=16, l1_bytes=2048)
    return {
        "host": host,
        "4 lanes": narrow,
        "picks a lane": dataclasses.replace(narrow, vector_registers=32, multiplies_by_lane=True),
    }


@pytest.fixture(scope="module")
def network() -> tuple[Graph, dict[str, np.ndarray]]:
    """All layers side by side, and what they must give."""
    draft = Draft()
    for layers in LAYERS.values():
        for build in layers:
            value = build(draft)
            draft.graph.add_output(value, build.__name__)
    return draft.graph, run(draft.graph, random_inputs(draft.graph))


@pytest.fixture(scope="module", params=list(machines()))
def results(
    request: pytest.FixtureRequest,
    network: tuple[Graph, dict[str, np.ndarray]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, np.ndarray]:
    graph, _ = network
    target = machines()[request.param]
    compiled = compile_model([grouped_for(graph, target)], target, "layers")
    return run_compiled(compiled, random_inputs(graph), tmp_path_factory.mktemp("layers"))


@pytest.mark.parametrize("name", [build.__name__ for layers in LAYERS.values() for build in layers])
def test_layer(
    name: str, results: dict[str, np.ndarray], network: tuple[Graph, dict[str, np.ndarray]]
) -> None:
    want = network[1][name]
    error = np.abs(results[name] - want).max()
    assert error <= TERMS * UNIT * np.abs(want).max()


@pytest.mark.parametrize(
    ("template", "build"), [(name, build) for name, layers in LAYERS.items() for build in layers]
)
def test_the_template_is_chosen(template: str, build: Layer) -> None:
    draft = Draft()
    draft.output(build(draft))
    target = load_target("x86-64-v3")
    assert template in {
        name for node in grouped_for(draft.graph, target).nodes for name in chosen(node, target)
    }


def small_image(g: Draft) -> Value:
    x = in_blocks(g, 1, 24, 4, 5)
    return g.op("Add", conv(g, prepared(g, x), 24, (1, 1)), x)


def few_filters(g: Draft) -> Value:
    x = in_blocks(g, 1, 24, 9, 9)
    return g.op("Add", conv(g, prepared(g, x), 8, (1, 1)), conv(g, x, 8, (1, 1)))


def overlapping_windows(g: Draft) -> Value:
    x, window = in_blocks(g, 1, 24, 9, 9), {"kernel_shape": (3, 3), "strides": (2, 2)}
    return g.op("Add", g.op("AveragePool", prepared(g, x), **window), g.op("MaxPool", x, **window))


@pytest.mark.parametrize("build", [small_image, few_filters, overlapping_windows])
def test_inputs_are_prepared_once_where_they_are_read_often(build: Layer) -> None:
    draft = Draft()
    draft.output(build(draft))
    assert "Mul+Add+Relu" in kernels(draft, load_target("x86-64-v3"))


@pytest.mark.parametrize(
    ("build", "kernel"),
    [
        (pre_activation, "Mul+Add+Relu+Conv+Add"),
        (gated_input, "Mul+Conv+Sigmoid"),
        (pre_activation_in_one_dimension, "HardSwish+Conv"),
        (average_pool_of_activations, "Mul+Add+Relu+AveragePool"),
        (global_pool_of_activations, "Mul+Add+Relu+Mul+GlobalMaxPool"),
    ],
)
def test_inputs_are_prepared_as_they_are_read(build: Layer, kernel: str) -> None:
    draft = Draft()
    draft.output(build(draft))
    assert kernel in kernels(draft, load_target("x86-64-v3"))


def kernels(draft: Draft, target: Target) -> set[str]:
    from graphopt.ir.fused import body_of
    from graphopt.targets.kernels import describe

    grouped = grouped_for(draft.graph, target)
    return {describe(body_of(node)) for node in grouped.nodes if is_fused(node)}


def chosen(node: Node, target: Target) -> list[str]:
    from graphopt.ir.fused import body_of
    from graphopt.targets.kernels import constant_operands
    from graphopt.targets.schedules.templates import choose

    if not is_fused(node):
        return []
    choice = choose(body_of(node), constant_operands(node), target)
    return [choice.template.name] if choice else []


def test_a_wrong_weight_is_seen(
    network: tuple[Graph, dict[str, np.ndarray]], results: dict[str, np.ndarray]
) -> None:
    want = network[1]["odd_channels"]
    assert np.abs(results["odd_channels"] * 1.001 - want).max() > TERMS * UNIT * np.abs(want).max()


def test_decisions_hold_the_defaults() -> None:
    from graphopt.ir.fused import body_of
    from graphopt.targets.kernels import constant_operands
    from graphopt.targets.schedules.templates import choose

    for layers in LAYERS.values():
        for build in layers:
            draft = Draft()
            draft.output(build(draft))
            for target in machines().values():
                for node in grouped_for(draft.graph, target).nodes:
                    choice = (
                        choose(body_of(node), constant_operands(node), target) if is_fused(node) else None
                    )
                    if choice is not None:
                        space = choice.template.decisions()
                        assert space.keys() == choice.decision.keys()
                        assert all(value in space[key] for key, value in choice.decision.items())


def test_types_of_outputs_stay_plain(network: tuple[Graph, dict[str, np.ndarray]]) -> None:
    graph, _ = network
    grouped = grouped_for(graph, load_target("host"))
    assert [v.type for v in grouped.outputs] == [v.type for v in graph.outputs]
    assert all(isinstance(v.type, TensorType) and v.type.layout is None for v in grouped.outputs)
