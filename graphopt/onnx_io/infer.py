"""Output types of one node, by ONNX's own inference functions.

Node by node, so that an impossible shape is found where it arises: fed with it, the next operator's inference may
bring the interpreter down. Shapes are followed through arithmetic on them by `graphopt.ir.elements`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from onnx import NodeProto, TypeProto, defs, helper, shape_inference

from graphopt.errors import IRError
from graphopt.ir import KERNEL, QUANT, Graph, Node, TensorType, Value, fresh_dim
from graphopt.ir.elements import Elements, elements_of, evaluate, is_numbers
from graphopt.onnx_io.check import schema_at
from graphopt.onnx_io.infer_nested import nested_outputs
from graphopt.onnx_io.operand_shapes import check_operand_shapes, numbers_of
from graphopt.onnx_io.protos import attribute_to_proto, tensor_to_proto, type_from_proto, type_to_proto
from graphopt.onnx_io.reasons import plain_reason
from graphopt.onnx_io.symbolic import TARGETS, symbolic_shape

LARGEST_SHAPE_OPERAND = 1024
"""Elements; constants up to this size are shown to the inference (shapes, axes, pads, scales)."""


FORGOTTEN_DEFAULTS = {"STFT": {"onesided": 1}}
"""Attributes that count as zero for ONNX's inference when they are left out, against their schema."""


TAKES_LISTS_OF_ONE = ("Range",)
"""Their operands are scalars. Run times take lists of one number too, as ONNX's own definition of AffineGrid hands
them; ONNX's inference does so only while it does not know the number."""


def schema_of(node: Node) -> defs.OpSchema | None:
    """The operator's schema at the graph's opset, or None for an operator onnx does not know."""
    graph = node.graph
    version = graph.opset if graph else defs.onnx_opset_version()
    if node.domain:
        version = (_root(graph).domains.get(node.domain, 1)) if graph else 1
    return schema_at(node.op_type, version, node.domain)


def infer_outputs(
    node: Node, known: Mapping[Value, Elements] = MappingProxyType({})
) -> tuple[TensorType | None, ...]:
    """The type of each output; None where inference cannot tell.

    `known` holds what has been found out about the elements of shapes. Raises IRError when the inputs contradict
    the operator's specification, or leave less than nothing of an output.
    """
    unknown: tuple[TensorType | None, ...] = (None,) * len(node.outputs)
    schema = schema_of(node)
    if schema is None or node.domain in (KERNEL, QUANT):
        return unknown
    if node.subgraphs:
        return nested_outputs(node)
    types, data = {}, {}
    for value in node.inputs:
        if value is None:
            continue
        if value.type is None:
            return unknown
        types[value.name] = type_to_proto(value.type, keep_unnamed=True)
        shown = _shown(value, known)
        if shown is not None and node.op_type in TAKES_LISTS_OF_ONE and shown.size == 1:
            shown = shown.reshape(())
        if shown is not None:
            data[value.name] = tensor_to_proto(shown, value.name)
    proto = node_to_proto(node, schema)
    for name, default in FORGOTTEN_DEFAULTS.get(node.op_type, {}).items():
        if name not in node.attributes:
            proto.attribute.append(helper.make_attribute(name, default))
    opset = node.graph.opset if node.graph else defs.onnx_opset_version()
    imports = [helper.make_opsetid(node.domain, opset)]
    where = f"node '{node.name}' ({node.key})"
    try:
        found = shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except Exception as error:  # the C++ inference raises several unrelated types
        raise IRError(plain_reason(error), where=where) from None
    for value in node.outputs:
        if value.name in found:
            _check_positive(found[value.name], value.name, where)
    inferred = [type_from_proto(found[v.name], where) if v.name in found else None for v in node.outputs]
    check_operand_shapes(node, numbers_of(inferred[0]) if inferred else None)
    return (_refine(node, inferred[0], known), *inferred[1:]) if inferred else ()


def infer_graph(graph: Graph) -> int:
    """Infer every node output again, in order, where that tells more; returns how many types changed."""
    return _infer_graph(graph, {})


def _infer_graph(graph: Graph, known: dict[Value, Elements]) -> int:
    return sum(infer_node(node, known) for node in graph.nodes)


