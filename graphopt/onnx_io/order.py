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
                    names = ", ".join(f"'{title(proto.node[i])}'" for i in stack[-8:])
                    raise ModelError(f"the graph has a cycle through {names}", hint="a graph must be acyclic")
            if waiting:
                stack.extend(waiting[:1])
                continue
            for name in proto.node[index].input:
                if name and name not in made_by and name not in scope:
                    node = proto.node[index]
                    raise ModelError(f"nothing computes its input '{name}'", where=place(node))
            state[index] = 2
            order.append(proto.node[index])
            stack.pop()
    return order


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those its nested graphs capture included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            local = {v.name for v in attribute.g.input} | weight_names(attribute.g)
            for inner in attribute.g.node:
                names.extend(name for name in _reads(inner) if name not in local)
                local.update(inner.output)
            names.extend(v.name for v in attribute.g.output if v.name not in local)
    return names
