"""Image classifiers with random weights, as frameworks export them."""

from __future__ import annotations

import onnx

from bench.network import Network


def resnet18(size: int = 224) -> onnx.ModelProto:
    """He et al., "Deep residual learning for image recognition", 2016."""
    net = Network()
    x, channels = _resnet_stem(net), 64
    for width, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        y = net.conv_bn(net.conv_bn(x, channels, width, 3, stride), width, width, 3, act="")
        if stride != 1 or channels != width:
            x = net.conv_bn(x, channels, width, 1, stride, act="")
        x, channels = net.op("Relu", net.op("Add", y, x)), width
    return net.image_model(net.classifier(x, channels), "resnet18", size)


def resnet50(size: int = 224) -> onnx.ModelProto:
    """He et al., "Deep residual learning for image recognition", 2016; the stride is in the 3x3 layer."""
    net = Network()
    x, channels = _resnet_stem(net), 64
    for width, repeats, first_stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            y = net.conv_bn(x, channels, width, 1)
            y = net.conv_bn(net.conv_bn(y, width, width, 3, stride), width, 4 * width, 1, act="")
            if index == 0:
                x = net.conv_bn(x, channels, 4 * width, 1, stride, act="")
            x, channels = net.op("Relu", net.op("Add", y, x)), 4 * width
    return net.image_model(net.classifier(x, channels), "resnet50", size)


def _resnet_stem(net: Network) -> str:
    x = net.conv_bn("input", 3, 64, 7, 2)
    return net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)


def mobilenet_v2(size: int = 224) -> onnx.ModelProto:
    """Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018."""
    net = Network()
    x, channels = net.conv_bn("input", 3, 32, 3, 2, act="Relu6"), 32
    settings = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
    for expansion, width, repeats, first_stride in [*settings, (6, 320, 1, 1)]:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            x, channels = (
                _inverted_residual(net, x, channels, channels * expansion, width, 3, stride, "Relu6"),
                width,
            )
    x = net.conv_bn(x, channels, 1280, 1, act="Relu6")
    return net.image_model(net.classifier(x, 1280), "mobilenet_v2", size)


def mobilenet_v3_large(size: int = 224) -> onnx.ModelProto:
    """Howard et al., "Searching for MobileNetV3", 2019."""
    net = Network()
    x, channels = net.conv_bn("input", 3, 16, 3, 2, act="HardSwish"), 16
    blocks = [  # kernel, hidden, width, squeeze, activation, stride
        (3, 16, 16, 0, "Relu", 1), (3, 64, 24, 0, "Relu", 2), (3, 72, 24, 0, "Relu", 1),
        (5, 72, 40, 24, "Relu", 2), (5, 120, 40, 32, "Relu", 1), (5, 120, 40, 32, "Relu", 1),
        (3, 240, 80, 0, "HardSwish", 2), (3, 200, 80, 0, "HardSwish", 1), (3, 184, 80, 0, "HardSwish", 1),
        (3, 184, 80, 0, "HardSwish", 1), (3, 480, 112, 120, "HardSwish", 1), (3, 672, 112, 168, "HardSwish", 1),
        (5, 672, 160, 168, "HardSwish", 2), (5, 960, 160, 240, "HardSwish", 1), (5, 960, 160, 240, "HardSwish", 1),
    ]  # fmt: skip
    for kernel, hidden, width, squeeze, act, stride in blocks:
        x = _inverted_residual(
            net, x, channels, hidden, width, kernel, stride, act, squeeze, ("Relu", "HardSigmoid")
        )
        channels = width
    x = net.conv_bn(x, channels, 960, 1, act="HardSwish")
    x = net.op("HardSwish", net.dense(net.op("Flatten", net.op("GlobalAveragePool", x)), 960, 1280))
    return net.image_model(net.dense(x, 1280, 1000), "mobilenet_v3_large", size)


