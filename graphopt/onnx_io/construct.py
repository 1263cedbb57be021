"""Filling a Graph from a GraphProto: names to values, nodes in order, nested graphs, constants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, helper

from graphopt.errors import IRError, ModelError, UnsupportedError
from graphopt.ir import Attribute, Graph, Origin, TensorType, Value
from graphopt.onnx_io.external import read_sparse, read_tensor
from graphopt.onnx_io.infer import schema_of
from graphopt.onnx_io.protos import type_from_proto
from graphopt.onnx_io.upgrade import Draft, upgrade
from graphopt.rewrite.builder import Builder

DEEPEST_NESTING = 32

STANDARD = ("", "ai.onnx")

Scope = dict[str, Value]


class Construction:
    """One import. `types` holds inferred types by the model's own value names."""

    def __init__(
        self, graph: Graph, opset: int, folder: Path | None, types: Mapping[str, TensorType]
    ) -> None:
        self.graph = graph
        self.opset = opset
        self.folder = folder
        self.types = types

    def fill(self, proto: onnx.GraphProto, typed: onnx.GraphProto) -> None:
        """Add everything in `proto`; the inputs' types are those of `typed`, which is specialised."""
        inputs = {value.name: value for value in typed.input}
        self._fill(self.graph, proto, {}, inputs, depth=0)

    def _fill(
        self,
        graph: Graph,
        proto: onnx.GraphProto,
        outer: Scope,
        inputs: Mapping[str, onnx.ValueInfoProto],
        depth: int,
    ) -> None:
        if depth > DEEPEST_NESTING:
            raise ModelError("graphs are nested too deeply", where=f"graph '{proto.name}'")
        scope: Scope = dict(outer)
        weights = self._weights(proto)
        for value in proto.input:
            if value.name in weights:
                continue
            type = type_from_proto(inputs.get(value.name, value).type, f"input '{value.name}'")
            if type is None and depth == 0:
                raise ModelError("its element type is missing", where=f"input '{value.name}'")
            self._define(scope, outer, value.name, graph.add_input(value.name, type), "input")
        for name, data in weights.items():
            self._define(scope, outer, name, graph.add_constant(data, name), "tensor")
        for node in sorted_nodes(proto, scope):
            self._add(graph, node, scope, outer, depth)
        for output in proto.output:
            if output.name not in scope:
                raise ModelError("nothing computes it", where=f"output '{output.name}'")
            value_out = scope[output.name]
            if value_out.graph is not graph:
                value_out = graph.add("Identity", [value_out], types=[value_out.type]).output
            if value_out.type is None:
                value_out.type = type_from_proto(output.type, f"output '{output.name}'")
            if output.name in graph.output_names:
                raise ModelError("two outputs have this name", where=f"output '{output.name}'")
            graph.add_output(value_out, output.name)

    def _weights(self, proto: onnx.GraphProto) -> dict[str, np.ndarray]:
        weights: dict[str, np.ndarray] = {}
        for tensor in proto.initializer:
            if tensor.name in weights:
                raise ModelError("two tensors have this name", where=f"tensor '{tensor.name}'")
            weights[tensor.name] = read_tensor(tensor, self.folder)
        for sparse in proto.sparse_initializer:
            weights[sparse.values.name] = read_sparse(sparse, self.folder)
        return weights

    def _define(self, scope: Scope, outer: Scope, name: str, value: Value, kind: str) -> None:
        if name in scope and name not in outer:
            raise ModelError("two values have this name", where=f"{kind} '{name}'")
        scope[name] = value

    def _add(self, graph: Graph, node: onnx.NodeProto, scope: Scope, outer: Scope, depth: int) -> None:
        domain = "" if node.domain in STANDARD else node.domain
        where = f"node '{node.name or (node.output[0] if node.output else '?')}' ({node.op_type})"
        if domain == "" and node.op_type == "Constant":
            value = graph.add_constant(self._constant(node, where), node.output[0])
            self._define(scope, outer, node.output[0], value, "constant")
            return
        operands = [scope[name] if name else None for name in node.input]
        attributes = {a.name: self._attribute(graph, a, scope, depth, where) for a in node.attribute}
        name = node.name or f"{node.op_type}:{node.output[0] if node.output else ''}"
        origin = Origin("", (name,))
        build = Builder(graph, None, origin)
        draft = Draft(node.op_type, operands, attributes, len(node.output), name, build)
        try:
            if domain == "":
                upgrade(draft, self.opset)
            outputs = self._emit(graph, draft, node, domain, origin)
        except IRError as error:
            raise ModelError(error.what, where=error.where or where) from None
        except (KeyError, TypeError, ValueError, AssertionError, AttributeError, IndexError) as error:
            raise ModelError(f"its attributes or inputs are wrong: {error}", where=where) from None
        for output_name, value in zip(node.output, outputs, strict=True):
            if output_name:
                self._define(scope, outer, output_name, value, "value")

    def _emit(
        self, graph: Graph, draft: Draft, node: onnx.NodeProto, domain: str, origin: Origin
    ) -> tuple[Value, ...]:
        names = list(node.output)
        if draft.after:
            names[0] = ""
        made = graph.add(
            draft.op_type,
            draft.inputs,
            draft.attributes,
            types=[self.types.get(n) if n else None for n in names],
            domain=domain,
            name=draft.name,
            output_names=names,
            origin=origin,
        )
        self._check_known(made.key, schema_of(made) is not None, domain, draft.where)
        outputs = list(made.outputs)
        if draft.after:
            outputs[0] = draft.after(outputs[0])
            if outputs[0].name != node.output[0]:
                graph.rename(outputs[0], node.output[0])
            outputs[0].type = self.types.get(node.output[0], outputs[0].type)
        return tuple(outputs)

    def _check_known(self, key: str, known: bool, domain: str, where: str) -> None:
        if not known and domain == "":
            hint = (
                f"ONNX has no operator of that name at opset {self.opset}; check the spelling and the domain"
            )
            raise ModelError(f"unknown operator {key}", where=where, hint=hint)

    def _constant(self, node: onnx.NodeProto, where: str) -> np.ndarray:
        if len(node.attribute) != 1 or len(node.output) != 1:
            raise ModelError("a Constant has exactly one value", where=where)
        attribute = node.attribute[0]
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

    def _attribute(
        self, graph: Graph, proto: AttributeProto, scope: Scope, depth: int, where: str
    ) -> Attribute:
        if proto.type == AttributeProto.GRAPH:
            nested = Graph(proto.g.name or proto.name, opset=graph.opset, parent=graph)
            self._fill(nested, proto.g, scope, {}, depth + 1)
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
        kind = AttributeProto.AttributeType.Name(proto.type)
        raise UnsupportedError(f"attribute '{proto.name}' is a {kind}", where=where)


