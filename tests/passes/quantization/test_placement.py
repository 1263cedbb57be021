"""Where quantisation goes."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Value
from graphopt.ir.text import to_text
from graphopt.passes.quantization.layers import candidates
from graphopt.passes.quantization.scheme import parse_scheme
from tests.passes.helpers import UNIT, Build, Draft, compare_golden, made
from tests.passes.quantization.quantised import operators, quantised, quantisers, source, sqnr


def conv(g: Draft, x: Value, channels: int, size: int = 3, **attributes: object) -> Value:
    inputs = x.static_shape[1] // int(attributes.get("group", 1))  # type: ignore[call-overload]
    pads = (size // 2,) * 4
    return g.op(
        "Conv", x, g.weight(channels, inputs, size, size), g.weight(channels), pads=pads, **attributes
    )


def residual(g: Draft) -> Value:
    """The block of a residual network, and a classifier behind it."""
    x = g.op("Relu", conv(g, g.input(1, 3, 6, 6), 8))
    y = g.op("Relu", conv(g, x, 8))
    total = g.op("Relu", g.op("Add", x, conv(g, y, 8)))
    pooled = g.op("Reshape", g.op("GlobalAveragePool", total), g.ints(1, 8))
    return g.op("Gemm", pooled, g.weight(8, 5), g.weight(5))


def squeezed(g: Draft) -> Value:
    """Squeeze and excitation: a gate by channel."""
    x = g.op("HardSwish", conv(g, g.input(1, 4, 6, 6), 8))
    gate = g.op("HardSigmoid", conv(g, g.op("GlobalAveragePool", x), 8, 1))
    return conv(g, g.op("Mul", x, gate), 4, 1)


def joined(g: Draft) -> Value:
    """Branches of very different ranges, one pooled, one resized."""
    x = g.op("Relu", conv(g, g.input(1, 3, 8, 8), 4))
    small = g.op("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    large = g.op("Mul", g.op("Relu", conv(g, x, 4, strides=(2, 2))), g.const(10.0))
    both = g.op("Concat", small, large, axis=1)
    wide = g.op("Resize", both, None, g.const([1, 1, 2, 2]), mode="nearest")
    padded = g.op("Pad", wide, g.ints(0, 0, 1, 1, 0, 0, 0, 0))
    return conv(g, padded, 2)


def attention(g: Draft) -> Value:
    """One head with an additive mask that reaches to minus the largest float."""
    x = g.input(1, 5, 8)
    normal = g.op("LayerNormalization", x, g.weight(8, positive=True), g.weight(8), axis=-1)
    q, k, v = (g.op("Add", g.op("MatMul", normal, g.weight(8, 8)), g.weight(8)) for _ in range(3))
    scores = g.op("Mul", g.op("MatMul", q, g.op("Transpose", k, perm=(0, 2, 1))), g.const(0.3))
    mask = np.triu(np.full((5, 5), np.finfo(np.float32).min), 1)
    shares = g.op("Softmax", g.op("Add", scores, g.const(mask)))
    made = g.op("MatMul", g.op("MatMul", shares, v), g.weight(8, 8))
    hidden = g.op("Gelu", g.op("MatMul", g.op("Add", x, made), g.weight(8, 16)))
    return g.op("MatMul", hidden, g.weight(16, 8))


def computed(g: Draft) -> Value:
    """Weights that are computed."""
    a, b = g.input(3, 4), g.input(5, 4)
    image = g.op("Reshape", g.op("Gemm", a, b, transB=1), g.ints(1, 1, 3, 5))
    return g.op("Conv", image, g.op("Reshape", b, g.ints(5, 1, 2, 2)), g.weight(5))


def spelt_out(g: Draft) -> Value:
    """A normalisation of squares and roots in front of a convolution, and one behind another."""
    x = conv(g, g.input(1, 4, 6, 6), 4)
    axes = g.ints(2, 3)
    mean = g.op("ReduceMean", x, axes)
    variance = g.op("Sub", g.op("ReduceMean", g.op("Mul", x, x), axes), g.op("Mul", mean, mean))
    deviation = g.op("Sqrt", g.op("Add", g.op("Relu", variance), g.const(1e-5)))
    return conv(g, g.op("Div", g.op("Sub", x, mean), deviation), 4)


@pytest.mark.parametrize("build", [residual, squeezed, joined, attention, spelt_out])
def test_golden(build: Build, update_golden: bool) -> None:
    """Ranges are of compiled sums of at most 72 terms, whose order depends on the machine's vectors."""
    text = to_text(quantised(build), weights="digest")
    compare_golden(text, f"quantize_{build.__name__}", update_golden, tolerance=72 * UNIT)


