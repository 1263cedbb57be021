"""How much of a quantised graph is arithmetic on integers: shares of weights and multiply-accumulates, bits a weight.

Products are convolutions, matrix products and recurrences. A weight is an operand that follows from constants. It
counts as quantised when it comes from DequantizeLinear of at most 8 bits, and a product's multiply-accumulates count
when both its factors do; what merely moves or picks elements may stand between. A recurrence multiplies its inputs
with W and its state with R: the state is quantised where all that leaves the node goes through QuantizeLinear, for it
is what leaves. Bits are those of weights, scales and zero points, over the number of weights; floats have their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.analysis.liveness import fixed_values
from graphopt.analysis.macs import GATES, macs
from graphopt.ir import Graph, Node, Value

BYTE = 8

MOVES = frozenset(
    "Expand Flatten Gather GatherND GlobalMaxPool Identity MaxPool Pad ReduceMax Relu Reshape Slice Split Squeeze Tile "
    "Transpose Unsqueeze".split()
)
"""Operators whose elements are those of their first operand, or zero."""

QUANTISED = {"QLinearConv": (0, 3), "QLinearMatMul": (0, 3), "ConvInteger": (0, 1), "MatMulInteger": (0, 1)}
"""Products of integers by their very definition: where their factors stand."""

FACTORS = {"Conv": (0, 1), "ConvTranspose": (0, 1), "MatMul": (0, 1), "Gemm": (0, 1)} | QUANTISED


@dataclass(frozen=True)
class IntegerShares:
    """Counts of a graph. `weight_bits` are in all; None of the shares where there is nothing to share."""

    weights: int
    quantised_weights: int
    weight_bits: int
    macs: int
    integer_macs: int

    @property
    def of_weights(self) -> float | None:
        return self.quantised_weights / self.weights if self.weights else None

    @property
    def of_macs(self) -> float | None:
        return self.integer_macs / self.macs if self.macs else None

    @property
    def bits_a_weight(self) -> float | None:
        return self.weight_bits / self.weights if self.weights else None


@dataclass(frozen=True)
class _Product:
    """Two factors, and the multiply-accumulates of theirs; `is_state` where the first is what the node returns."""

    node: Node
    factors: tuple[Value, Value]
    macs: int
    is_state: bool = False


def integer_shares(graph: Graph) -> IntegerShares:
    """The shares of `graph`, as it was read or quantised; weights that products share count once."""
    fixed = fixed_values(graph)
    weights: dict[Value, None] = {}
    total = integers = 0
    for product in _products(graph):
        first, second = product.factors
        operands = (second,) if product.is_state else product.factors
        weights |= dict.fromkeys(_source(factor) for factor in operands if factor in fixed)
        total += product.macs
        whole = _is_quantised(product.node, second) and (
            _leaves_quantised(product.node) if product.is_state else _is_quantised(product.node, first)
        )
        integers += product.macs if whole else 0
    counted = [(weight.size, *_bits(weight)) for weight in weights]
    return IntegerShares(
        sum(size for size, _, _ in counted),
        sum(size for size, bits, _ in counted if bits <= BYTE),
        sum(size * bits + beside for size, bits, beside in counted),
        total,
        integers,
    )


def _products(graph: Graph) -> Iterator[_Product]:
    for node in graph.all_nodes():
        count = macs(node) or 0
        if node.op_type in FACTORS:
            a, b = (node.input(index) for index in FACTORS[node.op_type])
            assert a is not None and b is not None
            yield _Product(node, (a, b), count)
        elif node.op_type in GATES:
            x, w, r = (node.input(index) for index in range(3))
            assert x is not None and w is not None and r is not None
            width, hidden = w.static_shape[-1], r.static_shape[-1]
            inputs = count * width // (width + hidden)
            yield _Product(node, (x, w), inputs)
            yield _Product(node, (x, r), count - inputs, is_state=True)
        elif node.op_type in ("Attention", "Einsum") and node.inputs[1:2]:
            a, b = node.inputs[:2]
            assert a is not None and b is not None
            yield _Product(node, (a, b), count)


def _source(value: Value) -> Value:
    """Back through what moves elements: where they come from."""
    while value.producer is not None and value.producer.op_type in MOVES:
        value = _first(value.producer)
    return value


def _first(node: Node) -> Value:
    value = node.input(0)
    assert value is not None
    return value


def _is_quantised(node: Node, factor: Value) -> bool:
    return node.op_type in QUANTISED or _bits(_source(factor))[0] <= BYTE


def _bits(source: Value) -> tuple[int, int]:
    """Bits of an element as it is stored, and of the scales and zero points beside."""
    node = source.producer
    if node is None or not node.is_op("DequantizeLinear"):
        return source.dtype.bits, 0
    beside = [value for value in node.inputs[1:] if value is not None]
    stored = [
        _first(v.producer) if v.producer is not None and v.producer.is_op("Cast") else v for v in beside
    ]
    return _first(node).dtype.bits, sum(value.size * value.dtype.bits for value in stored)


def _leaves_quantised(node: Node) -> bool:
    """Whether every output, behind what moves elements, is quantised."""
    leaving = [value for value in node.outputs if value is not None and (value.uses or value.is_graph_output)]
    while leaving:
        value = leaving.pop()
        if value.is_graph_output:
            return False
        for user in value.users:
            if user.op_type in MOVES:
                leaving += user.outputs
            elif not user.is_op("QuantizeLinear") or user.outputs[0].dtype.bits > BYTE:
                return False
    return True
