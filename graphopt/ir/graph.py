"""The graph: values in single static assignment, nodes in execution order.

A `Node` applies an ONNX operator. The nodes of a `Graph` always are in a valid order of execution: a rewrite inserts
what it creates before the node it replaces, and the order stays right.

Nested graphs are attributes. The nodes of If, Loop and Scan bodies may use values of the enclosing graph,
their parent, directly; such a value counts those uses too. The body of a fused group stands alone and has no
parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.attributes import Attribute, Attributes
from graphopt.ir.names import NameScope
from graphopt.ir.order import Order
from graphopt.ir.origin import Origin
from graphopt.ir.types import DType, TensorType
from graphopt.ir.value import Use, Value

ONNX = ""
"""The domain of the standard operators."""

QUANT = "graphopt.quant"
"""Integer operators with requantisation."""

KERNEL = "graphopt.kernel"
"""Fused groups and blocked layouts: what the lowering sees."""


class Node(Attributes):
    """One application of an operator. Made by `Graph.add`, never directly."""

    __slots__ = (
        "_inputs",
        "_next",
        "_previous",
        "attributes",
        "domain",
        "graph",
        "name",
        "op_type",
        "origin",
        "outputs",
    )

    def __init__(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Attribute],
        domain: str,
        name: str,
        origin: Origin,
    ) -> None:
        self.op_type = op_type
        self.domain = domain
        self.name = name
        self.origin = origin
        self.attributes: dict[str, Any] = {k: v for k, v in attributes.items() if v is not None}
        self.outputs: tuple[Value, ...] = ()
        self.graph: Graph | None = None
        self._inputs: list[Value | None] = []
        self._previous: Node | None = None
        self._next: Node | None = None
        for value in inputs:
            self._inputs.append(None)
            self.set_input(len(self._inputs) - 1, value)

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """Input values; None stands for an optional input that is left out."""
        return tuple(self._inputs)

    @property
    def output(self) -> Value:
        """The first output."""
        return self.outputs[0]

    @property
    def next(self) -> Node | None:
        return self._next

    @property
    def previous(self) -> Node | None:
        return self._previous

    def input(self, index: int) -> Value | None:
        """Input `index`, or None when it is left out or the node has fewer inputs."""
        return self._inputs[index] if index < len(self._inputs) else None

    def set_input(self, index: int, value: Value | None) -> None:
        """Read `value` at input `index`; inputs between the last one and `index` become None."""
        while index >= len(self._inputs):
            self._inputs.append(None)
        old = self._inputs[index]
        if old is not None:
            del old._uses[id(self), index]
        self._inputs[index] = value
        if value is not None:
            value._uses[id(self), index] = Use(self, index)

    @property
    def key(self) -> str:
        """`Conv`, or `com.microsoft::FusedConv` outside the standard domain."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    @property
    def subgraphs(self) -> tuple[Graph, ...]:
        return tuple(a for a in self.attributes.values() if isinstance(a, Graph))

    def is_op(self, *op_types: str, domain: str = ONNX) -> bool:
        return self.domain == domain and self.op_type in op_types

    def __repr__(self) -> str:
        ins = ", ".join("_" if v is None else f"%{v.name}" for v in self._inputs)
        outs = ", ".join(f"%{v.name}" for v in self.outputs)
        return f"{outs} = {self.key}({ins}) '{self.name}'"