def efficientnet_b0(size: int = 224) -> onnx.ModelProto:
    """Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019."""
    net = Network()
    x, channels = net.conv_bn("input", 3, 32, 3, 2, act="Silu"), 32
    stages = [  # expansion, kernel, stride, width, repeats
        (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
    ]  # fmt: skip
    for expansion, kernel, first_stride, width, repeats in stages:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            x = _inverted_residual(
                net, x, channels, channels * expansion, width, kernel, stride, "Silu",
                max(channels // 4, 1), ("Silu", "Sigmoid"),
            )  # fmt: skip
            channels = width
    x = net.conv_bn(x, channels, 1280, 1, act="Silu")
    return net.image_model(net.classifier(x, 1280), "efficientnet_b0", size)


def _inverted_residual(
    net: Network,
    x: str,
    channels: int,
    hidden: int,
    width: int,
    kernel: int,
    stride: int,
    act: str,
    squeeze: int = 0,
    gate: tuple[str, str] = ("", ""),
) -> str:
    """Expansion, depthwise, squeeze-and-excitation where `squeeze` is given, projection, residual."""
    y = net.conv_bn(x, channels, hidden, 1, act=act) if hidden != channels else x
    y = net.conv_bn(y, hidden, hidden, kernel, stride, groups=hidden, act=act)
    if squeeze:
        inner, outer = gate
        s = net.conv(net.op("GlobalAveragePool", y), hidden, squeeze, 1, bias=True)
        s = net.conv(net.activation(s, inner), squeeze, hidden, 1, bias=True)
        y = net.op("Mul", y, net.activation(s, outer))
    y = net.conv_bn(y, hidden, width, 1, act="")
    return net.op("Add", x, y) if stride == 1 and channels == width else y


def squeezenet(size: int = 224) -> onnx.ModelProto:
    """Version 1.1. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016."""
    net = Network()

    def valid(x: str, cin: int, cout: int) -> str:
        w = net.random_weight(cout, cin, 3, 3, fan_in=9 * cin)
        bias = net.weight(net.random.normal(0, 0.1, cout))
        return net.op("Relu", net.op("Conv", x, w, bias, kernel_shape=[3, 3], strides=[2, 2]))

    def pool(x: str) -> str:
        return net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)

    x, channels = pool(valid("input", 3, 64)), 64
    for squeeze, expand, pooled in [
        (16, 64, 0), (16, 64, 1), (32, 128, 0), (32, 128, 1), (48, 192, 0), (48, 192, 0), (64, 256, 0), (64, 256, 0),
    ]:  # fmt: skip
        s = net.op("Relu", net.conv(x, channels, squeeze, 1, bias=True))
        left = net.op("Relu", net.conv(s, squeeze, expand, 1, bias=True))
        right = net.op("Relu", net.conv(s, squeeze, expand, 3, bias=True))
        x, channels = net.op("Concat", left, right, axis=1), 2 * expand
        x = pool(x) if pooled else x
    x = net.op("Relu", net.conv(x, channels, 1000, 1, bias=True))
    return net.image_model(net.op("Flatten", net.op("GlobalAveragePool", x)), "squeezenet1_1", size)


def densenet121(size: int = 224) -> onnx.ModelProto:
    """Huang et al., "Densely connected convolutional networks", 2017."""
    net = Network()

    def bn_relu_conv(x: str, cin: int, cout: int, kernel: int) -> str:
        return net.conv(net.op("Relu", net.batchnorm(x, cin)), cin, cout, kernel)

    growth = 32
    x, channels = _resnet_stem(net), 64
    for stage, layers in enumerate((6, 12, 24, 16)):
        if stage:
            x, channels = bn_relu_conv(x, channels, channels // 2, 1), channels // 2
            x = net.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        features = [x]
        for _ in range(layers):
            joined = net.op("Concat", *features, axis=1) if len(features) > 1 else features[0]
            y = bn_relu_conv(joined, channels, 4 * growth, 1)
            features.append(bn_relu_conv(y, 4 * growth, growth, 3))
            channels += growth
        x = net.op("Concat", *features, axis=1)
    x = net.op("Relu", net.batchnorm(x, channels))
    return net.image_model(net.classifier(x, channels), "densenet121", size)


def shufflenet_v2(size: int = 224) -> onnx.ModelProto:
    """Width 1.0. Ma et al., "ShuffleNet V2: practical guidelines for efficient CNN architecture design", 2018."""
    net = Network()

    def depthwise(x: str, channels: int, stride: int) -> str:
        return net.conv_bn(x, channels, channels, 3, stride, groups=channels, act="")

    def shuffled(x: str, channels: int, pixels: int) -> str:
        x = net.op("Reshape", x, net.ints(1, 2, channels // 2, pixels, pixels))
        x = net.op("Transpose", x, perm=[0, 2, 1, 3, 4])
        return net.op("Reshape", x, net.ints(1, channels, pixels, pixels))

    x = net.conv_bn("input", 3, 24, 3, 2)
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels, pixels = 24, size // 4
    for width, repeats in [(116, 4), (232, 8), (464, 4)]:
        half = width // 2
        for index in range(repeats):
            if index == 0:
                pixels //= 2
                left = net.conv_bn(depthwise(x, channels, 2), channels, half, 1)
                right, cin = x, channels
            else:
                left, right = net.ops("Split", x, outputs=2, axis=1)
                cin = half
            right = depthwise(net.conv_bn(right, cin, half, 1), half, 2 if index == 0 else 1)
            right = net.conv_bn(right, half, half, 1)
            x = shuffled(net.op("Concat", left, right, axis=1), width, pixels)
        channels = width
    x = net.conv_bn(x, channels, 1024, 1)
    return net.image_model(net.classifier(x, 1024), "shufflenet_v2", size)
