"""Output types of one node, by ONNX's own inference functions.

Whole models are inferred at import; this serves the nodes that rewrites create, and re-inference after
symbolic dimensions became numbers.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, defs, helper, shape_inference

from graphopt.errors import IRError
from graphopt.ir import KERNEL, QUANT, Graph, Node, TensorType, fresh_dim
from graphopt.onnx_io.protos import attribute_to_proto, tensor_to_proto, type_from_proto, type_to_proto

LARGEST_SHAPE_OPERAND = 1024
"""Elements; constants up to this size are shown to the inference (shapes, axes, pads, scales)."""


def schema_of(node: Node) -> defs.OpSchema | None:
    """The operator's schema at the graph's opset, or None for an operator onnx does not know."""
    graph = node.graph
    version = graph.opset if graph else defs.onnx_opset_version()
    if node.domain:
        version = (_root(graph).domains.get(node.domain, 1)) if graph else 1
    try:
        return defs.get_schema(node.op_type, version, node.domain)
    except defs.SchemaError:
        return None


def infer_outputs(node: Node) -> tuple[TensorType | None, ...]:
    """The type of each output; None where inference cannot tell.

    Raises IRError when the inputs contradict the operator's specification.
    """
    unknown: tuple[TensorType | None, ...] = (None,) * len(node.outputs)
    schema = schema_of(node)
    if schema is None or node.domain in (KERNEL, QUANT) or node.subgraphs:
        return unknown
    types, data = {}, {}
    for value in node.inputs:
        if value is None:
            continue
        if value.type is None:
            return unknown
        types[value.name] = type_to_proto(value.type)
        if value.constant is not None and _may_shape(value.constant):
            data[value.name] = tensor_to_proto(value.constant, value.name)
    proto = node_to_proto(node, schema)
    opset = node.graph.opset if node.graph else defs.onnx_opset_version()
    imports = [helper.make_opsetid(node.domain, opset)]
    try:
        found = shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except Exception as error:  # the C++ inference raises several unrelated types
        message = str(error).split("\n")[0]
        raise IRError(f"{message}", where=f"node '{node.name}' ({node.key})") from None
    return tuple(
        _refine(node, type_from_proto(found[v.name])) if v.name in found else None for v in node.outputs
    )


def infer_graph(graph: Graph) -> int:
    """Infer every node output again, in order, where that tells more; returns how many types changed."""
    changed = 0
    for node in graph.nodes:
        if node.subgraphs:
            continue
        for value, type in zip(node.outputs, infer_outputs(node), strict=True):
            better = _sharper(value.type, type)
            if better != value.type:
                value.type = better
                changed += 1
    return changed


def _sharper(old: TensorType | None, new: TensorType | None) -> TensorType | None:
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


def _refine(node: Node, type: TensorType | None) -> TensorType | None:
    """What ONNX's inference leaves out: the rank of a reshape, the names of dimensions."""
    if type is not None and type.shape is None and node.is_op("Reshape"):
        target = node.input(1)
        if target is not None and target.is_static and target.rank == 1:
            return type.with_shape(tuple(fresh_dim() for _ in range(target.static_shape[0])))
    return _keep_symbols(node, type)


def _keep_symbols(node: Node, type: TensorType | None) -> TensorType | None:
    """Element-wise operators on operands of one shape keep its unnamed symbols."""
    if type is None or type.shape is None or type.is_static:
        return type
    for value in node.inputs:
        if value is None or value.shape is None or len(value.shape) != len(type.shape):
            continue
        if node.op_type in UNARY_ELEMENTWISE and type.accepts(type.with_shape(value.shape)):
            return type.with_shape(
                tuple(v if isinstance(v, str) else t for v, t in zip(value.shape, type.shape, strict=True))
            )
    return type


UNARY_ELEMENTWISE = frozenset(
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid "
    "HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin "
    "Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Dropout".split()
)


def _root(graph: Graph | None) -> Graph:
    assert graph is not None
    while graph.parent is not None:
        graph = graph.parent
    return graph


def _may_shape(data: np.ndarray) -> bool:
    return data.size <= LARGEST_SHAPE_OPERAND


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
