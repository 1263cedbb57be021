"""A network of operators on bytes, as ONNX Runtime's quantiser wrote them before it wrote QuantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx

from tests.networks.net import Net


def qlinear(channels: int = 8, size: int = 8, seed: int = 0) -> onnx.ModelProto:
    """A convolution and a dense layer."""
    net = Net("qlinear", seed)
    image = (net.const(0.03), net.const(120, np.uint8))
    inner, last = (net.const(0.05), net.const(0, np.uint8)), (net.const(0.4), net.const(128, np.uint8))
    x = net.op("QuantizeLinear", net.input("image", 1, 3, size, size), *image)
    codes = net.const(net.random.integers(-100, 100, (channels, 3, 3, 3)), np.int8)
    scales = net.const(0.01 + 0.01 * net.random.random(channels))
    weights, bias = (
        (codes, scales, net.const(np.zeros(channels), np.int8)),
        net.const(range(channels), np.int32),
    )
    x = net.op("QLinearConv", x, *image, *weights, *inner, bias, strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.op("Reshape", x, net.ints(1, -1))
    codes = net.const(net.random.integers(-100, 100, (size * size * channels // 4, 10)), np.int8)
    x = net.op("QLinearMatMul", x, *inner, codes, net.const(0.01), net.const(0, np.int8), *last)
    return net.model(net.op("DequantizeLinear", x, *last), 1, 10)
