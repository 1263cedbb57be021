"""Building ONNX networks for benchmarks: nodes in order, weights of a fixed seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


@dataclass
class Network:
    """A network under construction, images in NCHW. Weights are He-initialised."""

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def ints(self, *values: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def random_weight(self, *shape: int, fan_in: int) -> str:
        return self.weight(self.random.normal(0, np.sqrt(2 / fan_in), shape))

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """Add a node; returns the name of its first output."""
        return self.ops(op_type, *inputs, outputs=outputs, **attributes)[0]

    def ops(self, op_type: str, *inputs: str, outputs: int, **attributes: object) -> list[str]:
        name = f"{op_type.lower()}{len(self.nodes)}"
        made = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op_type, list(inputs), made, name=name, **attributes))
        return made

    def batchnorm(self, x: str, channels: int) -> str:
        scale, variance = self.random.uniform(0.5, 1.5, (2, channels))
        shift, mean = self.random.normal(0, 0.1, (2, channels))
        return self.op("BatchNormalization", x, *map(self.weight, (scale, shift, mean, variance)))

    def conv(
        self,
        x: str,
        cin: int,
        cout: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        bias: bool = False,
    ) -> str:
        """A convolution that keeps the size of the image, over the stride."""
        operands = [self.random_weight(cout, cin // groups, kernel, kernel, fan_in=cin // groups * kernel**2)]
        if bias:
            operands.append(self.weight(self.random.normal(0, 0.1, cout)))
        shape = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self.op("Conv", x, *operands, group=groups, **shape)

    def conv_bn(
        self, x: str, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "Relu"
    ) -> str:
        return self.activation(self.batchnorm(self.conv(x, cin, cout, kernel, stride, groups), cout), act)

    def activation(self, x: str, name: str) -> str:
        """`Relu6` and `Silu` as frameworks export them; "" is none; any other name is an operator."""
        if name == "Relu6":
            return self.op("Clip", x, self.weight(np.array(0.0)), self.weight(np.array(6.0)))
        if name == "Silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        return self.op(name, x) if name else x

    def dense(self, x: str, cin: int, cout: int) -> str:
        """x W^T + b."""
        return self.op(
            "Gemm", x, self.random_weight(cout, cin, fan_in=cin), self.weight(np.zeros(cout)), transB=1
        )

    def classifier(self, x: str, channels: int, classes: int = 1000) -> str:
        return self.dense(self.op("Flatten", self.op("GlobalAveragePool", x)), channels, classes)

    def image_model(self, output: str, name: str, size: int, classes: int = 1000) -> onnx.ModelProto:
        return self.model({"input": [1, 3, size, size]}, {output: [1, classes]}, name)

    def model(
        self, inputs: dict[str, Sequence[int]], outputs: dict[str, Sequence[int]], name: str
    ) -> onnx.ModelProto:
        given, made = (
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in side.items()]
            for side in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, name, given, made, self.weights)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model)
        return model
