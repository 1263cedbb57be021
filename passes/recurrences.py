"""Recurrences in the body of a Scan: the LSTM and the GRU of `quantization.recurrent`, known by what they compute.

The body of a step is read backwards from its results into terms that have equal numbers where they are equal, operands
of sums and products in any order, and compared with the terms of the cells. Neither names nor the order of nodes count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.macs import GATES
from graphopt.ir import DType, Graph, Node, Value
from graphopt.passes.integer_sums import fits
from graphopt.passes.integers import (
    BYTES,
    LARGEST_SUM,
    Dequantized,
    dequantized,
    filter_reach,
    same_scale,
    weights_of,
)
from graphopt.rewrite.pattern import COMMUTATIVE

STATES = {"LSTM": 2, "GRU": 1}

LARGEST_STEP = 32
"""Nodes of a body that is looked at."""

READ = frozenset("Add Mul Sigmoid Sub Tanh".split())
"""Operators without attributes that steps are made of."""


@dataclass(frozen=True)
class Recurrence:
    """A cell of `op_type`: integer weights [hidden, gates * hidden] of the product with the state h, a bias in units of
    its sums, what a sum of each column is multiplied with, and how h is dequantised."""

    op_type: str
    weights: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    state: Dequantized


def recurrence_of(node: Node) -> Recurrence | str:
    """The quantised recurrence that a Scan is, or why it is none."""
    body = node.attr("body")
    if not node.is_op("Scan") or not isinstance(body, Graph) or len(body) > LARGEST_STEP:
        return "it has no body of a few nodes"
    states = len(node.inputs) - 1
    if node.int("num_scan_inputs") != 1 or states not in STATES.values() or len(body.outputs) != states + 1:
        return "it does not carry one or two states along one sequence"
    if any(node.ints("scan_input_axes", ()) or ()) or any(node.ints("scan_output_axes", ()) or ()):
        return "its steps are not along the first axis"
    if node.ints("scan_input_directions", (0,)) != node.ints("scan_output_directions", (0,)):
        return "it reads and writes in different directions"
    if not all(value is not None and value.is_static and value.size for value in node.inputs):
        return "a shape is not known, or nothing is there"
    types = [value.type for value in body.inputs]
    if any(type is None or not type.is_static or type.dtype is not DType.float32 for type in types[1:]):
        return "it does not compute in float32"
    return _of_body(body, "LSTM" if states == STATES["LSTM"] else "GRU")


def _of_body(body: Graph, op_type: str) -> Recurrence | str:
    products = [node for node in body.nodes if node.is_op("MatMul")]
    if len(products) != 1:
        return "a step has not one product"
    (product,) = products
    state, factor = dequantized(product.inputs[0]), product.inputs[1]  # type: ignore[arg-type]
    if (
        state is None
        or state.x is not body.inputs[0]
        or state.x.dtype not in BYTES
        or state.x.rank != 2
        or not state.x.is_static
    ):
        return "its product is not with rows of bytes, the state"
    producer = None if factor is None else factor.producer
    weights = weights_of(producer, -1) if producer and producer.is_op("DequantizeLinear") else None
    hidden = state.x.static_shape[-1]
    columns = GATES[op_type] * hidden
    if weights is None or weights.integers.shape != (hidden, columns) or not fits(weights.integers, np.int8):
        return "the weights of its product are not bytes, a column for each hidden unit of each gate"
    scale = np.broadcast_to(state.scale * weights.scale, columns)
    total, bias = _with_bias(product.output, scale)
    largest = state.reach * filter_reach(product, weights.integers) + np.abs(bias)
    if largest.max() >= LARGEST_SUM:
        return f"sums up to {largest.max():.0f} do not fit 32 bits"
    if not _ends_as(body, state):
        return "it does not quantise the state as it dequantises it, or it keeps another result"
    if not _computes(body, op_type, product.inputs[0], total, hidden):  # type: ignore[arg-type]
        return f"a step is not that of {op_type}"
    return Recurrence(op_type, weights.integers.astype(np.int8), bias.astype(np.int32), scale, state)


def _with_bias(product: Value, scale: np.ndarray) -> tuple[Value, np.ndarray]:
    """`product` with the constant in units of its sums that is added to it, and that constant."""
    (user,) = product.users if len(product.users) == 1 else (None,)
    if user is not None and user.is_op("Add"):
        for value in user.inputs:
            producer = None if value is None or value is product else value.producer
            bias = weights_of(producer, -1) if producer and producer.is_op("DequantizeLinear") else None
            if bias is not None and bias.integers.shape == scale.shape and same_scale(bias.scale, scale):
                return user.output, bias.integers
    return product, np.zeros(scale.shape, np.int64)


def _ends_as(body: Graph, state: Dequantized) -> bool:
    """The next state is quantised as the last was, and is what each step leaves behind, before or after that."""
    made, kept = body.outputs[0], body.outputs[-1]
    while kept.producer is not None and kept.producer.is_op("Identity"):
        kept = kept.producer.inputs[0]  # type: ignore[assignment]
    node = made.producer
    if node is None or not node.is_op("QuantizeLinear") or made.dtype is not state.x.dtype:
        return False
    if kept is not made and kept is not node.inputs[0]:
        return False
    scale, zero = node.inputs[1], node.input(2)
    origin = 0 if zero is None else zero.scalar()
    return scale is not None and scale.scalar() == state.scale[0] and origin == state.zero_point


class _Terms:
    """Numbers of terms: equal ones have the same."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str | int, ...], int] = {}

    def __call__(self, operator: str, *operands: int) -> int:
        ordered = sorted(operands) if operator in COMMUTATIVE else operands
        return self._numbers.setdefault((operator, *ordered), len(self._numbers))

    def part(self, number: int, size: int, whole: int) -> int:
        """So many columns of `whole`, behind `number` times as many others."""
        return self(f"part {number} of {size}", whole)


