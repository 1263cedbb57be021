"""Channels-last networks as tf2onnx exports them: transposes around every convolution, pads and bounds apart."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from tests.networks.net import Net

FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def _conv(net: Net, x: str, channels: int, out: int, kernel: int = 1, **attributes: object) -> str:
    """A convolution on a channels-last tensor."""
    y = net.conv(net.op("Transpose", x, perm=FIRST), channels, out, kernel, **attributes)
    return net.op("Transpose", y, perm=LAST)


def _batchnorm(net: Net, x: str, channels: int) -> str:
    return net.op("Transpose", net.batchnorm(net.op("Transpose", x, perm=FIRST), channels), perm=LAST)


def _relu6(net: Net, x: str) -> str:
    return net.op("Min", net.op("Max", x, net.const(0)), net.const(6))


def mobilenet(channels: int = 8, size: int = 16, seed: int = 0) -> onnx.ModelProto:
    """Inverted residuals, channels last. Sandler et al., "MobileNetV2", 2018."""
    net = Net("keras_mobilenet", seed)
    x = net.input("image", 1, size, size, 3)
    x = net.op("Pad", x, net.ints(0, 0, 0, 0, 0, 1, 1, 0))
    x = _conv(net, x, 3, channels, 3, strides=[2, 2], pads=[0, 0, 0, 0])
    x = _relu6(net, _batchnorm(net, x, channels))
    for _ in range(2):
        y = _relu6(net, _batchnorm(net, _conv(net, x, channels, 2 * channels), 2 * channels))
        y = net.op("Pad", y, net.ints(0, 1, 1, 0, 0, 1, 1, 0))
        y = _conv(net, y, 2 * channels, 2 * channels, 3, group=2 * channels, pads=[0, 0, 0, 0])
        y = net.op("Mul", _batchnorm(net, y, 2 * channels), net.vector(2 * channels, 1))
        y = _batchnorm(net, _conv(net, y, 2 * channels, channels), channels)
        x = net.op("Add", y, x)
    x = net.op("Slice", x, net.ints(1, 1), net.ints(-1, -1), net.ints(1, 2))
    left, right = _conv(net, x, channels, 4), _conv(net, x, channels, 4, 3)
    x = net.op("Concat", net.op("Relu", left), right, axis=3)
    x = net.op("Softmax", net.op("Squeeze", _pooled(net, x), net.ints(1, 2)), axis=-1)
    return net.model(x, 1, 8)


def _pooled(net: Net, x: str) -> str:
    """The mean over height and width. tf2onnx writes it as a ReduceMean of opset 13."""
    return net.op("ReduceMean", x, axes=[1, 2], keepdims=1)


def quantised(channels: int = 4, size: int = 8, seed: int = 0) -> onnx.ModelProto:
    """A quantised convolution and dense layer: the weights, kept as int8, are turned after dequantisation."""
    net = Net("keras_quantised", seed)
    x = _quantised(net, net.input("image", 1, size, size, 3), 0.05)
    codes = net.random.integers(-100, 100, (3, 3, 3, channels))
    scales = net.const(0.01 + 0.01 * net.random.random(channels))
    zeros = net.const(np.zeros(channels), np.int8)
    weights = net.op("DequantizeLinear", net.const(codes, np.int8), scales, zeros, axis=3)
    weights = net.op("Transpose", weights, perm=[3, 2, 0, 1])
    y = net.op("Conv", net.op("Transpose", x, perm=FIRST), weights, pads=[1, 1, 1, 1])
    y = _quantised(net, net.op("Transpose", y, perm=LAST), 0.1)
    y = net.op("Reshape", y, net.ints(1, -1))
    codes = net.random.integers(-100, 100, (10, size * size * channels))
    weights = net.op("DequantizeLinear", net.const(codes, np.int8), net.const(0.01), net.const(0, np.int8))
    y = net.op("MatMul", y, net.op("Transpose", weights, perm=[1, 0]))
    return net.model(_quantised(net, y, 0.5), 1, 10)


def _quantised(net: Net, x: str, scale: float) -> str:
    """Through int8 and back."""
    operands = [net.const(scale), net.const(3, np.int8)]
    return net.op("DequantizeLinear", net.op("QuantizeLinear", x, *operands), *operands)


def dense(width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Feature columns, standardised and flattened from channels last; a layer of turned features."""
    net = Net("keras_dense", seed)
    signal = net.input("signal", 1, 12, 6)
    x = net.conv_1d(net.op("Transpose", signal, perm=[0, 2, 1]), 6, width)
    x = net.op("Transpose", net.op("Relu", x), perm=[0, 2, 1])
    x = net.op("Reshape", x, net.ints(1, -1))
    x = net.op("Relu", net.op("Add", net.op("MatMul", x, net.matrix(12 * width, width)), net.vector(width)))
    features = net.input("features", width, 4)
    table = net.op("Gather", net.matrix(20, width), net.input("rows", 4, dtype=TensorProto.INT64), axis=0)
    related = net.op("MatMul", table, net.op("Transpose", table, perm=[1, 0]))
    turned = net.op("MatMul", net.op("Transpose", features, perm=[1, 0]), net.matrix(width, width))
    return net.model(net.op("Add", net.op("MatMul", related, turned), x), 4, width)


