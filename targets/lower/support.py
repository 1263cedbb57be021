"""What the lowering supports, told without TVM: `inspect` and the front end ask before any work starts.

The names here and the tables of `graphopt.targets.lower` are the same set; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.analysis.storage import ALIASES
from graphopt.ir import KERNEL, QUANT, DType, Graph, Node, Value
from graphopt.ir.structural import structural_inputs

STORAGE = {
    DType.float32: "float32",
    DType.float64: "float64",
    DType.float16: "float16",
    DType.bfloat16: "bfloat16",
    DType.int8: "int8",
    DType.uint8: "uint8",
    DType.int16: "int16",
    DType.uint16: "uint16",
    DType.int32: "int32",
    DType.uint32: "uint32",
    DType.int64: "int64",
    DType.uint64: "uint64",
    DType.bool: "bool",
    DType.int4: "int8",
    DType.uint4: "uint8",
    DType.int2: "int8",
    DType.uint2: "uint8",
    DType.float8e4m3fn: "uint8",
    DType.float8e4m3fnuz: "uint8",
    DType.float8e5m2: "uint8",
    DType.float8e5m2fnuz: "uint8",
    DType.float4e2m1: "uint8",
    DType.float8e8m0: "uint8",
}
"""The element type of a kernel's buffer: one whole byte for an element of 8 bits or fewer."""

NARROW = frozenset(d for d in STORAGE if d.bits < 8 or (d.is_float and d.bits == 8))
"""Element types without arithmetic: they are moved, converted and quantised only."""

ELEMENTWISE = frozenset(
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr "
    "BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh DequantizeLinear Div Dropout Elu Equal Erf Exp "
    "Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less "
    "LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow QuantizeLinear Reciprocal Relu Round "
    "Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu "
    "Where Xor".split()
)

ANCHORS = frozenset(
    "AveragePool Col2Im Conv ConvTranspose Einsum Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MatMul "
    "MatMulInteger MaxPool".split()
)

QUANTIZATION = frozenset("ConvInteger DynamicQuantizeLinear QLinearConv QLinearMatMul".split())
"""Operators on quantised tensors, besides QuantizeLinear and DequantizeLinear, which are element-wise."""

ATTENTION = frozenset("Attention RotaryEmbedding".split())

ORDERED = frozenset("CumProd CumSum MaxUnpool ScatterElements ScatterND TopK".split())
"""Operators whose steps follow one another."""

RECURRENT = frozenset("GRU LSTM RNN".split())

PACKED = frozenset(f"{KERNEL}::{name}" for name in RECURRENT)
"""Operators whose constant weights `graphopt.targets.pack_weights` has brought into a kernel's order."""

SPECTRAL = frozenset("DFT STFT".split())

SAMPLING = frozenset("AffineGrid DeformConv GridSample Resize RoiAlign".split())
"""Operators that read between the elements of a tensor."""

OPAQUE_OPERATORS = ORDERED | PACKED | RECURRENT | {"Compress"}
"""Operators whose kernel is written whole and stands alone in its group."""

REDUCTION = frozenset(
    "ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare".split()
)

NORMALIZATION = frozenset(
    "BatchNormalization GroupNormalization Hardmax InstanceNormalization LRN LayerNormalization LogSoftmax "
    "LpNormalization MeanVarianceNormalization RMSNormalization Softmax".split()
)

MOVEMENT = ALIASES | frozenset(
    "CenterCropPad Compress Concat DepthToSpace Expand Gather GatherElements GatherND Pad ReverseSequence Slice "
    "SpaceToDepth Split TensorScatter Tile Transpose Trilu".split()
)
"""Each element of the output is some element of an input. Aliases need a kernel inside a group only."""

GENERATORS = frozenset("ConstantOfShape EyeLike OneHot Range Shape Size".split())
"""Operators whose output depends on shapes and positions more than on data."""


REFUSED = {
    **dict.fromkeys(
        ("NonMaxSuppression", "NonZero", "Unique"), "the shape of its output depends on the data"
    ),
    **dict.fromkeys(
        (
            "Bernoulli",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
        ),
        "its output is random, and a compiled model always gives the same answer",
    ),
}
"""Operators that will not have a kernel, and why."""

