"""A small quantised network whose memory is worth sharing: a residual, a depthwise convolution, wide images first."""

from __future__ import annotations

import numpy as np

from graphopt.ir import DType, Graph
from tests.passes.helpers import Draft
from tests.targets.lower.test_quant import convolved, dequantized, quantized


def residual() -> Graph:
    """An image of 3 x 11 x 9 bytes to ten scores."""
    g = Draft()
    around = (1, 1, 1, 1)
    image = g.input(1, 3, 11, 9, dtype=DType.int8)
    x = quantized(g, g.op("Relu", convolved(g, image, 12, 3, pads=around)), -20, np.int8)
    y = quantized(g, g.op("Relu", convolved(g, x, 12, 3, pads=around)), -20, np.int8)
    total = g.op("Add", convolved(g, y, 12, 3, pads=around), dequantized(g, x, -20))
    z = quantized(g, g.op("Relu", total), -10, np.int8)
    z = quantized(g, convolved(g, z, 12, 3, group=12, strides=(2, 2), pads=around), 0, np.int8)
    z = quantized(g, convolved(g, z, 24, 1), 0, np.int8)
    mean = quantized(g, g.op("GlobalAveragePool", dequantized(g, z, 0)), 2, np.int8)
    rows = g.op("Reshape", dequantized(g, mean, 2), g.ints(1, 24))
    w = g.op("DequantizeLinear", g.const(g.random.integers(-127, 128, (24, 10)), np.int8), g.const(0.002))
    g.output(quantized(g, g.op("MatMul", rows, w), 0, np.int8))
    return g.graph
