"""Operators on quantised tensors, spelt with DequantizeLinear and QuantizeLinear around ONNX's own operators.

    QLinearConv(x, s, z, w, r, y, t, u, b)   -->  Q(Conv(DQ(x, s, z), DQ(w, r, y), DQ(b, s r)), t, u)
    QLinearMatMul(a, s, z, b, r, y, t, u)    -->  Q(MatMul(DQ(a, s, z), DQ(b, r, y)), t, u)

and those that ONNX Runtime's quantiser writes, of the domain `com.microsoft`: QLinearAdd, QLinearMul, QLinearConcat,
QLinearWhere, QLinearReduceMean, the pools and activations of that kind, QGemm, MatMulIntegerToFloat,
DynamicQuantizeMatMul, and QuantizeLinear and DequantizeLinear as they were for 16 bits before opset 21. ONNX Runtime
knows them only by name, so that types of what follows are inferred here again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphopt.errors import IRError
from graphopt.ir import Graph, Node, Value
from graphopt.ir.elements import Elements
from graphopt.onnx_io.infer import infer_node
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Builder, Statistics

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Spelling:
    """One node being spelt out. Scales and zero points are operands, by number; a zero point may be left out."""

    node: Node
    build: Builder

    def operand(self, index: int) -> Value:
        value = self.node.input(index)
        if value is None:
            raise IRError(f"its operand {index} is left out")
        return value

    def number(self, index: int) -> Value | None:
        """A scale or a zero point; a list of one number as that number."""
        value = self.node.input(index)
        if value is None or value.constant is None or value.constant.shape != (1,):
            return value
        return self.build.const(value.constant.reshape(()), name=value.name)

    def dequantized(self, x: int, scale: int, zero: int, *, axis: int | None = None) -> Value:
        """Operand `x` as floats."""
        origin, factor = self.number(zero), self.number(scale)
        if origin is not None and origin.constant is not None and factor is not None:
            shape = factor.static_shape
            if origin.static_shape != shape:
                numbers = np.broadcast_to(origin.constant, shape)
                origin = self.build.const(np.ascontiguousarray(numbers), name=origin.name)
        attributes: dict[str, Any] = (
            {} if axis is None or factor is None or not factor.static_shape else {"axis": axis}
        )
        return self.build.op("DequantizeLinear", self.operand(x), factor, origin, **attributes)

    def quantized(self, x: Value, scale: int, zero: int, like: int) -> Value:
        """`x` as numbers of the zero point's type, or of operand `like`'s."""
        origin = self.number(zero)
        kind: dict[str, Any] = (
            {} if origin is not None else {"output_dtype": self.operand(like).dtype.onnx_code}
        )
        return self.build.op("QuantizeLinear", x, self.number(scale), origin, **kind)

    def attributes(self, *without: str) -> dict[str, Any]:
        return {k: v for k, v in self.node.attributes.items() if k not in without}

    def product_of_scales(self, first: int, second: int) -> Value:
        a, b = self.number(first), self.number(second)
        assert a is not None and b is not None
        if a.constant is not None and b.constant is not None:
            return self.build.const(a.constant * b.constant, name="scale")
        return self.build.op("Mul", a, b)


Spell = Callable[[Spelling], Value]


def _conv(s: Spelling) -> Value:
    operands = [s.dequantized(0, 1, 2), s.dequantized(3, 4, 5, axis=0)]
    if s.node.input(8) is not None:
        operands.append(s.build.op("DequantizeLinear", s.operand(8), s.product_of_scales(1, 4), axis=0))
    return s.quantized(s.build.op("Conv", *operands, **s.attributes()), 6, 7, 0)


def _matmul(s: Spelling) -> Value:
    if any((s.operand(index).rank or 0) > 1 for index in (1, 4)):
        raise IRError("it has scales along several axes")
    product = s.build.op("MatMul", s.dequantized(0, 1, 2, axis=-2), s.dequantized(3, 4, 5, axis=-1))
    return s.quantized(product, 6, 7, 0)


def _gemm(s: Spelling) -> Value:
    alpha, columns = s.node.float("alpha", 1.0), 0 if s.node.int("transB") else 1
    if alpha != 1.0:
        raise IRError("alpha is not one")
    operands = [s.dequantized(0, 1, 2), s.dequantized(3, 4, 5, axis=columns)]
    if s.node.input(6) is not None:
        operands.append(s.build.op("DequantizeLinear", s.operand(6), s.product_of_scales(1, 4), axis=-1))
    product = s.build.op("Gemm", *operands, **s.attributes("alpha"))
    return product if s.node.input(7) is None else s.quantized(product, 7, 8, 0)


def _matmul_to_float(s: Spelling) -> Value:
    product = s.build.op("MatMul", s.dequantized(0, 2, 4), s.dequantized(1, 3, 5, axis=-1))
    return _plus_bias(s, product, 6)


def _dynamic_matmul(s: Spelling) -> Value:
    x = s.build.ops("DynamicQuantizeLinear", s.operand(0), outputs=3)
    product = s.build.op("MatMul", s.build.op("DequantizeLinear", *x), s.dequantized(1, 2, 3, axis=-1))
    return _plus_bias(s, product, 4)


def _plus_bias(s: Spelling, product: Value, index: int) -> Value:
    bias = s.node.input(index)
    return product if bias is None else s.build.op("Add", product, bias)


def _binary(op_type: str) -> Spell:
    def spell(s: Spelling) -> Value:
        return s.quantized(s.build.op(op_type, s.dequantized(0, 1, 2), s.dequantized(3, 4, 5)), 6, 7, 0)

    return spell


def _unary(op_type: str) -> Spell:
    def spell(s: Spelling) -> Value:
        made = s.build.op(op_type, s.dequantized(0, 1, 2), **s.attributes())
        return s.quantized(made, 3, 4, 0)

    return spell


def _pool(op_type: str) -> Spell:
    def spell(s: Spelling) -> Value:
        x, last = s.dequantized(0, 1, 2), bool(s.node.int("channels_last"))
        rank = x.rank or 0
        if last:
            x = s.build.op("Transpose", x, perm=(0, rank - 1, *range(1, rank - 1)))
        made = s.build.op(op_type, x, **s.attributes("channels_last"))
        if last:
            made = s.build.op("Transpose", made, perm=(0, *range(2, rank), 1))
        return s.quantized(made, 3, 4, 0)

    return spell


def _softmax(s: Spelling) -> Value:
    """Before opset 13 it runs over all axes from `axis` on."""
    x, axis = s.dequantized(0, 1, 2), s.node.int("axis", -1)
    if s.node.int("opset", 13) >= 13 or axis % (x.rank or 1) == (x.rank or 1) - 1:
        made = s.build.op("Softmax", x, axis=axis)
    else:
        made = s.build.op("Softmax", s.build.op("Flatten", x, axis=axis), axis=-1)
        made = s.build.op("Reshape", made, s.build.shape(x.static_shape))
    return s.quantized(made, 3, 4, 0)


def _concat(s: Spelling) -> Value:
    parts = [s.dequantized(k, k + 1, k + 2) for k in range(2, len(s.node.inputs), 3)]
    return s.quantized(s.build.op("Concat", *parts, **s.attributes()), 0, 1, 2)


def _reduce_mean(s: Spelling) -> Value:
    axes = s.node.attributes.get("axes")
    operands = [s.dequantized(0, 1, 2)]
    if axes is not None:
        operands.append(s.build.const(np.asarray(axes, np.int64), name="axes"))
    return s.quantized(s.build.op("ReduceMean", *operands, **s.attributes("axes")), 3, 4, 0)


def _where(s: Spelling) -> Value:
    chosen = s.build.op("Where", s.operand(0), s.dequantized(1, 2, 3), s.dequantized(4, 5, 6))
    return s.quantized(chosen, 7, 8, 1)


def _renamed(op_type: str) -> Spell:
    return lambda s: s.build.op(op_type, s.operand(0), s.number(1), s.number(2), **s.attributes())


SPELLINGS: Mapping[str, Spell] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    f"{MICROSOFT}::DequantizeLinear": _renamed("DequantizeLinear"),
    f"{MICROSOFT}::DynamicQuantizeMatMul": _dynamic_matmul,
    f"{MICROSOFT}::MatMulIntegerToFloat": _matmul_to_float,
    f"{MICROSOFT}::QGemm": _gemm,
    f"{MICROSOFT}::QLinearAdd": _binary("Add"),
    f"{MICROSOFT}::QLinearAveragePool": _pool("AveragePool"),
    f"{MICROSOFT}::QLinearConcat": _concat,
    f"{MICROSOFT}::QLinearGlobalAveragePool": _pool("GlobalAveragePool"),
    f"{MICROSOFT}::QLinearLeakyRelu": _unary("LeakyRelu"),
    f"{MICROSOFT}::QLinearMul": _binary("Mul"),
    f"{MICROSOFT}::QLinearReduceMean": _reduce_mean,
    f"{MICROSOFT}::QLinearSigmoid": _unary("Sigmoid"),
    f"{MICROSOFT}::QLinearSoftmax": _softmax,
    f"{MICROSOFT}::QLinearWhere": _where,
    f"{MICROSOFT}::QuantizeLinear": _renamed("QuantizeLinear"),
}
"""By `node.key`."""

QUANTISED = SPELLINGS.keys() | frozenset(
    "ConvInteger DequantizeLinear DynamicQuantizeLinear MatMulInteger QuantizeLinear".split()
)
"""Operators that tell a quantised model, by `node.key`."""


@dataclass(frozen=True)
class ExpandQuantized(Pass):
    """Spell operators on quantised tensors with QuantizeLinear and DequantizeLinear."""

    name: ClassVar[str] = "expand-quantized"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        known: dict[Value, Elements] = {}
        for node in list(graph.nodes):
            for nested in node.subgraphs:
                self.run(nested, statistics)
            reason = self._expand(node)
            statistics.tried[self.name] += 1
            statistics.fired[self.name] += not reason
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
            if reason and any(value.type is None or value.type.shape is None for value in node.outputs):
                infer_node(node, known)
        graph.remove_unused_constants()

    def _expand(self, node: Node) -> str:
        """Why it stays; empty where it was replaced."""
        spell, graph = SPELLINGS.get(node.key), node.graph
        assert graph is not None
        if spell is None:
            return "it is no operator on quantised tensors, or has no spelling"
        build = Builder(graph, node, node.origin.merged(self.name, [node]))
        try:
            made = spell(Spelling(node, build))
        except IRError as error:
            for created in reversed(build.created):
                graph.remove(created)
            return str(error)
        name, value_name = node.name, node.output.name
        node.output.replace_uses(made)
        graph.remove(node)
        assert made.producer is not None
        graph.rename_node(made.producer, name)
        graph.rename(made, value_name)
        return ""
