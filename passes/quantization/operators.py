"""What each operator needs in a quantised graph, as data.

A product sums many multiplications: it is what quantisation is for, and decides what is worth quantising around it.
A move copies elements and runs on the integers themselves, so that what it reads and makes has one scale. The rest
computes on floats between dequantised operands and a quantised result; integer kernels do that in registers or by
tables.
"""

from __future__ import annotations

from graphopt.ir import DType, Node, Value

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

RECURRENT = frozenset({"GRU", "LSTM"})

MOVES = frozenset(
    "Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity Pad Reshape Slice SpaceToDepth Split "
    "Squeeze Tile Transpose Unsqueeze".split()
)
"""Their results are elements of their operands, whatever the type."""

RANGE_KEEPING = frozenset({"GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMin", "Resize"})
"""Their results lie within the range of their operand, whose scale they keep; ONNX has them for floats at least."""

LEAST_TABLE = 1024
"""Numbers from which on a table is worth quantising."""

UNARY = frozenset(
    "Abs BatchNormalization Celu Clip Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Mish Neg PRelu Relu Selu Sigmoid "
    "Softplus Softsign Swish Tanh ThresholdedRelu".split()
)
"""Element by element from the first operand."""

BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Sub"})

POOLS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})

NORMALIZATIONS = frozenset({"GroupNormalization", "InstanceNormalization"})

ROWS = frozenset({"LayerNormalization", "LogSoftmax", "RMSNormalization", "Softmax"})
"""They read floats. A transformer's residual stream in bytes is by far its largest error; scores are made where they
are read."""

ELEMENTWISE = UNARY | BINARY
COMPUTED = ELEMENTWISE | POOLS | NORMALIZATIONS | ROWS

PERCEPTIBLE = 1e9
"""A range beyond it is no data: an additive mask, minus the largest float, is what reaches so far."""


def is_product(node: Node) -> bool:
    return node.is_op(*PRODUCTS)


def is_lookup(node: Node) -> bool:
    """Whether `node` picks rows of a constant table, an embedding."""
    table = node.input(0)
    if not node.is_op("Gather") or node.int("axis") or table is None or table.constant is None:
        return False
    return is_float(table) and table.constant.ndim > 1 and table.constant.size >= LEAST_TABLE


def is_move(node: Node) -> bool:
    """Whether `node` copies floats from its data operands."""
    if is_lookup(node) or (node.op_type == "Pad" and not _pads_alike(node)):
        return False
    return node.is_op(*MOVES) and is_float(node.output)


def keeps_range(node: Node) -> bool:
    if not node.is_op(*RANGE_KEEPING) or len(node.outputs) > 1:
        return False
    return node.op_type != "Resize" or node.str("mode", "nearest") in ("nearest", "linear")


def data_operands(node: Node) -> list[Value]:
    """The float operands that carry data: not shapes, axes or parameters of a normalisation."""
    if node.op_type in BINARY or node.op_type == "Concat":
        operands = node.inputs
    elif node.op_type in PRODUCTS:
        operands = node.inputs[:2]
    elif node.op_type == "Where":
        operands = node.inputs[1:]
    else:
        operands = node.inputs[:1]
    return [value for value in operands if value is not None]


def is_float(value: Value) -> bool:
    return value.type is not None and value.dtype is DType.float32


def _pads_alike(node: Node) -> bool:
    """It pads with zero or with elements of its operand."""
    value = node.input(2)
    return node.str("mode", "constant") != "constant" or value is None or value.scalar() == 0
