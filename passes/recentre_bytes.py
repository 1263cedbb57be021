"""Bytes with the sign that a processor multiplies: uint8 as int8 with a zero point 128 lower, or the other way round.

    quant::Conv(x) {x_zero_point: z}   -->  quant::Conv(x') {x_zero_point: z - 128}
    DQ(x, s, z)                        -->  DQ(x', s, z - 128)
    quant::Lookup(x, table)            -->  quant::Lookup(x', table')         in the order of the other bits
    Q(v, s, z)                         -->  Q(v, s, z - 128)                  x' comes so from where x was quantised
    quant::Requantize(v) {zero_point: z}  -->  the same with z - 128, and so its bounds; Softmax alike
    Cast(x) to int32                   -->  Add(Cast(x'), 128)
    MaxPool(x), Reshape(x), ...        -->  the same of x'
    quant::LSTM(h) {h_zero_point: z}   -->  quant::LSTM(h') {h_zero_point: z - 128}   its results too; GRU alike
    x of anyone else                   -->  Cast(x xor 128)                   inputs and outputs keep their types

Only what a product reads is recentred, as far as it is moved about before; with `everything` also whatever is made of
integers and read by nobody who would have to convert it, so that a kernel meets bytes of one sign. The second operand
of a product of two computed matrices takes the part of weights, and becomes int8 everywhere. Sums with a zero point get
a bias, of zeros if need be, for kernels fold the one into the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import QUANT, DType, Graph, Node, TensorType, Value
from graphopt.passes.integers import BYTES
from graphopt.passes.move_quantization import MOVEMENT
from graphopt.pipeline import Pass
from graphopt.rewrite import Builder, Statistics

HALF = 128

CARRIERS = frozenset([*MOVEMENT, "Concat", "Max", "Min", "Split"])
"""Each element of the result is one of some operand. Constants among the operands are bytes, or tell where."""

FIXED_POINT = ("Requantize", "Softmax")

RECURRENT = ("GRU", "LSTM")
STATE = 4
"""The operand of a recurrence that is bytes, with the sign of the results."""


@dataclass(frozen=True)
class RecentreBytes(Pass):
    """Give what is multiplied the sign that the target multiplies."""

    name: ClassVar[str] = "recentre-bytes"
    signed: bool = True
    everything: bool = False

    def run(self, graph: Graph, statistics: Statistics) -> None:
        sign = DType.int8 if self.signed else DType.uint8
        work = _Recentring(graph, sign, self.everything, self.name)
        for node in list(graph.nodes):
            fired = work.recentre(node)
            statistics.tried[self.name] += 1
            statistics.fired[self.name] += fired
        work.settle()
        for node in graph.nodes:
            _give_bias(graph, node)
        graph.remove_unused_constants()


class _Recentring:
    """`twins` leads from values to what they are with the other sign."""

    def __init__(self, graph: Graph, wanted: DType, everything: bool, rule: str) -> None:
        self.graph = graph
        self.rule = rule
        self.wanted = _wanted(graph, wanted, everything)
        self.twins: dict[Value, Value] = {}

    def recentre(self, node: Node) -> bool:
        """Read twins instead of operands, make twins of results; whether anything changed."""
        build = Builder(self.graph, node, node.origin.merged(self.rule, [node]))
        if node.is_op(*CARRIERS) and any(value in self.wanted for value in node.outputs):
            self._carry(node, build)
        elif node.is_op("QuantizeLinear") and node.output in self.wanted:
            self._quantize(node, build)
        elif node.is_op("DequantizeLinear") and self._is_replaced(node.inputs[0]):
            self._dequantize(node, build)
        elif node.is_op("Cast") and node.output.dtype is DType.int32 and self._is_replaced(node.inputs[0]):
            self._widen(node, build)
        elif node.is_op("Lookup", domain=QUANT):
            return self._look_up(node, build)
        elif node.is_op(*FIXED_POINT, domain=QUANT):
            return self._requantize(node, build)
        elif node.is_op(*RECURRENT, domain=QUANT):
            return self._recur(node, build)
        elif node.domain == QUANT:
            return self._multiply(node, build)
        else:
            return False
        return True

    def settle(self) -> None:
        """Give those who know nothing of it what they read, from the twins; remove what nobody reads."""
        for value, twin in reversed(self.twins.items()):
            node = value.producer
            if node is None or node.graph is None or not self._is_replaced(value):
                continue
            assert twin.producer is not None
            if value.uses or value.is_graph_output:
                value.replace_uses(_flipped(Builder(self.graph, twin.producer.next, node.origin), twin))
            if not any(v.uses or v.is_graph_output for v in node.outputs):
                self._remove(node, twin.producer)

    def _remove(self, node: Node, made: Node) -> None:
        """`made` takes the names of `node`, whose place it has."""
        name, names = node.name, [value.name for value in node.outputs]
        self.graph.remove(node)
        self.graph.rename_node(made, name, keep_if_taken=True)
        for value, old in zip(made.outputs, names, strict=True):
            self.graph.rename(value, old, keep_if_taken=True)

    def _is_replaced(self, value: Value | None) -> bool:
        """Whether the twin is made as `value` is, and not of it."""
        twin = None if value is None else self.twins.get(value)
        if value is None or twin is None or value.producer is None or twin.producer is None:
            return False
        return twin.producer.op_type == value.producer.op_type

    def _multiply(self, node: Node, build: Builder) -> bool:
        places = ("x_zero_point",) if node.op_type != "MatMul" else ("a_zero_point", "b_zero_point")
        fired = False
        for index, place in enumerate(places):
            value = node.inputs[index]
            if value is not None and value.constant is None and value in self.wanted:
                node.set_input(index, self._twin(value, build))
                node.attributes[place] = node.int(place) + _shift(value.dtype)
                fired = True
        return fired

    def _dequantize(self, node: Node, build: Builder) -> None:
        x = node.inputs[0]
        assert x is not None
        operands = (self.twins[x], node.input(1), self._zero(node.input(2), x, build))
        made = build.op("DequantizeLinear", *operands, **node.attributes)
        node.output.replace_uses(made)
        assert made.producer is not None
        self._remove(node, made.producer)

    def _look_up(self, node: Node, build: Builder) -> bool:
        x, table = node.inputs
        assert x is not None and table is not None and table.constant is not None
        replaced, given = self._is_replaced(x), node.output in self.wanted
        data = table.constant
        if replaced:
            x, data = self.twins[x], np.roll(data, HALF)
        if given:
            data = _with_other_sign(data)
        if replaced or given:
            type = TensorType(DType.of(data.dtype), node.output.shape)
            operands = (x, build.const(data, name=table.name))
            (made,) = build.ops("Lookup", *operands, outputs=1, domain=QUANT, types=(type,))
            if given:
                self.twins[node.output] = made
            else:
                node.output.replace_uses(made)
                assert made.producer is not None
                self._remove(node, made.producer)
        return replaced or given

    def _widen(self, node: Node, build: Builder) -> None:
        x = node.inputs[0]
        assert x is not None
        wide = build.op("Cast", self.twins[x], **node.attributes)
        made = build.op("Add", wide, build.const(np.int32(-_shift(x.dtype)), name="half"))
        node.output.replace_uses(made)
        assert made.producer is not None
        self._remove(node, made.producer)

    def _requantize(self, node: Node, build: Builder) -> bool:
        """Softmax looks at differences, which are those of its twins."""
        x = node.inputs[0]
        replaced = self._is_replaced(x)
        if replaced:
            assert x is not None
            node.set_input(0, self.twins[x])
        if node.output not in self.wanted:
            return replaced
        shift = _shift(node.output.dtype)
        attributes = {**node.attributes, "zero_point": node.int("zero_point") + shift}
        attributes |= {key: node.int(key) + shift for key in ("low", "high") if key in attributes}
        types = (TensorType(_other(node.output.dtype), node.output.shape),)
        (made,) = build.ops(node.op_type, *node.inputs, outputs=1, domain=QUANT, types=types, **attributes)
        self.twins[node.output] = made
        return True

    def _recur(self, node: Node, build: Builder) -> bool:
        """The state before the first step and those after each have one sign."""
        h = node.inputs[STATE]
        assert h is not None
        if not any(value in self.wanted for value in node.outputs):
            return False
        operands = [self._twin(value, build) if value is h else value for value in node.inputs]
        attributes = {**node.attributes, "h_zero_point": node.int("h_zero_point") + _shift(h.dtype)}
        kinds = [_other(v.dtype) if v.dtype is h.dtype else v.dtype for v in node.outputs]
        types = tuple(TensorType(kind, v.shape) for kind, v in zip(kinds, node.outputs, strict=True))
        made = build.ops(node.op_type, *operands, outputs=len(types), domain=QUANT, types=types, **attributes)
        for value, new in zip(node.outputs, made, strict=True):
            if value.dtype is h.dtype:
                self.twins[value] = new
            else:
                value.replace_uses(new)
        return True

    def _quantize(self, node: Node, build: Builder) -> None:
        zero = self._zero(node.input(2), node.output, build)
        kept = {k: v for k, v in node.attributes.items() if k != "output_dtype"}
        self.twins[node.output] = build.op("QuantizeLinear", *node.inputs[:2], zero, **kept)

    def _zero(self, zero: Value | None, x: Value, build: Builder) -> Value:
        """The zero point of the twin of `x`."""
        if zero is None:
            return build.const(np.asarray(_shift(x.dtype), _other(x.dtype).numpy), name="zero_point")
        return self._twin(zero, build)

    def _carry(self, node: Node, build: Builder) -> None:
        operands = [
            v if v is None or v.type is None or v.dtype not in BYTES else self._twin(v, build)
            for v in node.inputs
        ]
        made = build.ops(node.op_type, *operands, outputs=len(node.outputs), **node.attributes)
        self.twins.update(zip(node.outputs, made, strict=True))

    def _twin(self, value: Value, build: Builder) -> Value:
        if value not in self.twins:
            if value.constant is not None:
                return build.const(_with_other_sign(value.constant), name=value.name)
            self.twins[value] = _flipped(build, value)
        return self.twins[value]


def _give_bias(graph: Graph, node: Node) -> None:
    """A bias of zeros where constant weights have none, and the other operand has a zero point."""
    weights = node.input(1)
    if node.domain != QUANT or node.op_type == "Lookup" or node.input(2) is not None:
        return
    zero = node.int("a_zero_point" if node.op_type == "MatMul" else "x_zero_point")
    if weights is None or weights.constant is None or not zero or node.output.type is None:
        return
    channels = node.output.static_shape[-1 if node.op_type == "MatMul" else 1]
    node.set_input(2, graph.add_constant(np.zeros(channels, np.int32), f"{node.name}.bias"))


def _other(dtype: DType) -> DType:
    return DType.int8 if dtype is DType.uint8 else DType.uint8


def _shift(dtype: DType) -> int:
    """What is added to numbers of `dtype` to have them with the other sign."""
    return -HALF if dtype is DType.uint8 else HALF


def _with_other_sign(data: np.ndarray) -> np.ndarray:
    dtype = DType.of(data.dtype)
    return (data.astype(np.int16) + _shift(dtype)).astype(_other(dtype).numpy)


def _flipped(build: Builder, x: Value) -> Value:
    """The highest bit the other way round, read with the other sign."""
    mask = build.const(np.uint8(HALF), name="sign")
    if x.dtype is DType.uint8:
        return build.op("Cast", build.op("BitwiseXor", x, mask), to=DType.int8.onnx_code)
    return build.op("BitwiseXor", build.op("Cast", x, to=DType.uint8.onnx_code), mask)


def _wanted(graph: Graph, wanted: DType, everything: bool) -> set[Value]:
    """What must have its other sign: what products read and do not find as they want it, and where that comes from;
    with `everything` what may have it, too."""
    found: set[Value] = set()
    waiting = [*_multiplied(graph, wanted), *(_made(graph, wanted) if everything else ())]
    while waiting:
        value = waiting.pop()
        if value in found or value.constant is not None:
            continue
        found.add(value)
        for node in (value.producer, *value.users):
            if node is not None and _carries(node):
                tensors = [v for v in (*node.inputs, *node.outputs) if v is not None and v.type is not None]
                waiting += [v for v in tensors if v.dtype is value.dtype]
    return found


def _carries(node: Node) -> bool:
    """Operands and results of bytes have one sign."""
    return node.is_op(*CARRIERS) or node.is_op(*RECURRENT, domain=QUANT)


def _made(graph: Graph, wanted: DType) -> Iterator[Value]:
    """What is made of integers, for those who read either sign."""
    for node in graph.nodes:
        if not node.is_op("Lookup", *FIXED_POINT, domain=QUANT) or node.output.dtype is not _other(wanted):
            continue
        if not node.output.is_graph_output and all(map(_reads_either, node.output.users)):
            yield node.output


def _reads_either(node: Node) -> bool:
    is_number = node.is_op("Cast") and node.output.dtype is DType.int32
    return is_number or node.domain == QUANT or node.is_op("DequantizeLinear")


def _multiplied(graph: Graph, wanted: DType) -> Iterator[Value]:
    for node in graph.nodes:
        if node.domain != QUANT or node.op_type in (*FIXED_POINT, "SumPool"):
            continue
        x, weights = node.inputs[0], node.inputs[1]
        if x is not None and x.constant is None and x.dtype is _other(wanted):
            yield x
        if weights is not None and weights.constant is None and weights.dtype is DType.uint8:
            yield weights
