"""Convolutions of bytes, as `lower_integer` makes them: odd sizes, zero points beside pads, every kind of epilogue."""

from __future__ import annotations

import numpy as np

from graphopt.ir import QUANT, DType, TensorType, Value
from graphopt.ir.layout import plain_node
from graphopt.runtime.reference_conv import conv
from graphopt.runtime.reference_conv_transpose import conv_transpose
from tests.passes.helpers import Draft
from tests.targets.layers.base import Layer

RESIDUAL_SCALE, RESIDUAL_ZERO = 0.37, 5


def image(g: Draft, *shape: int, dtype: DType = DType.int8) -> Value:
    return g.input(*shape, dtype=dtype)


def sums(
    g: Draft,
    x: Value,
    made: int,
    kernel: tuple[int, ...],
    *,
    zero: int = 0,
    bias: bool = True,
    largest: int = 127,
    dtype: type = np.int8,
    op_type: str = "Conv",
    **attributes: object,
) -> Value:
    """quant::Conv, or ConvTranspose, of weights up to `largest`."""
    channels = x.static_shape[1] // int(attributes.get("group", 1))  # type: ignore[call-overload]
    shape = (made, channels, *kernel) if op_type == "Conv" else (channels, made, *kernel)
    w = g.const(g.random.integers(-largest, largest + 1, shape), dtype)
    operands = [x, w, *([g.const(g.random.integers(-1000, 1001, made), np.int32)] if bias else [])]
    attributes = {"kernel_shape": kernel, "x_zero_point": zero, **attributes}
    types = (_type(x, operands, op_type, attributes),)
    (y,) = g.ops(op_type, *operands, outputs=1, domain=QUANT, types=types, **attributes)
    return y


def _type(x: Value, operands: list[Value], op_type: str, attributes: dict[str, object]) -> TensorType:
    """As numpy makes the result."""
    trial = Draft()
    inputs = [trial.graph.add_input(v.name, v.type, unique=True) for v in operands]
    (y,) = trial.ops(op_type, *inputs, outputs=1, domain=QUANT, types=(x.type,), **attributes)
    zeros = [np.zeros(v.static_shape) for v in operands]
    assert y.producer is not None
    made = (conv if op_type == "Conv" else conv_transpose)(plain_node(y.producer), zeros)
    return TensorType(DType.int32, made.shape)


def requantized(
    g: Draft, y: Value, *, zero: int = -7, dtype: type = np.int8, residual: bool = False, relu: bool = False
) -> Value:
    """Scaled by channel, so that the results fill the range of a byte."""
    assert y.producer is not None
    w = y.producer.inputs[1]
    assert w is not None and w.constant is not None
    rank, terms = len(y.static_shape), np.prod(w.static_shape[1:])
    scale = g.random.uniform(0.5, 1.5, (y.static_shape[1], *(1,) * (rank - 2))) / (140 * np.sqrt(terms))
    v = g.op("Mul", g.op("Cast", y, to=DType.float32.onnx_code), g.const(scale))
    if residual:
        other = image(g, *y.static_shape, dtype=DType.of(np.dtype(dtype)))
        v = g.op(
            "Add",
            v,
            g.op("DequantizeLinear", other, g.const(RESIDUAL_SCALE), g.const(RESIDUAL_ZERO, dtype)),
        )
    if relu:
        v = g.op("Relu", v)
    return g.op("QuantizeLinear", v, g.const(1.0), g.const(zero, dtype))


def in_few_bits(build: Layer, bits: int) -> Layer:
    """The layer with weights that so many bits can tell from each other in each channel, some of them above zero and
    some below."""
    levels = 1 << bits

    def built(g: Draft) -> Value:
        before = set(g.graph.nodes)
        y = build(g)
        for node in g.graph.nodes:
            if node.is_op("Conv", domain=QUANT) and node not in before:
                w = node.inputs[1]
                assert w is not None and w.constant is not None
                least = np.arange(len(w.constant)) * 5 % levels
                few = (w.constant & (levels - 1)) - least.reshape(-1, *[1] * (w.constant.ndim - 1))
                node.set_input(1, g.graph.add_constant(few.astype(np.int8), w.name))
        g.graph.remove_unused_constants()
        return y

    built.__name__ = f"{build.__name__}_in_{bits}_bits"
    return built


def in_four_bits(build: Layer) -> Layer:
    """The layer with weights of 4 bits."""
    return in_few_bits(build, 4)


def odd_channels(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 19, 7, 13), 21, (3, 3), zero=-5, pads=(1, 1, 1, 1)))


def uneven_pads(g: Draft) -> Value:
    y = sums(g, image(g, 1, 16, 9, 8), 16, (2, 5), bias=False, pads=(1, 3, 0, 2), strides=(1, 2))
    return requantized(g, y)


def dilated(g: Draft) -> Value:
    x = image(g, 1, 35, 8, 9)
    return requantized(g, sums(g, x, 20, (3, 3), zero=11, dilations=(2, 3), pads=(2, 3, 2, 3)))


def window_wider_than_image(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 16, 2, 2), 16, (5, 5), zero=-128, pads=(2, 2, 2, 2)))


