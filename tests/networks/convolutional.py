"""Convolutional networks as torchvision and its relatives export them."""

from __future__ import annotations

import numpy as np
import onnx

from tests.networks.net import Net


def _hard_swish(net: Net, x: str, spelling: str) -> str:
    """x * ReLU6(x + 3) / 6 in the spellings of several exporters."""
    if spelling == "operator":
        return net.op("HardSwish", x)
    if spelling == "gate":
        return net.op("Mul", x, net.op("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    bounded = net.op("Clip", net.op("Add", x, net.const(3)), net.const(0), net.const(6))
    if spelling == "quotient":
        return net.op("Div", net.op("Mul", x, bounded), net.const(6))
    if spelling == "product":
        return net.op("Mul", net.op("Mul", x, bounded), net.const(1 / 6))
    return net.op("Mul", x, net.op("Mul", bounded, net.const(1 / 6)))


def _hard_sigmoid(net: Net, x: str, spelling: str) -> str:
    if spelling == "quotient":
        bounded = net.op("Clip", net.op("Add", x, net.const(3)), net.const(0), net.const(6))
        return net.op("Div", bounded, net.const(6))
    line = net.op("Add", net.op("Mul", x, net.const(0.2)), net.const(0.5))
    return net.op("Clip", line, net.const(0), net.const(1))


def _squeeze_excite(net: Net, x: str, channels: int, gate: str) -> str:
    """Channel gates: Hu et al., "Squeeze-and-excitation networks", 2018."""
    pooled = net.op("GlobalAveragePool", x)
    small = max(channels // 4, 2)
    hidden = net.op("Relu", net.conv(pooled, channels, small, bias=True))
    scores = net.conv(hidden, small, channels, bias=True)
    gates = net.op("Sigmoid", scores) if gate == "sigmoid" else _hard_sigmoid(net, scores, gate)
    return net.op("Mul", x, gates)


def _classifier(net: Net, x: str, channels: int, classes: int) -> str:
    pooled = net.op("Flatten", net.op("GlobalAveragePool", x))
    pooled = net.op("Dropout", pooled)
    weights = net.weight(classes, channels)
    return net.op("Gemm", pooled, weights, net.vector(classes), transB=1)


def mobilenet_v3(channels: int = 8, size: int = 16, seed: int = 0) -> onnx.ModelProto:
    """Inverted residuals with gates. Howard et al., "Searching for MobileNetV3", 2019."""
    net = Net("mobilenet_v3", seed)
    x = net.input("image", 1, 3, size, size)
    x = net.op(
        "Div",
        net.op("Sub", x, net.const([[[0.5]], [[0.4]], [[0.45]]])),
        net.const([[[0.2]], [[0.25]], [[0.3]]]),
    )
    x = net.conv(x, 3, channels, 3, strides=[2, 2], pads=[0, 0, 0, 0])
    x = _hard_swish(net, net.batchnorm(x, channels), "quotient")
    for spelling, gate in (
        ("quotient", "quotient"),
        ("product", "line"),
        ("inner", "line"),
        ("gate", "line"),
    ):
        y = _hard_swish(net, net.batchnorm(net.conv(x, channels, 2 * channels), 2 * channels), spelling)
        y = net.batchnorm(net.conv(y, 2 * channels, 2 * channels, 3, group=2 * channels), 2 * channels)
        y = _squeeze_excite(net, _hard_swish(net, y, spelling), 2 * channels, gate)
        x = net.op("Add", net.batchnorm(net.conv(y, 2 * channels, channels), channels), x)
    return net.model(_classifier(net, x, channels, 10), 1, 10)


def efficientnet(channels: int = 8, size: int = 16, seed: int = 0) -> onnx.ModelProto:
    """MBConv blocks with SiLU. Tan and Le, "EfficientNet", 2019."""
    net = Net("efficientnet", seed)
    x = net.conv(net.input("image", 1, 3, size, size), 3, channels, 3, auto_pad="SAME_UPPER", pads=None)
    x = _silu(net, net.batchnorm(x, channels), "sigmoid")
    for spelling in ("sigmoid", "quotient", "exp", "reciprocal"):
        wide = 3 * channels
        y = _silu(net, net.batchnorm(net.conv(x, channels, wide), wide), spelling)
        y = _silu(net, net.batchnorm(net.conv(y, wide, wide, 5, group=wide), wide), spelling)
        y = _squeeze_excite(net, y, wide, "sigmoid")
        x = net.op("Add", x, net.batchnorm(net.conv(y, wide, channels), channels))
    return net.model(_classifier(net, x, channels, 10), 1, 10)


def _silu(net: Net, x: str, spelling: str) -> str:
    """x * sigmoid(x)."""
    if spelling == "sigmoid":
        return net.op("Mul", x, net.op("Sigmoid", x))
    one_plus = net.op("Add", net.op("Exp", net.op("Neg", x)), net.const(1))
    if spelling == "quotient":
        return net.op("Div", x, one_plus)
    if spelling == "exp":
        return net.op("Mul", x, net.op("Div", net.const(1), one_plus))
    return net.op("Mul", x, net.op("Reciprocal", one_plus))


def shufflenet(channels: int = 8, size: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Split, transform, concatenate and shuffle. Ma et al., "ShuffleNet V2", 2018."""
    net = Net("shufflenet", seed)
    x = net.input("image", 1, channels, size, size)
    half = channels // 2
    for _ in range(2):
        left, right = net.ops("Split", x, net.ints(half, half), outputs=2, axis=1)
        right = net.op("Relu", net.batchnorm(net.conv(right, half, half), half))
        right = net.batchnorm(net.conv(right, half, half, 3, group=half), half)
        right = net.op("Relu", net.batchnorm(net.conv(right, half, half), half))
        x = _channel_shuffle(net, net.op("Concat", left, right, axis=1))
    return net.model(_classifier(net, x, channels, 10), 1, 10)


def _channel_shuffle(net: Net, x: str) -> str:
    """Groups and members of a group change places; the shapes are computed as PyTorch writes them."""
    shape = net.op("Shape", x)
    batch, channels, height, width = (
        net.op("Gather", shape, net.const(i, np.int64), axis=0) for i in range(4)
    )
    members = net.op("Div", channels, net.const(2, np.int64))
    dims = [net.op("Unsqueeze", d, net.ints(0)) for d in (batch, members, height, width)]
    grouped = net.op("Reshape", x, net.op("Concat", dims[0], net.ints(2), *dims[1:], axis=0))
    turned = net.op("Transpose", grouped, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", turned, net.op("Concat", dims[0], net.ints(-1), *dims[2:], axis=0))


def densenet(growth: int = 4, size: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Normalisation before every convolution. Huang et al., "Densely connected networks", 2017."""
    net = Net("densenet", seed)
    features, channels = [net.input("image", 1, 6, size, size)], 6
    for _ in range(3):
        x = net.op("Concat", *features, axis=1)  # the first of a single tensor, as torchvision exports it
        y = net.op("Relu", net.batchnorm(x, channels))
        y = net.op("Relu", net.batchnorm(net.conv(y, channels, 2 * growth), 2 * growth))
        features.append(net.conv(y, 2 * growth, growth, 3))
        channels += growth
    x = net.batchnorm(net.op("Concat", *features, axis=1), channels)
    x = net.conv(x, channels, channels // 2)  # the transition, without an activation
    x = net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.op("Relu", net.op("Relu", net.batchnorm(x, channels // 2)))
    return net.model(net.op("LogSoftmax", _classifier(net, x, channels // 2, 10), axis=1), 1, 10)


def inception(channels: int = 8, size: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Parallel 1x1 convolutions. Szegedy et al., "Going deeper with convolutions", 2015."""
    net = Net("inception", seed)
    x = net.input("image", 1, channels, size, size)
    wide = net.op("Relu", net.batchnorm(net.conv(x, channels, channels), channels))
    middle = net.op("Relu", net.batchnorm(net.conv(x, channels, 4), 4))
    narrow = net.op("Relu", net.batchnorm(net.conv(x, channels, 4), 4))
    middle = net.op("Relu", net.conv(middle, 4, channels, 3, bias=True))
    narrow = net.op("Relu", net.conv(narrow, 4, channels, 5, bias=True))
    pooled = net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    pooled = net.op("Relu", net.conv(pooled, channels, channels, bias=True))
    x = net.op("Sum", wide, middle, narrow, pooled)
    auxiliary = net.op("Relu", net.conv(x, channels, 4))  # a head that training alone reads
    net.op("GlobalAveragePool", auxiliary)
    return net.model(_classifier(net, x, channels, 10), 1, 10)


def unet(channels: int = 4, size: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Down, up by transposed convolutions, and a probability per pixel. Ronneberger et al., "U-Net", 2015."""
    net = Net("unet", seed)
    x = net.input("image", 1, 3, size, size)
    skip = _leaky(net, net.batchnorm(net.conv(x, 3, channels, 3), channels), "max")
    x = net.op("MaxPool", skip, kernel_shape=[2, 2], strides=[2, 2])
    x = _leaky(net, net.batchnorm(net.conv(x, channels, 2 * channels, 3), 2 * channels), "prelu")
    x = net.op("ConvTranspose", x, net.weight(2 * channels, channels, 2, 2), strides=[2, 2])
    x = net.op("Relu", net.batchnorm(x, channels))
    x = net.conv(net.op("Concat", x, skip, axis=1), 2 * channels, 3, bias=True)
    odds = net.op("Exp", x)
    odds = net.op("Div", odds, net.op("ReduceSum", odds, net.ints(1)))
    return net.model(net.op("Log", odds), 1, 3, size, size)


def _leaky(net: Net, x: str, spelling: str) -> str:
    if spelling == "max":
        return net.op("Max", x, net.op("Mul", x, net.const(0.1)))
    return net.op("PRelu", x, net.const([[[0.25]]]))


def yolo(channels: int = 8, size: int = 16, seed: int = 0) -> onnx.ModelProto:
    """Mish, spatial pyramid pooling, an upsampled path. Bochkovskiy et al., "YOLOv4", 2020."""
    net = Net("yolo", seed)
    x = net.op("Div", net.input("image", 1, 3, size, size), net.const(255))
    x = net.op("Sub", net.op("Mul", x, net.const(2)), net.const(1))  # to [-1, 1]
    x = net.conv(x, 3, channels, 3, strides=[2, 2])
    x = _mish(net, net.batchnorm(x, channels))
    pools = [x]
    for window in (5, 9):
        pools.append(net.op("MaxPool", x, kernel_shape=[window] * 2, pads=[window // 2] * 4))
    x = net.conv(net.op("Concat", *pools, axis=1), 3 * channels, channels, bias=True)
    up = net.op("Resize", x, "", net.const([1, 1, 2, 2]), mode="nearest", nearest_mode="floor")
    same = net.op("Resize", up, "", "", net.ints(1, channels, size, size), mode="nearest")
    low = net.op("Clip", net.op("Relu", net.conv(same, channels, 6)), net.const(0), net.const(6))
    return net.model(net.op("Transpose", low, perm=[0, 2, 3, 1]), 1, size, size, 6)


def _mish(net: Net, x: str) -> str:
    softplus = net.op("Log", net.op("Add", net.op("Exp", x), net.const(1)))
    return net.op("Mul", x, net.op("Tanh", softplus))