class Graph:
    """A function from `inputs` to `outputs`.

    `output_names` are the names the user knows; the value behind an output may change under rewriting.
    `opset` is the version of the standard operators, `domains` the versions of others.
    """

    def __init__(self, name: str = "main", *, opset: int, parent: Graph | None = None) -> None:
        self.name = name
        self.opset = opset
        self.parent = parent
        self.domains: dict[str, int] = {}
        self.metadata: dict[str, str] = {}
        self.inputs: list[Value] = []
        self.output_names: list[str] = []
        self._outputs: list[Value] = []
        self._constants: dict[Value, None] = {}
        self._order = Order(self)
        self._value_names: NameScope = NameScope(None if parent is None else parent._value_names)
        self._node_names: NameScope = NameScope(None if parent is None else parent._node_names)

    # --- reading ---

    @property
    def nodes(self) -> Iterator[Node]:
        """Nodes in execution order. Removing the node just given, or inserting, is safe on the way."""
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(self._outputs)

    @property
    def constants(self) -> tuple[Value, ...]:
        return tuple(self._constants)

    @property
    def last(self) -> Node | None:
        return self._order.last

    def values(self) -> Iterator[Value]:
        """Inputs, constants, then node outputs in execution order (nested graphs not included)."""
        yield from self.inputs
        yield from self._constants
        for node in self.nodes:
            yield from node.outputs

    def value(self, name: str) -> Value:
        """The value of that name. Raises KeyError."""
        for value in self.values():
            if value.name == name:
                return value
        raise KeyError(name)

    def node(self, name: str) -> Node:
        """The node of that name. Raises KeyError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def all_nodes(self) -> Iterator[Node]:
        """Nodes of this graph and of every nested one; an outer node comes before its nested nodes."""
        for node in self.nodes:
            yield node
            for nested in node.subgraphs:
                yield from nested.all_nodes()

    # --- building ---

    def add_input(self, name: str, type: TensorType | None, *, unique: bool = False) -> Value:
        """A graph input. Raises IRError when the name is taken, unless `unique` lets it be changed."""
        scope = self._value_names
        value = Value(scope.unique(name) if unique else scope.claim(name), type, self)
        self.inputs.append(value)
        return value

    def add_constant(self, data: np.ndarray | float | int | Sequence, name: str = "const") -> Value:
        """A constant. `data` is not copied and must not be changed afterwards."""
        array = np.asarray(data)
        name = self._value_names.unique(name)
        value = Value(name, TensorType(DType.of(array.dtype), array.shape), self)
        value.constant = array
        self._constants[value] = None
        return value

    def add(
        self,
        op_type: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Attribute] | None = None,
        *,
        types: Sequence[TensorType | None] = (None,),
        domain: str = ONNX,
        name: str = "",
        output_names: Sequence[str] = (),
        before: Node | None = None,
        origin: Origin | None = None,
    ) -> Node:
        """Append a node, or insert it before `before`. One output per entry of `types`.

        Names are made unique. Without `origin` the node counts as one of the imported model.
        """
        node_name = self._node_names.unique(name or op_type)
        node = Node(op_type, inputs, attributes or {}, domain, node_name, origin or Origin("", (node_name,)))
        outputs = []
        for index, type in enumerate(types):
            wanted = output_names[index] if index < len(output_names) else ""
            value = Value(self._value_names.unique(wanted or f"{node_name}.{index}"), type, self)
            value.producer = node
            value.index = index
            outputs.append(value)
        node.outputs = tuple(outputs)
        self._order.insert(node, before)
        return node

    def add_output(self, value: Value, name: str = "") -> None:
        self._outputs.append(value)
        self.output_names.append(name or value.name)
        value.outputs_of_graph += 1

    # --- changing ---

    def set_output(self, index: int, value: Value) -> None:
        self._outputs[index].outputs_of_graph -= 1
        self._outputs[index] = value
        value.outputs_of_graph += 1

    def clear_outputs(self) -> None:
        """Forget every output; what only they need is dead code then."""
        for value in self._outputs:
            value.outputs_of_graph -= 1
        self._outputs.clear()
        self.output_names.clear()

    def remove(self, node: Node) -> None:
        """Remove a node whose outputs nobody uses. Raises IRError otherwise."""
        if node.graph is not self:
            raise IRError("it belongs to another graph", where=f"node '{node.name}'")
        for output in node.outputs:
            if output._uses or output.is_graph_output:
                raise IRError(f"its output '{output.name}' is still in use", where=f"node '{node.name}'")
        for nested in node.subgraphs:
            nested.drop()
        for index in range(len(node._inputs)):
            node.set_input(index, None)
        for output in node.outputs:
            self._value_names.release(output.name)
        self._node_names.release(node.name)
        self._order.remove(node)

    def drop(self) -> None:
        """Let go of every value used, before the graph itself is thrown away."""
        self._value_names.detach()
        self._node_names.detach()
        for node in self.nodes:
            for nested in node.subgraphs:
                nested.drop()
            for index in range(len(node._inputs)):
                node.set_input(index, None)

    def move_before(self, node: Node, anchor: Node | None) -> None:
        """Move a node in the order of execution; None: to the end."""
        self._order.remove(node)
        self._order.insert(node, anchor)

    def remove_unused_constants(self) -> int:
        """Forget constants that nobody reads; returns how many."""
        unused = [v for v in self._constants if not v._uses and not v.is_graph_output]
        for value in unused:
            del self._constants[value]
            self._value_names.release(value.name)
        return len(unused)

    def make_constant(self, value: Value, data: np.ndarray) -> None:
        """Turn a graph input into a constant."""
        self.inputs.remove(value)
        value.constant = data
        value.type = TensorType(DType.of(data.dtype), data.shape)
        self._constants[value] = None

    def rename(self, value: Value, name: str, *, keep_if_taken: bool = False) -> None:
        """Give a value another name. Raises IRError when it is taken, unless it may keep the one it has."""
        value.name = self._value_names.exchange(value.name, name, keep_if_taken)

    def rename_node(self, node: Node, name: str, *, keep_if_taken: bool = False) -> None:
        """Give a node another name. Raises IRError when it is taken, unless it may keep the one it has."""
        node.name = self._node_names.exchange(node.name, name, keep_if_taken)

    def clone(self, *, parent: Graph | None = None, outer: Mapping[Value, Value] | None = None) -> Graph:
        """A deep copy that shares the constants' data.

        `outer` maps values of the enclosing graph that nested nodes use; used when a nested graph is cloned.
        """
        copy = Graph(self.name, opset=self.opset, parent=parent)
        copy.domains = dict(self.domains)
        copy.metadata = dict(self.metadata)
        mapping: dict[Value, Value] = dict(outer or {})
        for value in self.inputs:
            mapping[value] = copy.add_input(value.name, value.type, unique=parent is not None)
        for value in self._constants:
            assert value.constant is not None
            mapping[value] = copy.add_constant(value.constant, value.name)
            mapping[value].type = value.type
        for node in self.nodes:
            copy.copy_node(node, mapping)
        for value, name in zip(self._outputs, self.output_names, strict=True):
            copy.add_output(mapping.get(value, value), name)
        return copy

    def copy_node(self, node: Node, mapping: dict[Value, Value], *, before: Node | None = None) -> Node:
        """Add a copy of `node` that reads through `mapping`; the new outputs are added to `mapping`.

        Values that are not in `mapping` are read as they are.
        """
        attributes = {
            key: self._clone_nested(attribute, mapping) if isinstance(attribute, Graph) else attribute
            for key, attribute in node.attributes.items()
        }
        copy = self.add(
            node.op_type,
            [None if v is None else mapping.get(v, v) for v in node.inputs],
            attributes,
            types=[v.type for v in node.outputs],
            domain=node.domain,
            name=node.name,
            output_names=[v.name for v in node.outputs],
            before=before,
            origin=node.origin,
        )
        mapping.update(zip(node.outputs, copy.outputs, strict=True))
        return copy

    # --- inside ---

    def _clone_nested(self, nested: Graph, mapping: dict[Value, Value]) -> Graph:
        if nested.parent is None:  # a fused group's body stands alone
            return nested.clone()
        return nested.clone(parent=self, outer=mapping)

    def __repr__(self) -> str:
        return f"<Graph '{self.name}': {len(self)} nodes>"