def long_row(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 2, 16, 1, 101), 16, (1, 3), zero=9, pads=(0, 1, 0, 1)))


def one_dimension(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 2, 20, 15), 24, (5,), zero=3, strides=(2,), pads=(2, 2)))


def grouped(g: Draft) -> Value:
    y = sums(g, image(g, 1, 64, 6, 7), 32, (3, 3), zero=3, group=2, pads=(1, 1, 1, 1))
    return requantized(g, y, relu=True)


def pointwise_residual(g: Draft) -> Value:
    y = sums(g, image(g, 2, 40, 7, 9), 40, (1, 1), zero=77)
    return requantized(g, y, residual=True, relu=True)


def photograph(g: Draft) -> Value:
    x = image(g, 1, 3, 9, 23, dtype=DType.uint8)
    return requantized(g, sums(g, x, 40, (7, 7), zero=114, strides=(2, 2), pads=(3, 3, 3, 3)))


def six_bands(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 6, 9, 10), 18, (3, 3), zero=-1, pads=(1, 0, 1, 2)))


def one_band(g: Draft) -> Value:
    """More rows than columns, as of sound."""
    y = sums(g, image(g, 1, 1, 19, 10), 24, (10, 4), zero=83, bias=False, strides=(2, 2), pads=(4, 1, 5, 1))
    return requantized(g, y)


def channels_last(g: Draft) -> Value:
    x = g.op("Transpose", image(g, 2, 7, 9, 3, dtype=DType.uint8), perm=(0, 3, 1, 2))
    return requantized(g, sums(g, x, 20, (3, 2), zero=9, dilations=(1, 2), pads=(1, 1, 0, 1)))


def sums_themselves(g: Draft) -> Value:
    return sums(g, image(g, 1, 16, 9, 1), 24, (1, 1), zero=-3)


def unsigned(g: Draft) -> Value:
    x = image(g, 1, 35, 7, 9, dtype=DType.uint8)
    y = sums(g, x, 26, (3, 3), zero=120, strides=(2, 2), pads=(1, 1, 1, 1))
    return requantized(g, y, zero=121, dtype=np.uint8)


def wide_weights(g: Draft) -> Value:
    """Weights that had a zero point."""
    return requantized(g, sums(g, image(g, 1, 24, 5, 5), 10, (1, 1), zero=4, largest=255, dtype=np.int16))


def lowest_weights(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 16, 5, 5), 16, (3, 3), zero=4, largest=128, dtype=np.int8))


def swish(g: Draft) -> Value:
    y = sums(g, image(g, 1, 16, 5, 6), 20, (1, 1), zero=4)
    v = g.op("Mul", g.op("Cast", y, to=DType.float32.onnx_code), g.const(2e-2))
    return g.op("QuantizeLinear", g.op("Swish", v), g.const(1.0), g.const(-100, np.int8))


