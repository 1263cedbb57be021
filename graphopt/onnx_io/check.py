"""Does every node keep its operator's specification: domain, name, numbers of inputs and outputs, attributes?

Asked of the protobuf message before anything else looks at it, because ONNX's inference and inlining, written in
C++, take these rules for granted. Element types and shapes are checked later, by inference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import AttributeProto, defs

from graphopt.errors import ModelError, UnsupportedError, did_you_mean
from graphopt.ir import KERNEL, QUANT
from graphopt.onnx_io.local_functions import FunctionKey, called_key, function_key
from graphopt.onnx_io.protos import GRAPH_KINDS, place, standard

DEEPEST_NESTING = 24
"""Graphs inside graphs; protobuf itself ends at a hundred messages inside each other."""


def check_model(model: onnx.ModelProto, versions: Mapping[str, int]) -> None:
    """Check every node of the graph, of nested graphs and of local functions; `versions` are those imported.

    Raises ModelError naming the node, UnsupportedError for attributes that no operator here can hold.
    """
    functions = {function_key(f): f for f in model.functions}
    check_texts(model)
    Rules(versions, functions).check_graph(model.graph)
    for function in functions.values():
        imports = {standard(entry.domain): entry.version for entry in function.opset_import}
        Rules(imports, functions, frozenset(_parameters(function))).check_function(function)


TERM = rb"[A-Za-z]*(\.\.\.)?[A-Za-z]*"
EQUATION = re.compile(TERM + rb"(," + TERM + rb")*(->" + TERM + rb")?")


@dataclass(frozen=True)
class Rules:
    """What the nodes of one graph or one function may be. `parameters` are the function's attributes."""

    versions: Mapping[str, int]
    functions: Mapping[FunctionKey, onnx.FunctionProto] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()

    def check_graph(self, graph: onnx.GraphProto, depth: int = 0) -> None:
        if depth > DEEPEST_NESTING:
            raise ModelError("graphs are nested too deeply", where=f"graph '{graph.name}'")
        for node in graph.node:
            self.check_node(node, depth)

    def check_function(self, function: onnx.FunctionProto) -> None:
        for node in function.node:
            self.check_node(node, 0)

    def check_node(self, node: onnx.NodeProto, depth: int) -> None:
        where = place(node)
        domain = standard(node.domain)
        if domain in (KERNEL, QUANT):
            raise ModelError(f"the domain '{domain}' is graphopt's own", where=where)
        called = self.functions.get(called_key(node))
        if called is not None:
            _check_call(node, called, where)
        else:
            self._check_operator(node, domain, where)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.type in GRAPH_KINDS else ():
                self.check_graph(graph, depth + 1)

    def _check_operator(self, node: onnx.NodeProto, domain: str, where: str) -> None:
        if domain not in self.versions:
            hint = "add it to the model's opset_import"
            raise ModelError(f"its domain '{domain}' is not imported", where=where, hint=hint)
        version = self.versions[domain]
        schema = schema_at(node.op_type, version, domain)
        if schema is None and domain == "":
            raise ModelError(f"unknown operator {node.op_type}", where=where, hint=_advice(node, version))
        if schema is None:
            return
        newest = schema_at(node.op_type, defs.onnx_opset_version(), domain)
        if schema.deprecated and (newest is None or newest.deprecated):  # GroupNormalization came back
            raise ModelError(f"{node.op_type} is no longer part of opset {version}", where=where)
        _check_counts(node, schema, where)
        self._check_attributes(node, schema, where)

    def _check_attributes(self, node: onnx.NodeProto, schema: defs.OpSchema, where: str) -> None:
        given: set[str] = set()
        for attribute in node.attribute:
            name = attribute.name
            declared = schema.attributes.get(name)
            if name in given:
                raise ModelError(f"attribute '{name}' is given twice", where=where)
            given.add(name)
            if declared is None:
                if name.startswith("__") and name.endswith("__"):
                    continue
                known = ", ".join(sorted(schema.attributes)) or "none"
                hint = did_you_mean(name, schema.attributes, f"{node.op_type} has {known}")
                raise ModelError(f"unknown attribute '{name}'", where=where, hint=hint)
            if attribute.ref_attr_name and attribute.ref_attr_name not in self.parameters:
                raise ModelError(
                    f"attribute '{name}' refers to '{attribute.ref_attr_name}', which is no parameter here",
                    where=where,
                )
            _check_kind(attribute, int(declared.type.value), where)
            if node.op_type == "Einsum" and name == "equation" and not attribute.ref_attr_name:
                _check_equation(attribute.s, where)
        for name, declared in sorted(schema.attributes.items()):
            if declared.required and name not in given:
                raise ModelError(f"attribute '{name}' is missing", where=where)