def infer_node(node: Node, known: dict[Value, Elements]) -> int:
    """Infer the node's outputs, and those inside its nested graphs, where that tells more.

    What the node computes of shapes is added to `known`. Returns how many types changed.
    """
    changed = sum(_infer_graph(nested, known) for nested in node.subgraphs if nested.parent is not None)
    for value, type in zip(node.outputs, possible_outputs(node, known), strict=True):
        better = sharper(value.type, type)
        if better != value.type:
            value.type = better
            changed += 1
    for value, elements in zip(node.outputs, evaluate(node, known), strict=False):
        if elements is not None:
            known[value] = elements
    return changed


def possible_outputs(node: Node, known: Mapping[Value, Elements]) -> tuple[TensorType | None, ...]:
    """What `infer_outputs` tells; nothing where a nested graph computes what cannot be.

    A branch that is never taken may be impossible.
    """
    try:
        return infer_outputs(node, known)
    except IRError:
        if node.graph is None or node.graph.parent is None:
            raise
        return (None,) * len(node.outputs)


def reason_against(node: Node) -> str:
    """Why no operands of these types and shapes can be computed with; empty when they may."""
    try:
        infer_outputs(node)
    except IRError as error:
        return str(error)
    return ""


def sharper(old: TensorType | None, new: TensorType | None) -> TensorType | None:
    """What both types together say; named symbols and numbers win over unnamed dimensions."""
    if old is None or new is None:
        return old or new
    if (
        old.dtype is not new.dtype
        or old.shape is None
        or new.shape is None
        or len(old.shape) != len(new.shape)
    ):
        return new if old.shape is None or old.dtype is not new.dtype else old
    dims = tuple(n if isinstance(n, int) else o for o, n in zip(old.shape, new.shape, strict=True))
    return new.with_shape(dims)


def _refine(node: Node, type: TensorType | None, known: Mapping[Value, Elements]) -> TensorType | None:
    """What ONNX's inference leaves out of the first output."""
    if type is not None and type.shape is None and node.is_op(*SAME_SHAPE):
        return type.with_shape(None if node.inputs[0] is None else node.inputs[0].shape)
    if type is None or type.is_static or node.op_type not in TARGETS or node.domain:
        return type
    target = node.input(TARGETS[node.op_type])
    elements = elements_of(target, known)
    if elements is not None:
        return sharper(type.with_shape(symbolic_shape(node, elements)), type)
    if type.shape is None and target is not None and target.is_static and target.rank == 1:
        return type.with_shape(tuple(fresh_dim() for _ in range(target.static_shape[0])))
    return type


def _check_positive(type: TypeProto, name: str, where: str) -> None:
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in type.tensor_type.shape.dim]
    if any(isinstance(d, int) and d < 0 for d in dims):
        shape = ", ".join(str(d) or "?" for d in dims)
        raise IRError(
            f"its output '{name}' would be of shape [{shape}]",
            where=where,
            hint="its window or its bounds are larger than its input",
        )


def _shown(value: Value, known: Mapping[Value, Elements]) -> np.ndarray | None:
    """The data of an operand that may decide a shape."""
    if value.constant is not None:
        return value.constant if value.constant.size <= LARGEST_SHAPE_OPERAND else None
    elements = known.get(value)
    if elements is None or value.type is None or not is_numbers(elements):
        return None
    return np.array(elements.tolist(), value.dtype.numpy).reshape(elements.shape)


SAME_SHAPE = ("GroupNormalization", "MeanVarianceNormalization")
"""Operators whose output has the shape of their first operand, which ONNX's inference does not say."""

UNARY_ELEMENTWISE = frozenset(
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid "
    "HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin "
    "Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Dropout".split()
)
"""Operators whose output has the shape of their first operand."""


def _root(graph: Graph | None) -> Graph:
    assert graph is not None
    while graph.parent is not None:
        graph = graph.parent
    return graph


def node_to_proto(node: Node, schema: defs.OpSchema) -> NodeProto:
    """A node without nested graphs, under the names of its values."""
    proto = NodeProto(op_type=node.op_type, domain=node.domain, name=node.name)
    proto.input.extend("" if v is None else v.name for v in node.inputs)
    proto.output.extend(v.name for v in node.outputs)
    for name, value in node.attributes.items():
        declared = schema.attributes.get(name)
        proto.attribute.append(
            attribute_to_proto(name, value, int(declared.type.value) if declared else None)
        )
    return proto
