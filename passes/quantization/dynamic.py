"""Products whose activations are quantised by the range they have in each run.

    Conv(x, W, b)    -->  Add(Mul(Cast(ConvInteger(q, W', z)), s r), b)     q, s, z = DynamicQuantizeLinear(x)
    MatMul(a, B)     -->  Mul(Cast(MatMulInteger(q, B', z)), s r)           Gemm alike; both operands where both vary

No samples are needed, and no range is ever too small; finding the range costs a pass over each activation.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import DType, Node, Value
from graphopt.passes.quantization.insert import after, before
from graphopt.passes.quantization.operators import PRODUCTS
from graphopt.passes.quantization.scheme import Scheme
from graphopt.passes.quantization.weights import weight_parameters
from graphopt.rewrite import Builder

Quantised = tuple[Value, Value, Value | None]
"""Integers, their scale and their zero point, if there is one."""


def why_not_dynamic(node: Node) -> str:
    """Why a product cannot be quantised as the model runs; empty when it can."""
    if not node.is_op(*PRODUCTS) or node.op_type == "ConvTranspose":
        return "ONNX has no such product of integers"
    if node.op_type == "Gemm" and (node.float("alpha", 1.0) != 1 or node.float("beta", 1.0) != 1):
        return "alpha or beta is not one"
    return ""


class DynamicProducts:
    """Rewrites products of one graph; an activation that several read is quantised once."""

    def __init__(self) -> None:
        self._made: dict[Value, Quantised] = {}

    def quantise(self, node: Node, scheme: Scheme) -> Value:
        """What takes the place of the output of `node`. Raises UsageError."""
        build = before(node)
        x, weights = node.inputs[0], node.inputs[1]
        assert x is not None and weights is not None
        a = self._activation(x)
        b = self._activation(weights) if weights.constant is None else _weights(build, node, weights, scheme)
        if node.op_type == "Gemm" and node.int("transA"):
            a = _turned(build, a)
        if node.op_type == "Gemm" and node.int("transB"):
            b = _turned(build, b)
        operands = (a[0], b[0], a[2], b[2]) if b[2] is not None else (a[0], b[0], a[2])
        if node.op_type == "Conv":
            sums = build.op("ConvInteger", *operands, name=node.name, **node.attributes)
        else:
            sums = build.op("MatMulInteger", *operands, name=node.name)
        scale = build.op("Mul", a[1], b[1])
        result = build.op("Mul", build.op("Cast", sums, to=DType.float32.onnx_code), scale)
        bias = node.input(2)
        if bias is None:
            return result
        return build.op(
            "Add", result, _by_channel(build, bias, sums.rank or 0) if node.op_type == "Conv" else bias
        )

    def _activation(self, value: Value) -> Quantised:
        if value not in self._made:
            made = after(value).ops("DynamicQuantizeLinear", value, outputs=3, name=f"{value.name}.quantize")
            self._made[value] = (made[0], made[1], made[2])
        return self._made[value]


def _weights(build: Builder, node: Node, weights: Value, scheme: Scheme) -> Quantised:
    """With their scale as it broadcasts against the sums, and no zero point."""
    assert weights.constant is not None
    parameters = weight_parameters(node, weights, scheme)
    integers, scale = parameters.quantised(weights.constant), parameters.scale
    if node.op_type == "Conv" and scale.size > 1:
        scale = scale.reshape(-1, *(1,) * (integers.ndim - 2))
    kept = build.const(integers, name=f"{weights.name}.integers")
    return kept, build.const(scale, name=f"{weights.name}.scale"), None


def _turned(build: Builder, matrix: Quantised) -> Quantised:
    integers, scale, zero = matrix
    if integers.constant is not None:
        turned = build.const(np.ascontiguousarray(integers.constant.T), name=integers.name)
    else:
        turned = build.op("Transpose", integers, perm=(1, 0))
    return turned, scale, zero


def _by_channel(build: Builder, bias: Value, rank: int) -> Value:
    """The bias of a convolution as it broadcasts against the image."""
    shape = (-1, *(1,) * (rank - 2))
    if bias.constant is None:
        return build.op("Reshape", bias, build.shape(shape))
    return build.const(bias.constant.reshape(shape), name=bias.name)
