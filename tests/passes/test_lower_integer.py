"""Sums of quantised numbers are sums of integers: exact, and rounded as integer kernels round."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir import DType, Value
from graphopt.passes import catalog
from graphopt.pipeline import parse_pipeline
from graphopt.runtime.reference import run
from tests.passes.helpers import Build, Draft, check_fires, check_stays, made

PASS = "lower-integer"
PRODUCT = "lower-integer-product"
SX, SY = np.float32(0.037), np.float32(0.11)
ZX, ZY = -5, 7


def dequantized(g: Draft, *shape: int, dtype: DType = DType.int8, zero: int = ZX) -> Value:
    x = g.input(*shape, dtype=dtype)
    return g.op("DequantizeLinear", x, g.const(SX), g.const(zero, dtype.numpy.type))


def weights(g: Draft, *shape: int, axis: int | None = 0) -> tuple[Value, np.ndarray]:
    """Dequantised int8 weights, with a scale for each place on `axis`; and those scales."""
    data = g.random.integers(-127, 128, shape).astype(np.int8)
    scale = g.random.uniform(0.001, 0.02, () if axis is None else shape[axis]).astype(np.float32)
    attributes = {} if axis is None else {"axis": axis}
    return g.op("DequantizeLinear", g.const(data, np.int8), g.const(scale), **attributes), scale


def bias(g: Draft, channels: int, scale: np.ndarray, largest: int = 5000) -> Value:
    data = g.random.integers(-largest, largest, channels).astype(np.int32)
    return g.op("DequantizeLinear", g.const(data, np.int32), g.const(scale), axis=0)


def quantized(g: Draft, x: Value, scale: float = SY) -> Value:
    return g.op("QuantizeLinear", x, g.const(scale), g.const(ZY, np.int8))


def conv(g: Draft) -> Value:
    x, (w, scale) = dequantized(g, 1, 3, 5, 5), weights(g, 4, 3, 3, 3)
    return quantized(g, g.op("Conv", x, w, bias(g, 4, SX * scale), pads=(1, 1, 1, 1)))


def depthwise(g: Draft) -> Value:
    x, (w, _) = dequantized(g, 1, 4, 5, 5, dtype=DType.uint8, zero=3), weights(g, 4, 1, 3, 3)
    return quantized(g, g.op("Relu", g.op("Conv", x, w, group=4)))


def grouped_of_transposed(g: Draft) -> Value:
    x, (w, scale) = dequantized(g, 1, 5, 5, 4), weights(g, 6, 2, 3, 3)
    turned = g.op("Transpose", x, perm=(0, 3, 1, 2))
    return quantized(g, g.op("Conv", turned, w, bias(g, 6, SX * scale), group=2, strides=(2, 2)))


def conv_transpose(g: Draft) -> Value:
    x, (w, _) = dequantized(g, 1, 3, 4, 4), weights(g, 3, 2, 2, 2, axis=1)
    return g.op("ConvTranspose", x, w, strides=(2, 2))


def gemm(g: Draft) -> Value:
    x, (w, scale) = dequantized(g, 2, 6), weights(g, 4, 6)
    return quantized(g, g.op("Gemm", x, w, bias(g, 4, SX * scale), transB=1))


def other_bias_scale(g: Draft) -> Value:
    x, (w, scale) = dequantized(g, 2, 6), weights(g, 6, 4, axis=1)
    return g.op("Gemm", x, w, bias(g, 4, SX * scale * np.float32(1.5)))


def float_bias(g: Draft) -> Value:
    x, (w, _) = dequantized(g, 1, 3, 4, 4), weights(g, 2, 3, 1, 1, axis=None)
    return g.op("Conv", x, w, g.weight(2))


def large_bias(g: Draft) -> Value:
    """With it the sums do not fit 32 bits."""
    x, (w, scale) = dequantized(g, 1, 3, 4, 4), weights(g, 2, 3, 1, 1)
    b = g.op("DequantizeLinear", g.const([2**31 - 5, -3], np.int32), g.const(SX * scale), axis=0)
    return quantized(g, g.op("Conv", x, w, b))


def of_16_bits(g: Draft) -> Value:
    x, (w, scale) = dequantized(g, 1, 3, 4, 4, dtype=DType.int16, zero=-700), weights(g, 2, 3, 1, 1)
    return quantized(g, g.op("Conv", x, w, bias(g, 2, SX * scale)))


def shifted_weights(g: Draft) -> Value:
    """Without their zero point they do not fit 8 bits."""
    data = g.const(g.random.integers(0, 256, (6, 4)), np.uint8)
    w = g.op("DequantizeLinear", data, g.const(0.01), g.const(100, np.uint8))
    return quantized(g, g.op("MatMul", dequantized(g, 2, 6, dtype=DType.uint8, zero=128), w))


def attention(g: Draft) -> Value:
    a, b = dequantized(g, 2, 3, 6, dtype=DType.uint8, zero=9), dequantized(g, 2, 6, 5)
    return quantized(g, g.op("MatMul", a, b))


def pooled(g: Draft) -> Value:
    x = g.op("Relu", dequantized(g, 1, 3, 6, 6))
    x = g.op("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    return g.op("Flatten", x)


def padded(g: Draft) -> Value:
    x = g.op("Pad", dequantized(g, 1, 2, 3, 3), g.ints(0, 0, 1, 1, 0, 0, 1, 1))
    return g.op("Resize", x, None, g.const([1.0, 1.0, 2.0, 2.0]), mode="nearest")


def parted(g: Draft) -> Value:
    x, y = g.ops("Split", dequantized(g, 1, 4, 3), outputs=2, axis=1, num_outputs=2)
    g.output(y, x)
    return x


def joined(g: Draft) -> Value:
    return g.op("Concat", dequantized(g, 1, 2, 3), dequantized(g, 1, 4, 3), axis=1)


def joined_floats(g: Draft) -> Value:
    """One operand is quantised as the result is, one otherwise, one is a constant."""
    same = g.op("DequantizeLinear", g.input(1, 2, dtype=DType.int8), g.const(SY), g.const(ZY, np.int8))
    return quantized(g, g.op("Concat", same, dequantized(g, 1, 2), g.weight(1, 3), axis=1))


def quantized_last(g: Draft) -> Value:
    x = g.op("Pad", g.input(1, 2, 4, 4), g.ints(0, 0, 0, 0, 0, 0, 1, 0), g.const(0.0))
    return quantized(g, g.op("MaxPool", g.op("Transpose", x, perm=(0, 1, 3, 2)), kernel_shape=(2, 2)))


def transposed_rows(g: Draft) -> Value:
    x, (w, scale) = dequantized(g, 6, 2), weights(g, 4, 6)
    return quantized(g, g.op("Gemm", x, w, bias(g, 4, SX * scale), transA=1, transB=1))


def product(g: Draft) -> Value:
    x, (w, scale) = dequantized(g, 2, 3, 6), weights(g, 6, 4, axis=1)
    return quantized(g, g.op("Add", g.op("MatMul", x, w), bias(g, 4, SX * scale)))


def mean(g: Draft) -> Value:
    return quantized(g, g.op("GlobalAveragePool", dequantized(g, 1, 3, 4, 4)))


def mean_of_equal_scale(g: Draft) -> Value:
    """The scales cancel: no multiplication is left."""
    return quantized(g, g.op("ReduceMean", dequantized(g, 1, 3, 3, 3), g.ints(2, 3), keepdims=0), SX)


@pytest.mark.parametrize(
    ("rule", "build"),
    [
        (PRODUCT, conv),
        (PRODUCT, depthwise),
        (PRODUCT, grouped_of_transposed),
        (PRODUCT, conv_transpose),
        (PRODUCT, gemm),
        (PRODUCT, other_bias_scale),
        (PRODUCT, float_bias),
        (PRODUCT, large_bias),
        (PRODUCT, of_16_bits),
        (PRODUCT, shifted_weights),
        (PRODUCT, transposed_rows),
        ("lower-integer-attention", attention),
        ("dequantize-behind", pooled),
        ("dequantize-behind", padded),
        ("dequantize-behind", parted),
        ("concat-of-bytes", joined),
        ("same-quantization", joined_floats),
        ("quantize-before-concat", joined_floats),
        ("quantize-constant", joined_floats),
        ("quantize-before", quantized_last),
        ("relu-of-bytes", pooled),
        ("add-integer-bias", product),
        ("lower-integer-mean", mean),
        ("lower-integer-mean", mean_of_equal_scale),
        ("scale-behind-relu", depthwise),
        ("requantize", conv),
    ],
)
def test_lowers(rule: str, build: Build, update_golden: bool) -> None:
    check_fires(PASS, rule, build, f"integer_{build.__name__}", update_golden, exported=False)


def rewritten(build: Build, x: np.ndarray) -> np.ndarray:
    """The output for `x`, of the graph after the pass."""
    graph = made(build)
    parse_pipeline(PASS, catalog()).run(graph)
    (result,) = run(graph, {graph.inputs[0].name: x}).values()
    return result


def requantized(sums: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """int64 sums as int8, the way integer kernels do it: one multiplication in float32, rounded half to even."""
    scaled = np.rint(sums.astype(np.float32) * factor.astype(np.float32))
    return np.clip(scaled + ZY, -128, 127).astype(np.int8)


@pytest.mark.parametrize("seed", range(5))
def test_convolution_is_exact(seed: int) -> None:
    """Equal to int64 arithmetic, bit for bit."""
    random = np.random.default_rng(seed)
    x = random.integers(-128, 128, (1, 3, 7, 7)).astype(np.int8)
    w = random.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    b = random.integers(-20000, 20000, 4).astype(np.int32)
    scale = random.uniform(0.001, 0.02, 4).astype(np.float32)

    def build(g: Draft) -> Value:
        kernel = g.op("DequantizeLinear", g.const(w, np.int8), g.const(scale), axis=0)
        shift = g.op("DequantizeLinear", g.const(b, np.int32), g.const(SX * scale), axis=0)
        return quantized(g, g.op("Conv", dequantized(g, *x.shape), kernel, shift))

    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64) - ZX, (3, 3), axis=(2, 3))
    sums = np.einsum("nchwij,mcij->nmhw", windows, w.astype(np.int64)) + b[:, None, None]
    np.testing.assert_array_equal(rewritten(build, x), requantized(sums, (SX * scale / SY)[:, None, None]))


@pytest.mark.parametrize("seed", range(5))
def test_product_is_exact(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = random.integers(-128, 128, (4, 300)).astype(np.int8)
    w = random.integers(-127, 128, (300, 5)).astype(np.int8)
    scale = np.float32(random.uniform(0.0005, 0.001))

    def build(g: Draft) -> Value:
        dense = g.op("DequantizeLinear", g.const(w, np.int8), g.const(scale))
        return quantized(g, g.op("MatMul", dequantized(g, *x.shape), dense))

    sums = (x.astype(np.int64) - ZX) @ w.astype(np.int64)
    np.testing.assert_array_equal(rewritten(build, x), requantized(sums, SX * scale / SY))


def test_ties_of_a_mean_go_to_even() -> None:
    """Equal scales cancel: a mean of k + 1/2 is a tie whatever the scale, and 0.5 becomes 0, 1.5 becomes 2."""
    x = np.zeros((1, 4, 1, 2), np.int8)
    x[0, :, 0, 1] = [1, 3, 5, -1]

    def build(g: Draft) -> Value:
        y = g.op("GlobalAveragePool", dequantized(g, *x.shape, zero=0))
        return g.op("QuantizeLinear", y, g.const(SX), g.const(0, np.int8))

    np.testing.assert_array_equal(rewritten(build, x).reshape(-1), [0, 2, 2, 0])


def other_bias_scale_of_product(g: Draft) -> Value:
    x, (w, scale) = dequantized(g, 2, 6), weights(g, 6, 4, axis=1)
    return g.op("Add", g.op("MatMul", x, w), bias(g, 4, SX * scale * np.float32(1.5)))


def between_pixels(g: Draft) -> Value:
    return g.op("Resize", dequantized(g, 1, 1, 3, 3), None, g.const([1.0, 1.0, 2.0, 2.0]), mode="linear")


def padded_with_one(g: Draft) -> Value:
    return g.op("Pad", dequantized(g, 2, 3), g.ints(0, 1, 0, 0), g.const(1.0))


def places_too(g: Draft) -> Value:
    x, places = g.ops("MaxPool", dequantized(g, 1, 1, 4, 4), outputs=2, kernel_shape=(2, 2))
    g.output(places)
    return x


def pool_of_16_bits(g: Draft) -> Value:
    return g.op("MaxPool", dequantized(g, 1, 1, 4, 4, dtype=DType.int16), kernel_shape=(2, 2))


def joined_of_two_kinds(g: Draft) -> Value:
    return g.op("Concat", dequantized(g, 2, 2), dequantized(g, 2, 2, zero=0), axis=1)


def requantized_bytes(g: Draft) -> Value:
    return quantized(g, dequantized(g, 2, 3))


def quantized_by_channel(g: Draft) -> Value:
    x = g.op("Transpose", g.input(3, 4), perm=(1, 0))
    return g.op("QuantizeLinear", x, g.weight(3, positive=True), axis=1)


def moved_for_two(g: Draft) -> Value:
    x = g.op("Transpose", g.input(3, 4), perm=(1, 0))
    g.output(x, quantized(g, x))
    return x


def computed_weights(g: Draft) -> Value:
    w = g.op("DequantizeLinear", g.input(4, 6, dtype=DType.int8), g.const(0.1))
    return g.op("Gemm", dequantized(g, 2, 6), w, transB=1)


def float_input(g: Draft) -> Value:
    return g.op("MatMul", g.input(2, 6), weights(g, 6, 4, axis=1)[0])


def scaled_by_channel(g: Draft) -> Value:
    x = g.input(1, 3, 4, 4, dtype=DType.int8)
    x = g.op("DequantizeLinear", x, g.weight(3, positive=True), axis=1)
    return g.op("Conv", x, weights(g, 2, 3, 1, 1)[0])


def weights_by_row(g: Draft) -> Value:
    return g.op("MatMul", dequantized(g, 2, 6), weights(g, 6, 4, axis=0)[0])


def computed_bias(g: Draft) -> Value:
    x, (w, _) = dequantized(g, 2, 6), weights(g, 6, 4, axis=1)
    return g.op("Gemm", x, w, g.input(4))


def long_sum(g: Draft) -> Value:
    x = dequantized(g, 2, 600, dtype=DType.uint16, zero=0)
    return g.op("MatMul", x, weights(g, 600, 2, axis=1)[0])


def doubled(g: Draft) -> Value:
    return g.op("Gemm", dequantized(g, 2, 6), weights(g, 6, 4, axis=1)[0], alpha=2.0)


def grouped_transpose(g: Draft) -> Value:
    return g.op("ConvTranspose", dequantized(g, 1, 4, 3, 3), weights(g, 4, 2, 2, 2, axis=1)[0], group=2)


def mean_of_floats(g: Draft) -> Value:
    return g.op("GlobalAveragePool", g.input(1, 3, 4, 4))


def bias_of_floats(g: Draft) -> Value:
    x = g.op("Mul", g.input(2, 4), g.const(0.5))
    return g.op("Add", x, bias(g, 4, np.full(4, 0.5, np.float32)))


def relu_of_floats(g: Draft) -> Value:
    return g.op("Relu", g.op("Mul", g.input(2, 4), g.const(0.5)))


def quantised_floats(g: Draft) -> Value:
    return quantized(g, g.op("Mul", g.input(2, 4), g.const(0.5)))


@pytest.mark.parametrize(
    ("rule", "build", "reason"),
    [
        (PRODUCT, computed_weights, "is not a constant"),
        (PRODUCT, float_input, "is not dequantised with one scale"),
        (PRODUCT, scaled_by_channel, "is not dequantised with one scale"),
        (PRODUCT, weights_by_row, "not quantised by output channel"),
        (PRODUCT, computed_bias, "is not constant"),
        (PRODUCT, long_sum, "do not fit 32 bits"),
        (PRODUCT, doubled, "alpha or beta is not one"),
        (PRODUCT, grouped_transpose, "a channel of every group"),
        ("dequantize-behind", between_pixels, "computes between elements"),
        ("dequantize-behind", padded_with_one, "another number than zero"),
        ("dequantize-behind", places_too, "it tells places too"),
        ("dequantize-behind", pool_of_16_bits, "no pools of 16 bits"),
        ("concat-of-bytes", joined_of_two_kinds, "not all is dequantised with the same"),
        ("same-quantization", requantized_bytes, "it is quantised otherwise"),
        ("quantize-before", quantized_by_channel, "for each channel"),
        ("quantize-before", moved_for_two, "is a graph output"),
        ("lower-integer-mean", mean_of_floats, "is not dequantised with one scale"),
        ("add-integer-bias", bias_of_floats, "want Cast"),
        ("add-integer-bias", other_bias_scale_of_product, "another scale"),
        ("scale-behind-relu", relu_of_floats, "are no integers"),
        ("requantize", quantised_floats, "are no integers"),
    ],
)
def test_declines(rule: str, build: Build, reason: str) -> None:
    check_stays(PASS, rule, build, reason)
