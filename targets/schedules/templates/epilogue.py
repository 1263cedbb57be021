"""The element-wise rest of a body: what follows the anchor, applied to an accumulator that is still in a register, and
what leads to its first operand, applied to what is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import QUANT, DType, Graph, Node, Value
from graphopt.targets.lower.conversion import convert
from graphopt.targets.lower.elementwise import FUNCTIONS
from graphopt.targets.lower.quant import requantized
from graphopt.targets.lower.quantization import dequantized, quantized
from graphopt.targets.lower.tensors import Expr, dtype_of, flat_index
from graphopt.targets.requantize import apart, is_added

TRANSCENDENTAL = frozenset("Celu Elu Erf Exp Gelu Log Mish Pow Selu Sigmoid Softplus Swish Tanh".split())
"""Operators that become dozens of instructions for each vector."""

QUANTISED = (DType.int8, DType.uint8, DType.int16)
"""Types of images of a quantised model."""

STORED = (DType.float32, DType.float16, *QUANTISED)
"""Types of what an epilogue reads and writes."""

FLOATS = (DType.float32, DType.float16)
"""Types of arithmetic."""

INTEGER = ("Add", "Mul", "Sub")
"""Arithmetic on int32."""

HALF = frozenset("Abs Add Clip HardSigmoid HardSwish LeakyRelu Max Min Mul Neg Relu Sub Sum".split())
"""Operators that have instructions for float16."""


def _cast(node: Node, x: Expr) -> Expr:
    source = node.inputs[0]
    assert source is not None
    return convert(x, source.dtype, node.output.dtype)


CONVERSIONS: dict[str, Callable[..., Expr]] = {
    "Cast": _cast,
    "DequantizeLinear": dequantized,
    "QuantizeLinear": quantized,
    "Requantize": requantized,
}
"""As FUNCTIONS, where the result has another type; what follows the first operand are single numbers."""


class _Elements:
    """Element-wise nodes of a body, on the flat buffers of its inputs and outputs.

    What is `exact` rounds every product by itself; else one may be contracted with the addition behind it.
    """

    exact = False

    def __init__(self, nodes: Sequence[Node], buffers: Mapping[Value, tirx.Var]) -> None:
        self.nodes = nodes
        self.buffers = buffers

    def compute(self, known: dict[Value, Expr], indices: Sequence[Expr]) -> None:
        """Add to `known` what the nodes make of it at `indices`."""
        for node in self.nodes:
            operands = [None if v is None else self.operand(v, indices, known) for v in node.inputs]
            function = CONVERSIONS.get(node.op_type) or FUNCTIONS[node.op_type]
            result = function(node, *operands)
            if self.exact and is_added(node):
                result = apart(result)
            shared = len(node.output.uses) + node.output.is_graph_output > 1
            known[node.output] = T.bind(result) if shared else result

    def operand(self, value: Value, indices: Sequence[Expr], known: dict[Value, Expr]) -> Expr:
        if value in known:
            return known[value]
        scalar = value.scalar()
        if scalar is not None:
            return tirx.const(scalar, value.dtype.label)
        return self.buffers[value][place(value, indices)]


class Prologue(_Elements):
    """Everything in front of the first operand of `anchor`."""

    def __init__(self, body: Graph, anchor: Node, buffers: Mapping[Value, tirx.Var]) -> None:
        super().__init__(leading(body, anchor), buffers)
        x = anchor.input(0)
        assert x is not None
        self.x = x
        self.exact = any(node.is_op("DequantizeLinear") for node in self.nodes)

    def read(self, indices: Sequence[Expr]) -> Expr:
        """The element of the operand at `indices`."""
        known: dict[Value, Expr] = {}
        self.compute(known, indices)
        return self.operand(self.x, indices, known)


class Epilogue(_Elements):
    """Everything behind `anchor` in `body`."""

    def __init__(self, body: Graph, anchor: Node, buffers: Mapping[Value, tirx.Var]) -> None:
        before = {anchor, *leading(body, anchor)}
        super().__init__([node for node in body.nodes if node not in before], buffers)
        self.body = body
        self.anchor = anchor
        self.exact = anchor.output.dtype.is_integer

    @property
    def is_long(self) -> bool:
        """Written out for every accumulator of a tile it would be more code than a compiler should see."""
        return any(node.op_type in TRANSCENDENTAL for node in self.nodes)

    def store(self, accumulator: Expr, indices: Sequence[Expr]) -> None:
        """Finish the element at `indices` of the anchor's output and write every output of the body.

        What was accumulated in a wider type is rounded to the anchor's first.
        """
        dtype = self.anchor.output.dtype.label
        if dtype_of(accumulator) != dtype:
            accumulator = accumulator.astype(dtype)
        known: dict[Value, Expr] = {self.anchor.output: accumulator}
        self.compute(known, indices)
        for value in self.body.outputs:
            T.buffer_store(self.buffers[value], known[value], [place(value, indices)])


def leading(body: Graph, anchor: Node) -> list[Node]:
    """The nodes that the first operand of `anchor` depends on, in order."""
    x = anchor.input(0)
    needed = set() if x is None else {x}
    found = []
    for node in reversed(list(body.nodes)):
        if node is not anchor and not needed.isdisjoint(node.outputs):
            needed.update(v for v in node.inputs if v is not None)
            found.append(node)
    return found[::-1]


def place(value: Value, indices: Sequence[Expr]) -> Expr:
    """Where in the flat buffer of `value` the element that broadcasts to `indices` lies."""
    shape = value.static_shape
    tail = list(indices)[len(indices) - len(shape) :]
    return flat_index([0 if dim == 1 else i for dim, i in zip(shape, tail, strict=True)], shape)


def fits(
    body: Graph,
    anchor: Node,
    types: Sequence[DType] = (DType.float32,),
    *,
    operands: Sequence[DType] | None = None,
    prologue: bool = False,
) -> bool:
    """Everything but `anchor` follows it element by element, over the elements it makes.

    With `prologue` something may also lead to its first operand, element by element and to nothing else. The anchor
    computes in one of `types`, and so its operands are, or in one of `operands`; operands and results of other types
    are converted.
    """
    before = leading(body, anchor)
    if before and not (prologue and _lead(before, anchor)):
        return False
    shape, dtype = anchor.output.static_shape, anchor.output.dtype
    read = [v for v in anchor.inputs if v is not None]
    if dtype not in types or any(v.dtype not in (operands or (dtype,)) for v in read):
        return False
    if any(v.dtype not in (*STORED, dtype) for v in (*body.inputs, *body.outputs) if v not in read):
        return False
    for value in body.outputs:
        if value.producer is None or value.producer in before or value.static_shape != shape:
            return False
    inside = {anchor, *before}
    return all(_is_element(node, shape) for node in body.nodes if node not in inside)


def _lead(nodes: Sequence[Node], anchor: Node) -> bool:
    """These nodes make the first operand of `anchor` element by element, and nothing else reads what they make."""
    x = anchor.inputs[0]
    assert x is not None
    inside = {anchor, *nodes}
    if any(user not in inside for node in nodes for user in node.output.users):
        return False
    if any(v in anchor.inputs[1:] for node in nodes for v in node.outputs):
        return False
    return all(_is_element(node, x.static_shape) for node in nodes)


def _is_element(node: Node, shape: tuple[int, ...]) -> bool:
    if node.output.static_shape != shape or not _is_known(node):
        return False
    return all(v is None or v.constant is None or v.constant.size == 1 for v in node.inputs)


def _is_known(node: Node) -> bool:
    if node.domain:
        return node.is_op("Requantize", domain=QUANT)
    if node.output.dtype is DType.int32:
        return node.is_op(*INTEGER) or (node.is_op("Cast") and node.inputs[0].dtype in QUANTISED)  # type: ignore[union-attr]
    if node.op_type in CONVERSIONS:
        stored = node.output.dtype in STORED
        return stored and all(v is None or v.scalar() is not None for v in node.inputs[1:])
    known = HALF if node.output.dtype is DType.float16 else FUNCTIONS.keys()
    return node.op_type in known and node.output.dtype in FLOATS


def reads_by_pixel(body: Graph, anchor: Node, spatial: range) -> bool:
    """Some operand of the epilogue varies along some of the `spatial` axes and not along all."""
    shape = anchor.output.static_shape
    operands = set(anchor.inputs)
    for value in body.inputs:
        if value in operands:
            continue
        dims = (1,) * (len(shape) - len(value.static_shape)) + value.static_shape
        whole = all(dims[a] == shape[a] for a in spatial)
        none = all(dims[a] == 1 for a in spatial)
        if not whole and not none:
            return True
    return False
