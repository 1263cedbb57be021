"""Writes QuantizeLinear and DequantizeLinear into a float graph, as a placement says.

    Conv(x, W, b)  -->  Conv(DQ(Q(x)), DQ(W'), DQ(b'))        W' int8 by output channel, b' int32 in units of s_x s_w

Each value is quantised once for all its readers. Readers that compute in floats, and outputs of the graph, read the
floats.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.analysis.ranges import LEFT_OUT_HINT
from graphopt.errors import UsageError
from graphopt.ir import DType, Graph, Node, Origin, Value
from graphopt.passes.quantization.operators import BINARY, data_operands, is_move, keeps_range
from graphopt.passes.quantization.parameters import Parameters, for_range
from graphopt.passes.quantization.placement import Bounds, Placement
from graphopt.passes.quantization.scheme import Scheme
from graphopt.passes.quantization.weights import as_constants, dequantised_constant
from graphopt.rewrite import Builder

RULE = "quantize"

WITH_BYTES = frozenset({"MaxPool", "ReduceMax", "ReduceMin"})
"""Operators that ONNX has for bytes too, beside those that move anything."""


class Activations:
    """The integers of the values of a graph, written when they are asked for.

    `originals` are the float constants that stand behind constants of integers, and behind what
    these are dequantised to.
    """

    def __init__(
        self,
        graph: Graph,
        layers: Mapping[Node, Scheme],
        bounds: Mapping[str, Bounds],
        left_out: Mapping[str, str],
    ) -> None:
        self.graph = graph
        self.bounds = bounds
        self.left_out = left_out
        self.placement = Placement(graph, layers, bounds)
        self.originals: dict[Value, np.ndarray] = {}
        self._integers: dict[tuple[Value, DType], Value] = {}
        self._floats: dict[tuple[Value, DType], Value] = {}
        self._parameters: dict[tuple[Value, DType], Parameters] = {}
        self._constants: dict[tuple[Value, DType], tuple[Value, Value]] = {}
        self._members: dict[Value, list[Value]] = {}
        for value in graph.values():
            self._members.setdefault(self.placement.owner(value), []).append(value)

    def quantise_operands(self, node: Node, dtype: DType) -> None:
        """Let `node` read what the integers of its operands stand for."""
        data = set(data_operands(node))
        for index, value in enumerate(node.inputs):
            if value in data and dtype in self.placement.stored.get(value, ()):
                node.set_input(index, self.dequantised(value, dtype))
            elif value in data and value.is_constant and node.op_type in BINARY:
                self._quantise_constant(node, index, value, dtype)

    def dequantised(self, value: Value, dtype: DType) -> Value:
        """The floats that the integers of `value` stand for."""
        if (value, dtype) not in self._floats:
            integers, constants = self.integers(value, dtype), self.constants_of(value, dtype)
            build = after(integers)
            name = f"{value.name}.dequantize"
            self._floats[value, dtype] = build.op("DequantizeLinear", integers, *constants, name=name)
        return self._floats[value, dtype]

    def integers(self, value: Value, dtype: DType) -> Value:
        """`value` as integers: moved as such, or quantised where it is made."""
        if (value, dtype) not in self._integers:
            if value.producer is not None and self.runs_on_integers(value.producer, dtype):
                self._move(value.producer, dtype)
            else:
                constants, name = self.constants_of(value, dtype), f"{value.name}.quantize"
                self._integers[value, dtype] = after(value).op("QuantizeLinear", value, *constants, name=name)
        return self._integers[value, dtype]

    def runs_on_integers(self, node: Node, dtype: DType) -> bool:
        """Whether `node` itself takes integers and makes such of the same scale."""
        if is_move(node):
            return True
        if node not in self.placement.precision or not keeps_range(node) or dtype.bits > 8:
            return False
        return node.op_type in WITH_BYTES or (
            node.op_type == "Resize" and node.str("mode", "nearest") == "nearest"
        )

    def parameters(self, value: Value, dtype: DType) -> Parameters:
        """Those of all values that share their scale with `value`. Raises UsageError where no range is known."""
        owner = self.placement.owner(value)
        if (owner, dtype) not in self._parameters:
            bounds = [self.bounds[v.name] for v in self._members[owner] if v.name in self.bounds]
            where = f"value '{value.name}'"
            if not bounds and value.name in self.left_out:
                raise UsageError(
                    f"it has no range: {self.left_out[value.name]}", where=where, hint=LEFT_OUT_HINT
                )
            if not bounds:
                raise UsageError("its range is not known", where=where, hint="calibrate this very graph")
            low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
            self._parameters[owner, dtype] = for_range(low, high, dtype, where=where)
        return self._parameters[owner, dtype]

    def know(self, value: Value, dtype: DType, integers: Value, floats: Value) -> None:
        """`value` is made as integers elsewhere, and dequantised."""
        self._integers[value, dtype] = integers
        self._floats[value, dtype] = floats

    def _move(self, node: Node, dtype: DType) -> None:
        """The move on integers beside the one on floats, which goes when nobody reads it."""
        data = set(data_operands(node))
        parameters = self.parameters(node.output, dtype)
        operands: list[Value | None] = []
        for value in node.inputs:
            if value is None or value not in data:
                operands.append(value)
            elif value.constant is not None:
                operands.append(self.integer_constant(value.constant, parameters, value.name))
            elif self.placement.owner(value) is not self.placement.owner(node.output):
                operands.append(self._requantised(value, node.output, dtype))
            else:
                operands.append(self.integers(value, dtype))
        if node.op_type == "Pad" and node.str("mode", "constant") == "constant":
            operands[2:3] = [self.constants_of(node.output, dtype)[1]]
        outputs = len(node.outputs)
        made = after(node.output).ops(
            node.op_type, *operands, outputs=outputs, name=node.name, **node.attributes
        )
        self._integers.update(((old, dtype), new) for old, new in zip(node.outputs, made, strict=True))

    def _requantised(self, value: Value, like: Value, dtype: DType) -> Value:
        """The integers of `value` at the scale of `like`."""
        floats, constants = self.dequantised(value, dtype), self.constants_of(like, dtype)
        return after(floats).op("QuantizeLinear", floats, *constants, name=f"{value.name}.requantize")

    def _quantise_constant(self, node: Node, index: int, value: Value, dtype: DType) -> None:
        """A whole tensor takes a byte an element; one number, or one for each channel, stays exact."""
        assert value.constant is not None
        is_small = value.constant.size <= max(value.constant.shape, default=1)
        if is_small or dtype.bits > 8 or not np.isfinite(value.constant).all():
            return
        low, high = float(value.constant.min()), float(value.constant.max())
        parameters = for_range(low, high, dtype, where=f"constant '{value.name}'")
        node.set_input(index, self.constant(before(node), value.constant, parameters, value.name))

    def constant(
        self,
        build: Builder,
        data: np.ndarray,
        parameters: Parameters,
        name: str,
        *,
        keep: Builder | None = None,
    ) -> Value:
        """What the integers of a float constant stand for (see `dequantised_constant`)."""
        made = dequantised_constant(build, data, parameters, name, keep=keep)
        self.originals[made] = data
        return made

    def integer_constant(self, data: np.ndarray, parameters: Parameters, name: str) -> Value:
        """The integers of a float constant."""
        made = self.graph.add_constant(parameters.quantised(data), name)
        self.originals[made] = data
        return made

    def constants_of(self, value: Value, dtype: DType) -> tuple[Value, Value]:
        """Scale and zero point as constants, there once for all values that share them."""
        owner = self.placement.owner(value)
        if (owner, dtype) not in self._constants:
            build = Builder(self.graph, None, Origin(RULE))
            self._constants[owner, dtype] = as_constants(build, self.parameters(value, dtype), owner.name)
        return self._constants[owner, dtype]


def after(value: Value) -> Builder:
    """Builds right behind the place where `value` is made."""
    assert value.graph is not None
    producer = value.producer
    place = next(value.graph.nodes, None) if producer is None else producer.next
    return Builder(value.graph, place, Origin(RULE, () if producer is None else producer.origin.sources))


def before(node: Node) -> Builder:
    """Builds right before `node`."""
    assert node.graph is not None
    return Builder(node.graph, node, Origin(RULE, node.origin.sources))
