"""The bodies of operators that ONNX defines as functions of simpler ones.

A body may depend on the node: which optional inputs are there, what types they have, what its attributes say.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import defs, helper

from graphopt.ir import Graph, Node, Value
from graphopt.onnx_io.infer import LARGEST_SHAPE_OPERAND, node_to_proto, schema_of
from graphopt.onnx_io.protos import tensor_to_proto, type_to_proto
from graphopt.onnx_io.read import read_model


def function_graph(node: Node) -> tuple[Graph, dict[str, Value]] | None:
    """The body of an operator as a graph, and what its inputs and constants are of the node's operands, by name.

    None when the operator is not a function, or the types that its body depends on are not known. The graph's
    outputs are the node's. Raises GraphoptError for a body that cannot be read.
    """
    schema = schema_of(node)
    function = None if schema is None else _function(node, schema)
    if schema is None or function is None:
        return None
    present = dict(zip(function.input, node.inputs, strict=False))
    operands = {name: value for name, value in present.items() if value is not None}
    absent = set(function.input) - set(operands)
    attributes = _attributes(node, schema, function)
    graph = onnx.GraphProto(name=node.op_type)
    for proto in function.node:
        graph.node.append(_bound(proto, attributes, absent))
    for name, value in operands.items():
        if value.constant is not None and value.constant.size <= LARGEST_SHAPE_OPERAND:
            graph.initializer.append(tensor_to_proto(value.constant, name))
        elif value.type is not None:
            graph.input.append(helper.make_value_info(name, type_to_proto(value.type)))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in function.output[: len(node.outputs)])
    return read_model(helper.make_model(graph, opset_imports=function.opset_import)), operands


def _function(node: Node, schema: defs.OpSchema) -> onnx.FunctionProto | None:
    """The body for the newest opset that is not newer than the graph's."""
    opset = node.graph.opset if node.graph else defs.onnx_opset_version()
    function = onnx.FunctionProto()
    if schema.has_context_dependent_function:
        if any(value is not None and value.type is None for value in node.inputs):
            return None
        types = [
            onnx.TypeProto() if v is None or v.type is None else type_to_proto(v.type) for v in node.inputs
        ]
        version = _newest(schema.context_dependent_function_opset_versions, opset)
        body = schema.get_context_dependent_function_with_opset_version(
            version, node_to_proto(node, schema).SerializeToString(), [t.SerializeToString() for t in types]
        )
    elif schema.has_function:
        body = schema.get_function_with_opset_version(_newest(schema.function_opset_versions, opset))
    else:
        return None
    function.ParseFromString(body)
    return function if function.node else None


def _newest(versions: list[int], opset: int) -> int:
    return max((version for version in versions if version <= opset), default=min(versions))


def _attributes(
    node: Node, schema: defs.OpSchema, function: onnx.FunctionProto
) -> dict[str, onnx.AttributeProto]:
    """The node's attributes, else the function's defaults, else the schema's."""
    found = {a.name: a.default_value for a in schema.attributes.values() if a.default_value.name}
    found.update((a.name, a) for a in function.attribute_proto)
    found.update((a.name, a) for a in node_to_proto(node, schema).attribute)
    return found


def _bound(
    proto: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto], absent: set[str]
) -> onnx.NodeProto:
    """A node of the body with the function's attributes and absent inputs put in, nested graphs included."""
    bound = onnx.NodeProto()
    bound.CopyFrom(proto)
    bound.input[:] = ["" if name in absent else name for name in proto.input]
    del bound.attribute[:]
    for attribute in proto.attribute:
        given = attributes.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if given is None:
            continue
        copy = bound.attribute.add()
        copy.CopyFrom(given)
        copy.name = attribute.name
        if copy.type == onnx.AttributeProto.GRAPH:
            nested = [_bound(inner, attributes, absent) for inner in copy.g.node]
            del copy.g.node[:]
            copy.g.node.extend(nested)
    return bound