def flax(width: int = 8, size: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Patches, mixed channels and probabilities as jax2tf writes them."""
    net = Net("flax", seed)
    x = net.input("image", 1, 3, size, size)
    x = net.op("Conv", x, net.weight(width, 3, 4, 4), strides=[4, 4])
    x = net.op("Add", x, net.const(0.1 * net.random.normal(size=(1, width, 1, 1))))
    x = net.op("Reshape", net.op("Transpose", x, perm=LAST), net.ints(1, -1, width))
    x = _layer_norm(net, x, width, "flax")
    x = _layer_norm(net, _gelu(net, net.dense(x, width, 2 * width)), 2 * width, "keras")
    scores = net.dense(net.op("ReduceMean", x, axes=[1], keepdims=0), 2 * width, 10)
    largest = net.op("Max", net.const(-np.inf), net.op("ReduceMax", scores, axes=[1], keepdims=0))
    odds = net.op("Exp", net.op("Sub", scores, net.op("Reshape", largest, net.ints(1, 1))))
    total = net.op("Reshape", net.op("ReduceSum", odds, net.ints(1), keepdims=0), net.ints(1, 1))
    return net.model(net.op("Div", odds, total), 1, 10)


def magika(steps: int = 12, width: int = 4, classes: int = 7, seed: int = 0) -> onnx.ModelProto:
    """Symbols embedded by a product with one-hot rows, and a convolution along them that says it has two axes.

    Fratantonio et al., "Magika: AI-powered content-type detection", 2024.
    """
    net = Net("flax_magika", seed)
    symbols = net.op("Reshape", net.input("symbols", 1, steps, dtype=TensorProto.INT32), net.ints(1, -1, 1))
    is_class = net.op("Equal", symbols, net.const(np.arange(classes).reshape(1, 1, -1), np.int32))
    x = _gelu(net, net.dense(net.op("Cast", is_class, to=TensorProto.FLOAT), classes, width))
    x = net.op("Mul", x, net.input("gate", 1, steps, width))
    x = net.op("Transpose", net.op("Unsqueeze", x, net.ints(3)), perm=[0, 2, 1, 3])
    y = net.op("Conv", x, net.weight(2 * width, width, 5, 1), strides=[1, 1])
    y = _gelu(net, net.op("Add", net.op("Squeeze", y, net.ints(3)), net.const(np.ones((2 * width, 1)))))
    y = net.op("Squeeze", net.op("GlobalMaxPool", y), net.ints(2))
    return net.model(net.op("Softmax", net.dense(y, 2 * width, 3)), 1, 3)


def _gelu(net: Net, x: str) -> str:
    """The tanh form, its cube from the coefficient outwards, its half on the bracket."""
    cubic = net.op("Mul", x, net.op("Mul", x, net.op("Mul", net.const(0.044715), x)))
    tanh = net.op("Tanh", net.op("Mul", net.const(np.sqrt(2 / np.pi)), net.op("Add", x, cubic)))
    return net.op("Mul", x, net.op("Mul", net.const(0.5), net.op("Add", net.const(1), tanh)))


def _layer_norm(net: Net, x: str, width: int, spelling: str) -> str:
    """The reciprocal deviation takes the scale; Keras multiplies x itself and moves the mean into the shift."""
    mean = net.op("ReduceMean", x, axes=[-1])
    centred = net.op("Sub", x, mean)
    variance = net.op("ReduceMean", net.op("Mul", centred, centred), axes=[-1])
    inverse = net.op("Reciprocal", net.op("Sqrt", net.op("Add", variance, net.const(1e-3))))
    factor = net.op("Mul", inverse, net.vector(width, 1))
    if spelling == "flax":
        return net.op("Add", net.op("Mul", centred, factor), net.vector(width))
    shift = net.op("Sub", net.vector(width), net.op("Mul", mean, factor))
    return net.op("Add", net.op("Mul", x, factor), shift)