@pytest.mark.parametrize(
    ("build", "least"), [(residual, 35), (squeezed, 35), (joined, 30), (attention, 30), (spelt_out, 30)]
)
def test_little_is_lost(build: Build, least: float) -> None:
    assert sqnr(build) > least
    assert sqnr(build, "16x8") > least


@pytest.mark.parametrize("build", [residual, squeezed, joined, attention, spelt_out])
def test_every_product_reads_integers_and_nothing_is_quantised_twice(build: Build) -> None:
    graph = quantised(build)
    for node in graph.nodes:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            assert source(node.inputs[0]) and source(node.inputs[1])
    for node in quantisers(graph):
        producer = node.inputs[0].producer  # type: ignore[union-attr]
        if "requantize" not in node.name:
            assert producer is None or producer.op_type != "DequantizeLinear"


def test_computed_weights_are_quantised_as_activations() -> None:
    graph = quantised(computed)
    for node in graph.nodes:
        if node.op_type in ("Conv", "Gemm"):
            assert source(node.inputs[0]).dtype.label == source(node.inputs[1]).dtype.label == "uint8"
    assert sqnr(computed) > 30


def test_registers_are_not_quantised() -> None:
    """Behind Relu and the residual addition, not before: one quantisation a group."""
    graph = quantised(residual)
    made_by = [node.inputs[0].producer for node in quantisers(graph)]  # type: ignore[union-attr]
    names = [None if node is None else node.op_type for node in made_by]
    assert names == [None, "Relu", "Relu", "Relu", "GlobalAveragePool"]


def test_the_later_of_two_products_takes_the_addition() -> None:
    def build(g: Draft) -> Value:
        x = g.input(1, 4, 5, 5)
        return conv(g, g.op("Add", conv(g, x, 4), conv(g, x, 4)), 4)

    graph = quantised(build)
    add = next(node for node in graph.nodes if node.op_type == "Add")
    first, second = (value.producer.op_type for value in add.inputs)  # type: ignore[union-attr]
    assert (first, second) == ("DequantizeLinear", "Conv")


def test_moves_run_on_integers_of_one_scale() -> None:
    graph = quantised(joined)
    moves = [node for node in graph.nodes if node.op_type in ("MaxPool", "Concat", "Resize", "Pad")]
    assert {node.output.dtype.label for node in moves} == {"uint8"}
    concat = next(node for node in moves if node.op_type == "Concat")
    first, second = (value.producer for value in concat.inputs)  # type: ignore[union-attr]
    assert first is not None and second is not None
    assert first.op_type == second.op_type == "QuantizeLinear" and first.inputs[1:] == second.inputs[1:]


def test_a_narrow_operand_keeps_its_scale_where_others_read_it() -> None:
    """It is read by a convolution too, and has a tenth of the other's range."""
    graph = quantised(joined)
    concat = next(node for node in graph.nodes if node.op_type == "Concat")
    requantised = concat.inputs[0].producer  # type: ignore[union-attr]
    pool = source(requantised.inputs[0]).producer  # type: ignore[union-attr]
    assert pool is not None and pool.op_type == "MaxPool"


def test_operands_of_like_ranges_share_a_scale() -> None:
    def build(g: Draft) -> Value:
        x = g.input(1, 4, 5, 5)
        a, b = (g.op("Relu", conv(g, x, 4)) for _ in range(2))
        return g.op("Concat", conv(g, g.op("Concat", a, b, axis=1), 2), conv(g, a, 2), axis=1)

    graph = quantised(build)
    first, second, third = quantisers(graph)
    assert second.inputs[1] is third.inputs[1] and first.inputs[1] is not second.inputs[1]


def test_a_normalisation_that_is_spelt_out_stays_in_floats() -> None:
    graph = quantised(spelt_out)
    for node in graph.nodes:
        if node.op_type in ("Mul", "Sub", "Div", "Sqrt", "ReduceMean"):
            assert all(v.producer.op_type != "DequantizeLinear" for v in node.inputs if v and v.producer)
    assert len(quantisers(graph)) == 2


def test_a_mask_is_no_data() -> None:
    graph = quantised(attention)
    softmax = next(node for node in graph.nodes if node.op_type == "Softmax")
    assert softmax.inputs[0].producer.op_type == "Add"  # type: ignore[union-attr]
    assert [node.op_type for node in softmax.output.users] == ["QuantizeLinear"]


