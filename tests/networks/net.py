"""A model under construction with onnx.helper."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Collects nodes and weights; values are known by their names."""

    def __init__(self, name: str, seed: int, opset: int = 17) -> None:
        self.name = name
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.prefix = ""

    def nested(self, name: str) -> Net:
        """A graph inside this one, under construction; it may read the values of this one."""
        inner = Net(name, 0, self.opset)
        inner.random, inner.prefix = self.random, f"{self.prefix}{name}/"
        return inner

    def graph(self, *outputs: str, shape: tuple[int, ...], condition: str = "") -> onnx.GraphProto:
        """The finished nested graph: a loop's `condition` first, then floats of one shape."""
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, shape) for o in outputs]
        if condition:
            infos.insert(0, helper.make_tensor_value_info(condition, TensorProto.BOOL, ()))
        return helper.make_graph(self.nodes, self.name, self.inputs, infos, self.weights)

    def input(self, name: str, *shape: int | str, dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def op(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """A node with one output; returns the output's name."""
        return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: str, outputs: int, **attributes: object) -> tuple[str, ...]:
        name = f"{self.prefix}{op_type}_{len(self.nodes)}"
        names = tuple(f"{name}_{index}" for index in range(outputs))
        self.nodes.append(helper.make_node(op_type, inputs, names, name=name, **attributes))
        return names

    def const(self, data: object, dtype: type = np.float32) -> str:
        array = np.asarray(data, dtype)
        name = f"{self.prefix}const_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *data: int) -> str:
        return self.const(data, np.int64)

    def weight(self, *shape: int) -> str:
        """Normal numbers whose sums over all but the first axis have a variance of one."""
        fan_in = max(int(np.prod(shape[1:])), 1)
        return self.const(self.random.normal(size=shape) / np.sqrt(fan_in))

    def matrix(self, rows: int, columns: int) -> str:
        """A weight that multiplies from the right."""
        return self.const(self.random.normal(size=(rows, columns)) / np.sqrt(rows))

    def vector(self, size: int, around: float = 0.0) -> str:
        return self.const(around + 0.2 * self.random.normal(size=size))

    # --- layers ---

    def conv(
        self, x: str, channels: int, out: int, kernel: int = 1, *, bias: bool = False, **attributes: object
    ) -> str:
        groups = int(attributes.get("group", 1))  # type: ignore[call-overload]
        operands = [x, self.weight(out, channels // groups, kernel, kernel)] + (
            [self.vector(out)] if bias else []
        )
        attributes.setdefault("pads", [kernel // 2] * 4)
        return self.op("Conv", *operands, kernel_shape=[kernel, kernel], **attributes)

    def conv_1d(self, x: str, channels: int, out: int) -> str:
        """A window of three steps over (1, channels, steps)."""
        return self.op("Conv", x, self.weight(out, channels, 3), self.vector(out), pads=[1, 1])

    def batchnorm(self, x: str, channels: int) -> str:
        statistics = [self.vector(channels, 1), self.vector(channels), self.vector(channels)]
        variance = self.const(0.5 + self.random.random(channels))
        return self.op("BatchNormalization", x, *statistics, variance, epsilon=1e-3)

    def dense(self, x: str, rows: int, columns: int) -> str:
        """MatMul and Add, as exporters write a linear layer on three axes."""
        return self.op("Add", self.op("MatMul", x, self.matrix(rows, columns)), self.vector(columns))

    def model(self, output: str, *shape: int | str) -> onnx.ModelProto:
        """The finished model; its output is of floats."""
        infos = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, infos, self.weights)
        imports = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8, producer_name="graphopt tests")
        onnx.checker.check_model(model, full_check=True)
        return model