def sorted_nodes(proto: onnx.GraphProto, scope: Mapping[str, Value]) -> list[onnx.NodeProto]:
    """The nodes in an order of execution; the file's own where that is one already.

    Raises ModelError naming the nodes of a cycle, or the value that nothing computes.
    """
    made_by: dict[str, int] = {}
    for index, node in enumerate(proto.node):
        for name in node.output:
            if name and name in made_by:
                raise ModelError("two nodes compute it", where=f"value '{name}'")
            if name:
                made_by[name] = index
    state = [0] * len(proto.node)  # 0: not seen, 1: under way, 2: done
    order: list[onnx.NodeProto] = []
    reads = [_reads(node) for node in proto.node]
    for start in range(len(proto.node)):
        stack = [start]
        while stack:
            index = stack[-1]
            if state[index] == 2:
                stack.pop()
                continue
            state[index] = 1
            waiting = [made_by[n] for n in reads[index] if n in made_by and state[made_by[n]] != 2]
            for other in waiting:
                if state[other] == 1:
                    names = ", ".join(f"'{proto.node[i].name or proto.node[i].op_type}'" for i in stack[-8:])
                    raise ModelError(f"the graph has a cycle through {names}", hint="a graph must be acyclic")
            if waiting:
                stack.extend(waiting[:1])
                continue
            for name in proto.node[index].input:
                if name and name not in made_by and name not in scope:
                    node = proto.node[index]
                    raise ModelError(
                        f"nothing computes its input '{name}'", where=f"node '{node.name}' ({node.op_type})"
                    )
            state[index] = 2
            order.append(proto.node[index])
            stack.pop()
    return order


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those its nested graphs capture included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            local = {v.name for v in attribute.g.input} | {t.name for t in attribute.g.initializer}
            for inner in attribute.g.node:
                names.extend(name for name in _reads(inner) if name not in local)
                local.update(inner.output)
            names.extend(v.name for v in attribute.g.output if v.name not in local)
    return names
