"""Creates nodes for a rewrite: types inferred, origin stamped, inserted where the old node stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.errors import IRError
from graphopt.ir import ONNX, Graph, Node, Origin, TensorType, Value
from graphopt.ir.nesting import with_nested
from graphopt.onnx_io.infer import infer_node, infer_outputs


class Builder:
    """Adds nodes to `graph` before `before` (None: at the end), all with the same origin."""

    def __init__(self, graph: Graph, before: Node | None, origin: Origin) -> None:
        self.graph = graph
        self.before = before
        self.origin = origin
        self.created: list[Node] = []

    def op(
        self, op_type: str, *inputs: Value | None, domain: str = ONNX, name: str = "", **attributes: Any
    ) -> Value:
        """A node with one output; returns the output."""
        return self.ops(op_type, *inputs, outputs=1, domain=domain, name=name, **attributes)[0]

    def ops(
        self,
        op_type: str,
        *inputs: Value | None,
        outputs: int,
        domain: str = ONNX,
        name: str = "",
        types: tuple[TensorType, ...] | None = None,
        **attributes: Any,
    ) -> tuple[Value, ...]:
        """A node with `outputs` outputs; their types are inferred unless given."""
        node = self.graph.add(
            op_type,
            inputs,
            attributes,
            types=types or (None,) * outputs,
            domain=domain,
            name=name,
            before=self.before,
            origin=self.origin,
        )
        if types is None:
            for value, type in zip(node.outputs, infer_outputs(node), strict=True):
                value.type = type
        self.created.append(node)
        return node.outputs

    def inline(self, body: Graph, arguments: Sequence[Value]) -> tuple[Value, ...]:
        """The outputs of a nested graph for `arguments`: its nodes are copied, with types inferred anew.

        The copies keep their own origin. Raises IRError naming the node of `body` that does not fit the arguments.
        """
        mapping = dict(zip(body.inputs, arguments, strict=True))
        for value in body.constants:
            assert value.constant is not None
            mapping[value] = self.graph.add_constant(value.constant, value.name)
            mapping[value].type = value.type
        for node in body.nodes:
            copy = self.graph.copy_node(node, mapping, before=self.before)
            try:
                infer_node(copy, {})
            except IRError as error:
                raise IRError(error.what, where=f"node '{node.name}' ({node.key})", hint=error.hint) from None
            self.created.extend(with_nested(copy))
        return tuple(mapping.get(value, value) for value in body.outputs)

    def const(
        self,
        data: np.ndarray | np.generic | float | int | list | tuple,
        like: Value | None = None,
        name: str = "const",
    ) -> Value:
        """A constant; `like` gives it that value's element type."""
        array = np.asarray(data)
        if like is not None:
            array = array.astype(like.dtype.numpy)
        return self.graph.add_constant(array, name)

    def shape(self, dims: list[int] | tuple[int, ...], name: str = "shape") -> Value:
        """A constant of int64: axes, shapes, pads."""
        return self.graph.add_constant(np.asarray(dims, dtype=np.int64), name)
