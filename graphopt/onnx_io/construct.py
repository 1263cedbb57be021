"""Filling a Graph from a GraphProto: names to values, nodes in order, nested graphs, constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, helper

from graphopt.errors import IRError, ModelError, UnsupportedError
from graphopt.ir import Attribute, Graph, Origin, TensorType, Value, is_unnamed
from graphopt.ir.elements import Elements
from graphopt.onnx_io.draft import Draft
from graphopt.onnx_io.element_types import check_types
from graphopt.onnx_io.external import check_dims, read_sparse, read_tensor
from graphopt.onnx_io.infer import infer_node, sharper
from graphopt.onnx_io.order import sorted_nodes
from graphopt.onnx_io.protos import place, standard, type_from_proto
from graphopt.onnx_io.specialise import Specialisation
from graphopt.onnx_io.upgrade import upgrade
from graphopt.rewrite.builder import Builder

Scope = dict[str, Value]


class Construction:
    """One import; `given` are the numbers that symbolic dimensions have been given."""

    def __init__(self, graph: Graph, opset: int, folder: Path | None, given: Specialisation) -> None:
        self.graph = graph
        self.opset = opset
        self.folder = folder
        self.given = given
        self.known: dict[Value, Elements] = {}

    def fill(self, proto: onnx.GraphProto) -> None:
        """Add everything in `proto`."""
        self._fill(self.graph, proto, {})

    def _fill(self, graph: Graph, proto: onnx.GraphProto, outer: Scope) -> None:
        nested = graph is not self.graph
        scope: Scope = dict(outer)
        weights = self._weights(proto)
        for info in proto.input:
            if info.name in weights:
                continue
            where = f"input '{info.name}'"
            type = self._declared(info, where, is_input=not nested)
            if type is None and not nested:
                raise ModelError("its element type is missing", where=where)
            self._claim(scope, outer, info.name, "input")
            scope[info.name] = graph.add_input(info.name, type, unique=nested)
        for name, data in weights.items():
            self._claim(scope, outer, name, "tensor")
            scope[name] = graph.add_constant(data, name)
        declared = {info.name: info for info in (*proto.value_info, *proto.output)}
        for node in sorted_nodes(proto, scope):
            self._add(graph, node, scope, outer, declared)
        for info in proto.output:
            self._add_output(graph, info, scope)

    def _add_output(self, graph: Graph, info: onnx.ValueInfoProto, scope: Scope) -> None:
        where = f"output '{info.name}'"
        if info.name not in scope:
            raise ModelError("nothing computes it", where=where)
        if info.name in graph.output_names:
            hint = "list it once, or add an Identity that gives the second a name of its own"
            raise ModelError("two outputs have this name", where=where, hint=hint)
        value = scope[info.name]
        if value.graph is not graph:
            value = graph.add("Identity", [value], types=[value.type]).output
        if value.type is None:
            value.type = self._declared(info, where)
        graph.add_output(value, info.name)

    def _declared(
        self, info: onnx.ValueInfoProto, where: str, *, is_input: bool = False
    ) -> TensorType | None:
        """The type a graph gives a value, with the numbers of known symbols."""
        type = type_from_proto(info.type, where)
        if type is None:
            return None
        type = self.given.of_input(info.name, type) if is_input else self.given.of(type)
        check_dims([d for d in type.shape or () if isinstance(d, int) and d], where)
        return type

    def _weights(self, proto: onnx.GraphProto) -> dict[str, np.ndarray]:
        weights: dict[str, np.ndarray] = {}
        for tensor in proto.initializer:
            if tensor.name in weights:
                raise ModelError("two tensors have this name", where=f"tensor '{tensor.name}'")
            weights[tensor.name] = read_tensor(tensor, self.folder)
        for sparse in proto.sparse_initializer:
            name = sparse.values.name
            if name in weights:
                raise ModelError("two tensors have this name", where=f"tensor '{name}'")
            weights[name] = read_sparse(sparse, self.folder)
        return weights

    def _claim(self, scope: Scope, outer: Scope, name: str, kind: str) -> None:
        if not name:
            raise ModelError(f"an {kind} has no name" if kind == "input" else f"a {kind} has no name")
        if name in scope and scope[name] is not outer.get(name):
            raise ModelError("two values have this name", where=f"{kind} '{name}'")

    def _add(
        self,
        graph: Graph,
        node: onnx.NodeProto,
        scope: Scope,
        outer: Scope,
        declared: Mapping[str, onnx.ValueInfoProto],
    ) -> None:
        domain, where = standard(node.domain), place(node)
        for name in node.output:
            if name:
                self._claim(scope, outer, name, "value")
        if domain == "" and node.op_type == "Constant":
            scope[node.output[0]] = graph.add_constant(self._constant(node, where), node.output[0])
            return
        operands = [scope[name] if name else None for name in node.input]
        attributes = {a.name: self._attribute(graph, a, scope, where) for a in node.attribute}
        name = node.name or f"{node.op_type}:{node.output[0] if node.output else ''}"
        origin = Origin("", (name,))
        draft = Draft(
            node.op_type, operands, attributes, list(node.output), name, Builder(graph, None, origin)
        )
        types = [
            self._declared(declared[name], f"value '{name}'") if name in declared else None
            for name in node.output
        ]
        try:
            if domain == "":
                upgrade(draft, self.opset)
            outputs = self._emit(graph, draft, types, domain, origin)
        except IRError as error:
            raise ModelError(error.what, where=error.where or where, hint=error.hint) from None
        except (KeyError, TypeError, ValueError, AssertionError, AttributeError, IndexError) as error:
            raise ModelError(f"its attributes or inputs are wrong: {error}", where=where) from None
        scope.update((name, value) for name, value in zip(node.output, outputs, strict=True) if name)

    def _emit(
        self, graph: Graph, draft: Draft, types: Sequence[TensorType | None], domain: str, origin: Origin
    ) -> list[Value]:
        """Add the drafted node, and what has to follow it; one value for each output of the model's node."""
        made = graph.add(
            draft.op_type,
            draft.inputs,
            draft.attributes,
            types=[None] * len(types),
            domain=domain,
            name=draft.name,
            output_names=["" if index in draft.after else name for index, name in enumerate(draft.outputs)],
            origin=origin,
        )
        check_types(made)
        infer_node(made, self.known)
        outputs = list(made.outputs)
        for index, wrap in draft.after.items():
            outputs[index] = wrap(outputs[index])
            if draft.outputs[index]:
                graph.rename(outputs[index], draft.outputs[index], keep_if_taken=True)
        for value, type in zip(outputs, types, strict=True):
            value.type = _agreed(value, type, draft.where)
            if value.is_static:
                check_dims(value.static_shape, draft.where)
        return outputs

    def _constant(self, node: onnx.NodeProto, where: str) -> np.ndarray:
        if len(node.attribute) != 1 or len(node.output) != 1:
            raise ModelError("a Constant has exactly one value", where=where)
        attribute = node.attribute[0]
        if attribute.ref_attr_name:
            raise ModelError(f"nothing gives its attribute '{attribute.name}' a value", where=where)
        if attribute.name == "value":
            return read_tensor(attribute.t, self.folder)
        if attribute.name == "sparse_value":
            return read_sparse(attribute.sparse_tensor, self.folder)
        value = helper.get_attribute_value(attribute)
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
        if attribute.name in ("value_string", "value_strings"):
            texts = [v.decode("utf-8", "replace") for v in (value if isinstance(value, list) else [value])]
            return np.asarray(texts if isinstance(value, list) else texts[0], object)
        raise ModelError(f"a Constant has no attribute '{attribute.name}'", where=where)

    def _attribute(self, graph: Graph, proto: AttributeProto, scope: Scope, where: str) -> Attribute:
        if proto.ref_attr_name:
            raise ModelError(f"nothing gives its attribute '{proto.name}' a value", where=where)
        if proto.type == AttributeProto.GRAPH:
            nested = Graph(proto.g.name or proto.name, opset=graph.opset, parent=graph)
            self._fill(nested, proto.g, scope)
            return nested
        if proto.type == AttributeProto.TENSOR:
            return read_tensor(proto.t, self.folder)
        if proto.type in (AttributeProto.STRING, AttributeProto.STRINGS):
            texts = [proto.s] if proto.type == AttributeProto.STRING else list(proto.strings)
            decoded = tuple(text.decode("utf-8", "replace") for text in texts)
            return decoded[0] if proto.type == AttributeProto.STRING else decoded
        if proto.type in (AttributeProto.INT, AttributeProto.FLOAT):
            return helper.get_attribute_value(proto)
        if proto.type in (AttributeProto.INTS, AttributeProto.FLOATS):
            return tuple(helper.get_attribute_value(proto))
        kind = AttributeProto.AttributeType.Name(proto.type).lower()
        raise UnsupportedError(f"attribute '{proto.name}' is a {kind}", where=where)


def _agreed(value: Value, declared: TensorType | None, where: str) -> TensorType | None:
    """What inference and the model say together; a shape that the model states wrongly does not count."""
    if value.type is not None and declared is not None and value.type.dtype is not declared.dtype:
        raise ModelError(
            f"its output '{value.name}' is {value.type.dtype}, the model says {declared.dtype}", where=where
        )
    if value.type is None or declared is None or value.type.shape is None or declared.shape is None:
        return sharper(value.type, declared)
    if len(value.type.shape) != len(declared.shape):
        return value.type
    pairs = zip(value.type.shape, declared.shape, strict=True)
    return value.type.with_shape(tuple(stated if is_unnamed(dim) else dim for dim, stated in pairs))