def max_pool(g: Draft) -> Value:
    x = requantized(g, sums(g, image(g, 1, 16, 7, 9), 20, (1, 1), zero=3))
    return g.op("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))


def doubled(g: Draft) -> Value:
    x = image(g, 2, 20, 5, 7)
    y = sums(g, x, 24, (3, 4), op_type="ConvTranspose", zero=9, strides=(2, 2), pads=(1, 1, 0, 1))
    return requantized(g, y)


def transposed_one_dimension(g: Draft) -> Value:
    x = image(g, 1, 32, 13, dtype=DType.uint8)
    return sums(g, x, 16, (7,), op_type="ConvTranspose", zero=100, bias=False, strides=(3,), pads=(1, 2))


def depthwise(g: Draft) -> Value:
    y = sums(g, image(g, 1, 19, 7, 4), 19, (5, 5), zero=-3, group=19, pads=(2, 2, 2, 2))
    return requantized(g, y)


def depthwise_strided(g: Draft) -> Value:
    y = sums(g, image(g, 2, 32, 8, 33), 32, (3, 3), bias=False, group=32, strides=(2, 2), pads=(0, 0, 1, 1))
    return requantized(g, y)


def depthwise_residual(g: Draft) -> Value:
    y = sums(g, image(g, 1, 24, 6, 5), 24, (3, 3), zero=5, group=24, pads=(1, 1, 1, 1))
    return requantized(g, y, residual=True, relu=True)


def depthwise_wider_than_image(g: Draft) -> Value:
    y = sums(g, image(g, 1, 16, 2, 2), 16, (5, 3), zero=100, group=16, pads=(2, 1, 2, 1))
    return requantized(g, y)


def depthwise_dilated(g: Draft) -> Value:
    window = {"bias": False, "dilations": (1, 2), "strides": (1, 2), "pads": (2, 1, 1, 2)}
    return sums(g, image(g, 1, 48, 13, 9), 48, (3, 2), zero=-128, group=48, **window)


def depthwise_unsigned(g: Draft) -> Value:
    x = image(g, 1, 20, 5, 6, dtype=DType.uint8)
    y = sums(g, x, 20, (3, 3), zero=131, group=20, pads=(1, 1, 1, 1))
    return requantized(g, y, zero=3, dtype=np.uint8)


def depthwise_wide_weights(g: Draft) -> Value:
    x = image(g, 1, 20, 4, 5)
    y = sums(g, x, 20, (3, 3), zero=1, group=20, pads=(1, 1, 1, 1), largest=255, dtype=np.int16)
    return requantized(g, y)


def depthwise_lowest_weights(g: Draft) -> Value:
    x = image(g, 1, 16, 5, 6)
    return requantized(g, sums(g, x, 16, (3, 3), zero=1, group=16, largest=128))


def depthwise_one_dimension(g: Draft) -> Value:
    return requantized(g, sums(g, image(g, 1, 24, 29), 24, (3,), zero=-9, group=24, pads=(1, 1)))


def short_image(g: Draft) -> Value:
    """Activations of 16 bits."""
    x = image(g, 1, 19, 7, 13, dtype=DType.int16)
    return requantized(g, sums(g, x, 21, (3, 3), pads=(1, 1, 1, 1)), zero=0, dtype=np.int16)


def short_residual(g: Draft) -> Value:
    y = sums(g, image(g, 2, 40, 7, 9, dtype=DType.int16), 40, (1, 1), zero=-700)
    return requantized(g, y, zero=0, dtype=np.int16, residual=True, relu=True)


def short_photograph(g: Draft) -> Value:
    x = image(g, 1, 3, 9, 23, dtype=DType.int16)
    y = sums(g, x, 40, (7, 7), strides=(2, 2), pads=(3, 3, 3, 3))
    return requantized(g, y, zero=0, dtype=np.int16)


def short_to_bytes(g: Draft) -> Value:
    x = image(g, 1, 16, 9, 8, dtype=DType.int16)
    y = sums(g, x, 16, (2, 5), zero=900, pads=(1, 3, 0, 2), strides=(1, 2))
    v = g.op("Mul", _as_float(g, y), g.const(1e-5))
    return g.op("QuantizeLinear", v, g.const(1.0), g.const(99, np.uint8))


def short_off_centre(g: Draft) -> Value:
    """A zero point of 16 bits is added before anything saturates."""
    y = sums(g, image(g, 1, 16, 5, 5, dtype=DType.int16), 20, (1, 1))
    v = g.op("Mul", _as_float(g, y), g.const(5e-3))
    return g.op("QuantizeLinear", v, g.const(1.0), g.const(-20000, np.int16))


def short_wide_weights(g: Draft) -> Value:
    x = image(g, 1, 24, 5, 5, dtype=DType.int16)
    y = sums(g, x, 10, (1, 1), zero=4, largest=255, dtype=np.int16)
    return requantized(g, y, zero=0, dtype=np.int16)


def short_depthwise(g: Draft) -> Value:
    x = image(g, 1, 20, 6, 9, dtype=DType.int16)
    y = sums(g, x, 20, (3, 3), zero=-31, group=20, pads=(1, 1, 1, 1))
    return requantized(g, y, zero=0, dtype=np.int16, residual=True)


def short_depthwise_wide(g: Draft) -> Value:
    x = image(g, 1, 32, 8, 17, dtype=DType.int16)
    y = sums(g, x, 32, (5, 5), group=32, strides=(2, 1), pads=(2, 2, 2, 2), largest=255, dtype=np.int16)
    return requantized(g, y, zero=0, dtype=np.int16)


def short_doubled(g: Draft) -> Value:
    x = image(g, 2, 20, 5, 7, dtype=DType.int16)
    y = sums(g, x, 24, (3, 4), op_type="ConvTranspose", zero=9, strides=(2, 2), pads=(1, 1, 0, 1))
    return requantized(g, y, zero=0, dtype=np.int16)


def _as_float(g: Draft, y: Value) -> Value:
    return g.op("Cast", y, to=DType.float32.onnx_code)


SHORT: tuple[Layer, ...] = (
    short_image,
    short_residual,
    short_photograph,
    short_to_bytes,
    short_off_centre,
    short_wide_weights,
    short_depthwise,
    short_depthwise_wide,
    short_doubled,
)
"""Activations of 16 bits; those in front can have 4 bits."""

CONVOLUTIONS: tuple[Layer, ...] = (
    odd_channels,
    uneven_pads,
    dilated,
    window_wider_than_image,
    long_row,
    one_dimension,
    grouped,
    pointwise_residual,
    photograph,
    six_bands,
    one_band,
    channels_last,
    sums_themselves,
    unsigned,
    wide_weights,
    lowest_weights,
    swish,
    max_pool,
    doubled,
    transposed_one_dimension,
)

DEPTHWISE: tuple[Layer, ...] = (
    depthwise,
    depthwise_strided,
    depthwise_residual,
    depthwise_wider_than_image,
    depthwise_dilated,
    depthwise_unsigned,
    depthwise_wide_weights,
    depthwise_lowest_weights,
    depthwise_one_dimension,
)

FEW: tuple[Layer, ...] = (
    odd_channels,
    uneven_pads,
    grouped,
    pointwise_residual,
    photograph,
    unsigned,
    depthwise_residual,
    depthwise_wider_than_image,
)
"""Those that differ most from each other."""