@pytest.mark.parametrize("fill", [-1e4, -1e9, np.finfo(np.float32).min])
def test_a_mask_that_is_computed_harms_nothing(fill: float) -> None:
    """Minus a large number wherever the model's second input is less than zero."""

    def build(g: Draft) -> Value:
        x, keep = g.input(1, 5, 8), g.input(1, 1, 5)
        q, k, v = (g.op("MatMul", x, g.weight(8, 8)) for _ in range(3))
        scores = g.op("Mul", g.op("MatMul", q, g.op("Transpose", k, perm=(0, 2, 1))), g.const(0.1))
        hidden = g.op("Relu", g.op("Neg", g.op("Sign", keep)))
        shares = g.op("Softmax", g.op("Add", scores, g.op("Mul", hidden, g.const(fill))))
        return g.op("MatMul", g.op("MatMul", shares, v), g.weight(8, 4))

    assert sqnr(build) > 20
    assert sqnr(build) > sqnr(unmasked) - 6


def unmasked(g: Draft) -> Value:
    x = g.input(1, 5, 8)
    q, k, v = (g.op("MatMul", x, g.weight(8, 8)) for _ in range(3))
    scores = g.op("Mul", g.op("MatMul", q, g.op("Transpose", k, perm=(0, 2, 1))), g.const(0.1))
    shares = g.op("Softmax", scores)
    return g.op("MatMul", g.op("MatMul", shares, v), g.weight(8, 4))


def test_outputs_of_the_graph_and_readers_of_floats_keep_them() -> None:
    def build(g: Draft) -> Value:
        x = g.op("Relu", conv(g, g.input(1, 4, 5, 5), 4))
        g.output(x, g.op("Exp", x), conv(g, x, 4))
        return x

    graph = quantised(build)
    assert [value.producer.op_type for value in graph.outputs] == ["Relu", "Exp", "Conv"]  # type: ignore[union-attr]
    assert graph.outputs[1].producer.inputs[0] is graph.outputs[0]  # type: ignore[union-attr]


def test_what_no_product_reads_stays_as_it_is() -> None:
    def build(g: Draft) -> Value:
        x = conv(g, g.input(1, 4, 5, 5), 4)
        return g.op("Softmax", g.op("MaxPool", g.op("Add", x, x), kernel_shape=(2, 2)), axis=1)

    assert operators(quantised(build))[-3:] == ["Add", "MaxPool", "Softmax"]


def test_an_excluded_layer_reads_floats() -> None:
    def build(g: Draft) -> Value:
        x = g.op("Relu", conv(g, g.input(1, 4, 5, 5), 4))
        return g.op("Add", g.op("Conv", x, g.weight(4, 4, 1, 1), name="kept"), conv(g, x, 4))

    graph = quantised(build, exclude=["kept"])
    kept = graph.node("kept")
    assert kept.inputs[0].producer.op_type == "Relu" and kept.inputs[1].is_constant  # type: ignore[union-attr]
    assert len(quantisers(graph)) == 2


def embedded(g: Draft) -> Value:
    """Two tables, normalised, and a product; one of the tables is small."""
    ids = g.input(1, 7, dtype=DType.int64)
    words = g.op("Gather", g.weight(200, 8), ids)
    places = g.op("Gather", g.weight(9, 8), g.ints(*range(7)))
    x = g.op("LayerNormalization", g.op("Add", words, places), g.weight(8), axis=-1)
    return g.op("MatMul", x, g.weight(8, 4))


def test_tables_are_kept_in_bytes_by_column() -> None:
    graph = quantised(embedded)
    lookups = [node for node in graph.nodes if node.op_type == "Gather"]
    assert [node.output.dtype.label for node in lookups] == ["int8", "float32"]
    [user] = lookups[0].output.users
    assert user.op_type == "DequantizeLinear" and user.inputs[1].size == 8  # type: ignore[union-attr]
    assert sqnr(embedded) > 35
    assert "float16" in {v.dtype.label for v in quantised(embedded, "weights-float16").constants}
    assert operators(quantised(embedded, exclude=["Gather"]))[0] == "Gather"


def test_operators_without_a_quantised_form_are_not_forgotten() -> None:
    graph = made(lambda g: g.op("Einsum", g.input(3, 4), g.weight(4, 5), equation="ab,bc->ac"))
    [reason] = candidates(graph, parse_scheme("int8")).values()
    assert reason == "Einsum has no quantised form"
