"""The nodes of a file in an order of execution."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import AttributeProto

from graphopt.errors import ModelError
from graphopt.onnx_io.protos import place, title, weight_names


def sorted_nodes(proto: onnx.GraphProto, scope: Collection[str]) -> list[onnx.NodeProto]:
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
        stack = [(start, iter(reads[start]))] if state[start] == 0 else []
        while stack:
            index, left = stack[-1]
            state[index] = 1
            makers = (made_by[name] for name in left if name in made_by)
            other = next((maker for maker in makers if state[maker] != 2), None)
            if other is None:
                _check_inputs(proto.node[index], made_by, scope)
                state[index] = 2
                order.append(proto.node[index])
                stack.pop()
            elif state[other] == 1:
                names = ", ".join(f"'{title(proto.node[i])}'" for i, _ in stack[-8:])
                raise ModelError(f"the graph has a cycle through {names}", hint="a graph must be acyclic")
            else:
                stack.append((other, iter(reads[other])))
    return order


def _check_inputs(node: onnx.NodeProto, made_by: Collection[str], scope: Collection[str]) -> None:
    for name in node.input:
        if name and name not in made_by and name not in scope:
            raise ModelError(f"nothing computes its input '{name}'", where=place(node))


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those its nested graphs capture included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            local = {v.name for v in attribute.g.input} | weight_names(attribute.g)
            local.update(name for inner in attribute.g.node for name in inner.output)
            for inner in attribute.g.node:
                names.extend(name for name in _reads(inner) if name not in local)
            names.extend(v.name for v in attribute.g.output if v.name not in local)
    return names