def check_texts(message: Message, where: str = "") -> None:
    """Raise ModelError for a name that is not UTF-8 (protobuf hands it over as bytes)."""
    for declared, value in message.ListFields():
        many = declared.is_repeated
        if declared.type == FieldDescriptor.TYPE_STRING:
            for text in value if many else (value,):
                if isinstance(text, bytes):
                    raise ModelError(f"{declared.name} {text[:40]!r} is not UTF-8 text", where=where)
        elif declared.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if many else (value,):
                named = isinstance(inner, onnx.NodeProto) and isinstance(inner.name, str)
                check_texts(inner, f"node '{inner.name}'" if named else where)


@lru_cache(maxsize=4096)
def schema_at(op_type: str, version: int, domain: str = "") -> defs.OpSchema | None:
    """The operator as `version` of `domain` specifies it; None when it does not."""
    if not 0 < version < 1 << 31:
        return None
    try:
        return defs.get_schema(op_type, version, domain)
    except (defs.SchemaError, TypeError, UnicodeError):
        return None


def _check_counts(node: onnx.NodeProto, schema: defs.OpSchema, where: str) -> None:
    for kind, count, low, high in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not low <= count <= high:
            wanted = str(low) if low == high else f"{low} or more" if high > 1000 else f"{low} to {high}"
            raise ModelError(f"it has {count} {kind}, {node.op_type} has {wanted}", where=where)
    for index, parameter in enumerate(schema.inputs[: len(node.input)]):
        single = parameter.option == defs.OpSchema.FormalParameterOption.Single
        if single and not node.input[index]:
            raise ModelError(f"its input {index} ('{parameter.name}') is left out", where=where)


def _check_equation(equation: bytes, where: str) -> None:
    """ONNX's inference does not come back from an equation of Einsum with other characters in it."""
    if not EQUATION.fullmatch(equation.replace(b" ", b"")):
        raise ModelError(f"its equation {equation[:80]!r} is none", where=where, hint="such as 'ij,jk->ik'")


def _check_kind(attribute: AttributeProto, wanted: int, where: str) -> None:
    if attribute.type == wanted:
        return
    kinds = AttributeProto.AttributeType
    if attribute.type not in kinds.values():
        raise ModelError(f"attribute '{attribute.name}' has the unknown kind {attribute.type}", where=where)
    raise ModelError(
        f"attribute '{attribute.name}' is {kinds.Name(attribute.type)}, not {kinds.Name(wanted)}", where=where
    )


def _check_call(node: onnx.NodeProto, function: onnx.FunctionProto, where: str) -> None:
    for kind, given, declared in (
        ("inputs", node.input, function.input),
        ("outputs", node.output, function.output),
    ):
        if len(given) > len(declared):
            raise ModelError(
                f"it has {len(given)} {kind}, the function '{function.name}' {len(declared)}", where=where
            )
    known = _parameters(function)
    for attribute in node.attribute:
        if attribute.name not in known:
            raise ModelError(
                f"the function '{function.name}' has no attribute '{attribute.name}'", where=where
            )
        if attribute.type not in AttributeProto.AttributeType.values():
            raise UnsupportedError(f"attribute '{attribute.name}' has an unknown kind", where=where)
    missing = sorted(set(function.attribute) - {attribute.name for attribute in node.attribute})
    if missing:
        raise ModelError(f"attribute '{missing[0]}' is missing", where=where)


def _parameters(function: onnx.FunctionProto) -> set[str]:
    return {*function.attribute, *(attribute.name for attribute in function.attribute_proto)}


def _advice(node: onnx.NodeProto, version: int) -> str:
    newest = schema_at(node.op_type, defs.onnx_opset_version())
    if newest is not None:
        return f"the model uses opset {version}, which does not have it"
    known = {s.name for s in defs.get_all_schemas() if not s.domain}
    meant = did_you_mean(node.op_type, known, "check the spelling and the domain")
    return f"ONNX has no operator of that name at opset {version}; {meant}"