MICROSOFT = "com.microsoft"
"""The domain of what ONNX Runtime's tools write besides ONNX: see `passes/expand_quantized.py`."""

MICROSOFT_HINT = (
    "it is ONNX Runtime's own: quantise without it (`quantize_static` with QuantFormat.QDQ, without the fusions of "
    "onnxruntime.transformers), or let `graphopt quantize` do it on the float model"
)

BLOCKED = frozenset(
    f"{KERNEL}::{name}"
    for name in "AveragePool Conv ConvTranspose GlobalAveragePool GlobalMaxPool MaxPool Pack Unpack".split()
)
"""Operators on blocked images: see `passes/assign_layout.py`."""

INTEGER = frozenset(
    f"{QUANT}::{name}" for name in "Conv ConvTranspose Lookup MatMul Requantize Softmax SumPool".split()
)
"""See `lower_integer`, `tabulate_activations` and `requantize_fixed` in `passes`."""

TEMPLATED = frozenset(f"{QUANT}::{name}" for name in ("GRU", "LSTM"))
"""Recurrences of bytes, whose kernels templates alone make: see `passes/recognize_recurrence.py`."""

SUPPORTED: frozenset[str] = (
    ANCHORS
    | ATTENTION
    | BLOCKED
    | ELEMENTWISE
    | GENERATORS
    | INTEGER
    | MOVEMENT
    | NORMALIZATION
    | ORDERED
    | PACKED
    | QUANTIZATION
    | RECURRENT
    | REDUCTION
    | SAMPLING
    | SPECTRAL
    | TEMPLATED
)

MOVES_ANY_TYPE = MOVEMENT | frozenset(
    "BitCast Cast CastLike DequantizeLinear QuantizeLinear Shape Size".split()
)
"""Operators that also take the types without arithmetic."""


LARGEST_TENSOR = 1 << 30
"""Elements. Kernels count in 32 bits; half of them are left to padding."""


def unsupported(graph: Graph) -> list[tuple[Node, str]]:
    """Every compute node, those of groups included, that no kernel can be made for, with the reason."""
    found = []
    for node in _compute_nodes(graph):
        reason = is_supported(node)
        if reason is not None:
            found.append((node, reason))
    return found


def is_supported(node: Node) -> str | None:
    """Why no kernel can be made for `node`; None when one can.

    Shapes must be static, structural operands constant and element types storable.
    """
    if node.key in REFUSED:
        return REFUSED[node.key]
    if node.key not in SUPPORTED:
        return f"there is no kernel for the operator {node.key}"
    structural = structural_inputs(node)
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        if index in structural and value.constant is None:
            return f"input {index} ('{value.name}') decides shapes and is not known at compile time"
        if value.type is None:
            return f"the type of input {index} ('{value.name}') is unknown"
        if index not in structural and not value.is_static:
            return f"input {index} ('{value.name}') has the shape {value.type}, which is not static"
        reason = _type_reason(node, value.dtype) or _size_reason(value)
        if reason:
            return reason
    for value in node.outputs:
        if not value.uses and not value.is_graph_output:
            continue
        if value.type is None or not value.is_static:
            return f"output '{value.name}' has the shape {value.type}, which is not static"
        reason = _type_reason(node, value.dtype) or _size_reason(value)
        if reason:
            return reason
    return None


def where(node: Node) -> str:
    return f"node '{node.name}' ({node.key})"


def _type_reason(node: Node, dtype: DType) -> str | None:
    if dtype not in STORAGE:
        return f"kernels cannot store elements of {dtype}"
    if dtype in NARROW and node.key not in MOVES_ANY_TYPE:
        return f"there is no arithmetic on {dtype}"
    return None


def _size_reason(value: Value) -> str | None:
    if value.is_static and value.size > LARGEST_TENSOR:
        return f"'{value.name}' has {value.size:,} elements, a kernel counts {LARGEST_TENSOR:,} at most"
    return None


def _compute_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        if node.is_op("Fused", domain=KERNEL):
            yield from _compute_nodes(node.attributes["body"])
        else:
            yield node
