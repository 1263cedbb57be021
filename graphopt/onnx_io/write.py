"""IR to ONNX: at any point of the pipeline, as long as no operator of ours is left besides fused groups."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from graphopt.errors import UnsupportedError
from graphopt.ir import KERNEL, QUANT, Graph, Node, Value
from graphopt.ir.fused import inline_fused
from graphopt.onnx_io.external import finished, move_weights
from graphopt.onnx_io.infer import schema_of
from graphopt.onnx_io.protos import attribute_to_proto, tensor_to_proto, type_to_proto
from graphopt.onnx_io.written_opset import written_opset

LARGEST_MESSAGE = 1_500_000_000
"""Bytes; above it weights go to a file beside the model (protobuf ends at 2 GiB)."""

PRODUCER = "graphopt"
RULE_KEY = "graphopt.rule"
SOURCES_KEY = "graphopt.sources"


def to_model(graph: Graph) -> onnx.ModelProto:
    """The graph as a model of the oldest opset that will do; fused groups are taken apart again.

    Raises UnsupportedError when an operator exists only inside graphopt.
    """
    plain = graph.clone()
    inline_fused(plain)
    for node in plain.all_nodes():
        if node.domain in (QUANT, KERNEL):
            raise UnsupportedError(
                f"{node.key} has no ONNX form",
                where=f"node '{node.name}'",
                hint="export before the pass that made it",
            )
    proto = _graph_proto(plain, top=True)
    imports = [helper.make_opsetid("", written_opset(plain))]
    used = {node.domain for node in plain.all_nodes()} - {""}
    imports += [helper.make_opsetid(d, plain.domains.get(d, 1)) for d in sorted(used)]
    ir_version = helper.find_min_ir_version_for(imports, ignore_unknown=True)
    model = helper.make_model(proto, opset_imports=imports, ir_version=ir_version, producer_name=PRODUCER)
    for key in sorted(plain.metadata):
        model.metadata_props.add(key=key, value=plain.metadata[key])
    return model


def to_bytes(graph: Graph) -> bytes:
    """The graph as the bytes of an ONNX file; the same graph gives the same bytes.

    Raises UnsupportedError when it has more weights than fit one file, or an operator that ONNX lacks.
    """
    model = to_model(graph)
    if _weight_bytes(model) > LARGEST_MESSAGE:
        raise UnsupportedError(
            "its weights do not fit one ONNX file", hint="write_model puts them into a file beside the model"
        )
    return model.SerializeToString(deterministic=True)


def write_model(graph: Graph, path: str | Path) -> None:
    """Write the graph as an ONNX file; a finished file appears at once or not at all.

    Weights that do not fit the file go to `<path>.data` beside it.
    """
    path = Path(path)
    model = to_model(graph)
    if _weight_bytes(model) > LARGEST_MESSAGE:
        data = path.with_name(f"{path.name}.data")
        with finished(data) as beside:
            move_weights(model, beside, data.name)
    with finished(path) as beside:
        beside.write_bytes(model.SerializeToString(deterministic=True))


def _weight_bytes(model: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _graph_proto(graph: Graph, *, top: bool = False) -> onnx.GraphProto:
    names = _output_aliases(graph)
    proto = onnx.GraphProto(name=graph.name)
    for value in graph.inputs:
        proto.input.append(_info(value, value.name))
    for value in graph.constants:
        assert value.constant is not None
        proto.initializer.append(tensor_to_proto(value.constant, value.name))
    for node in graph.nodes:
        proto.node.append(_node_proto(node, names))
        if top:
            proto.value_info.extend(
                _info(v, v.name) for v in node.outputs if v.type is not None and names[v] == v.name
            )
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        if names.get(value, value.name) != name:
            proto.node.append(helper.make_node("Identity", [names.get(value, value.name)], [name]))
        proto.output.append(_info(value, name))
    return proto


def _output_aliases(graph: Graph) -> dict[Value, str]:
    """The name each node output is written under: the graph output's, where it stands behind one alone."""
    names = {value: value.name for node in graph.nodes for value in node.outputs}
    taken = {value.name for value in graph.values()}
    for value, name in zip(graph.outputs, graph.output_names, strict=True):
        if value in names and names[value] == value.name and (name == value.name or name not in taken):
            names[value] = name
    return names


def _node_proto(node: Node, names: dict[Value, str]) -> onnx.NodeProto:
    schema = schema_of(node)
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=node.name)
    inputs = list(node.inputs)
    while inputs and inputs[-1] is None:
        inputs.pop()
    proto.input.extend("" if v is None else names.get(v, v.name) for v in inputs)
    outputs = list(node.outputs)
    left_out = [_unread(value) and _may_be_left_out(schema, index) for index, value in enumerate(outputs)]
    while len(outputs) > 1 and left_out[len(outputs) - 1]:
        outputs.pop()
    for value, is_left_out in zip(outputs, left_out, strict=False):
        proto.output.append("" if schema is not None and is_left_out else names[value])
    for key in sorted(node.attributes):
        value_of = node.attributes[key]
        if isinstance(value_of, Graph):
            proto.attribute.append(helper.make_attribute(key, _nested_proto(value_of, names)))
            continue
        declared = schema.attributes.get(key) if schema else None
        proto.attribute.append(
            attribute_to_proto(key, value_of, int(declared.type.value) if declared else None)
        )
    if node.origin.rule:
        proto.metadata_props.add(key=RULE_KEY, value=node.origin.rule)
        proto.metadata_props.add(key=SOURCES_KEY, value=",".join(node.origin.sources))
    return proto


def _nested_proto(graph: Graph, names: dict[Value, str]) -> onnx.GraphProto:
    proto = _graph_proto(graph)
    renamed = {value.name: name for value, name in names.items() if value.name != name}
    if renamed:
        _rename_reads(proto, renamed)
    return proto


def _rename_reads(proto: onnx.GraphProto, renamed: dict[str, str]) -> None:
    """Captured values may be written under the name of a graph output."""
    for node in proto.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_reads(attribute.g, renamed)


def _may_be_left_out(schema: onnx.defs.OpSchema | None, index: int) -> bool:
    """Output `index` of an operator; of those that a Split, a Scan or an If has, the number says something."""
    return schema is None or index < len(schema.outputs) and _is_optional(schema.outputs[index])


def _is_optional(parameter: onnx.defs.OpSchema.FormalParameter) -> bool:
    return parameter.option == onnx.defs.OpSchema.FormalParameterOption.Optional


def _unread(value: Value) -> bool:
    return not value.uses and not value.is_graph_output


def _info(value: Value, name: str) -> onnx.ValueInfoProto:
    info = onnx.ValueInfoProto(name=name)
    if value.type is not None:
        info.type.CopyFrom(type_to_proto(value.type))
    return info