def _computes(body: Graph, op_type: str, h: Value, product: Value, hidden: int) -> bool:
    terms = _Terms()
    known = {h: terms("h"), product: terms("product"), body.inputs[-1]: terms("x")}
    if op_type == "LSTM":
        known[body.inputs[1]] = terms("c")
    made = body.outputs[0].producer
    assert made is not None
    floats = [made.inputs[0], *body.outputs[1:-1]]
    wanted = (_lstm if op_type == "LSTM" else _gru)(terms, hidden)
    return [_term(terms, known, value) for value in floats] == wanted


def _term(terms: _Terms, known: dict[Value, int], value: Value | None) -> int:
    """The number of what `value` is; `known` has those of the values looked at before."""
    if value is None:
        return terms("nothing")
    if value not in known:
        known[value] = _read(terms, known, value)
    return known[value]


def _read(terms: _Terms, known: dict[Value, int], value: Value) -> int:
    node = value.producer
    if node is not None and node.is_op(*READ):
        return terms(node.op_type, *(_term(terms, known, operand) for operand in node.inputs))
    if node is not None and node.is_op("Split") and node.int("axis") in (-1, 1):
        shapes = {part.shape for part in node.outputs}
        if len(shapes) == 1 and value.is_static:
            whole = _term(terms, known, node.inputs[0])
            return terms.part(node.outputs.index(value), value.static_shape[-1], whole)
    return terms(f"value {id(value)}")


def _lstm(terms: _Terms, hidden: int) -> list[int]:
    """Gates in the order input, output, forget, candidate; the next state as floats, and the next cell."""
    total = terms("Add", terms("x"), terms("product"))
    enter, leave, forget, candidate = (terms.part(number, hidden, total) for number in range(4))
    kept = terms("Mul", terms("Sigmoid", forget), terms("c"))
    cell = terms("Add", kept, terms("Mul", terms("Sigmoid", enter), terms("Tanh", candidate)))
    return [terms("Mul", terms("Sigmoid", leave), terms("Tanh", cell)), cell]


def _gru(terms: _Terms, hidden: int) -> list[int]:
    """Gates in the order update, reset, candidate; the reset applies to the product with the state."""
    x, product = terms("x"), terms("product")
    parts = [(terms.part(number, hidden, x), terms.part(number, hidden, product)) for number in range(3)]
    update, reset = (terms("Sigmoid", terms("Add", *pair)) for pair in parts[:2])
    ahead, behind = parts[2]
    candidate = terms("Tanh", terms("Add", ahead, terms("Mul", reset, behind)))
    return [terms("Add", candidate, terms("Mul", update, terms("Sub", terms("h"), candidate)))]
