"""Models for the benchmarks: image networks with random weights, and how to read the zoo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.common import ZOO

ZOO_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "mlperf_kws_bn_dynbatch_op17": {"input": (1, 49, 10, 1)},
    "mlperf_resnet8_bn_dynbatch_op17": {"input": (1, 32, 32, 3)},
    "pkg_magika_v3_3": {"bytes": (1, 2048)},
    "pkg_ppocr_cls": {"x": (1, 3, 48, 192)},
    "pkg_silero_vad_16k_sequence": {"input": (4, 576)},
}
"""Input shapes of the models that leave them open."""


def zoo_models() -> list[Path]:
    """Every model of the zoo, by name. Empty when there is no zoo."""
    return sorted((ZOO / "models").glob("*.onnx"))


@dataclass
class _Network:
    """An ONNX network under construction, in NCHW, with He-initialised weights of a fixed seed."""

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def op(self, op_type: str, *inputs: str, **attributes: object) -> str:
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def conv_bn(
        self, x: str, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "Relu"
    ) -> str:
        fan_in = cin // groups * kernel * kernel
        shape = (cout, cin // groups, kernel, kernel)
        w = self.weight(self.random.normal(0, np.sqrt(2 / fan_in), shape))
        pads = [kernel // 2] * 4
        y = self.op("Conv", x, w, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups)
        scale, variance = self.random.uniform(0.5, 1.5, (2, cout))
        shift, mean = self.random.normal(0, 0.1, (2, cout))
        y = self.op("BatchNormalization", y, *map(self.weight, (scale, shift, mean, variance)))
        if act == "Relu6":
            return self.op("Clip", y, self.weight(np.array(0.0)), self.weight(np.array(6.0)))
        return self.op(act, y) if act else y

    def classifier(self, x: str, channels: int, classes: int = 1000) -> str:
        x = self.op("Flatten", self.op("GlobalAveragePool", x))
        w = self.weight(self.random.normal(0, 0.05, (classes, channels)))
        return self.op("Gemm", x, w, self.weight(np.zeros(classes)), transB=1)

    def model(self, output: str, name: str, size: int, classes: int = 1000) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size, size])
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, classes])
        graph = helper.make_graph(self.nodes, name, [x], [y], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def resnet18(size: int = 224) -> onnx.ModelProto:
    """ResNet-18 (He et al., "Deep residual learning", 2016), random weights."""
    net = _Network()
    x = net.conv_bn("input", 3, 64, 7, 2)
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        y = net.conv_bn(net.conv_bn(x, channels, width, 3, stride), width, width, 3, act="")
        if stride != 1 or channels != width:
            x = net.conv_bn(x, channels, width, 1, stride, act="")
        x, channels = net.op("Relu", net.op("Add", y, x)), width
    return net.model(net.classifier(x, channels), "resnet18", size)


def mobilenet_v2(size: int = 224) -> onnx.ModelProto:
    """MobileNetV2 (Sandler et al., "Inverted residuals and linear bottlenecks", 2018), random weights."""
    net = _Network()
    x, channels = net.conv_bn("input", 3, 32, 3, 2, act="Relu6"), 32
    settings = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2)]
    for expansion, width, repeats, first_stride in [*settings, (6, 320, 1, 1)]:
        for index in range(repeats):
            stride = first_stride if index == 0 else 1
            hidden, y = channels * expansion, x
            if expansion != 1:
                y = net.conv_bn(y, channels, hidden, 1, act="Relu6")
            y = net.conv_bn(y, hidden, hidden, 3, stride, groups=hidden, act="Relu6")
            y = net.conv_bn(y, hidden, width, 1, act="")
            x = net.op("Add", x, y) if stride == 1 and channels == width else y
            channels = width
    x = net.conv_bn(x, channels, 1280, 1, act="Relu6")
    return net.model(net.classifier(x, 1280), "mobilenet_v2", size)
