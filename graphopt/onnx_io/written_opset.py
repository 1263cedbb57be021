"""The opset a graph is written with: the oldest at which each of its nodes reads as it does now.

Run times lag behind the newest version of an operator even where it only admits more types, and older ones end at an
older opset. A node may go back past a version of its operator that needs no adapter on the way in, as long as the
version before knows its attributes, its numbers of inputs and outputs, and their types.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import defs

from graphopt.ir import Graph, Node
from graphopt.onnx_io.check import schema_at
from graphopt.onnx_io.element_types import type_text
from graphopt.onnx_io.upgrade import ADAPTERS, CANONICAL_OPSET

OLDEST_WRITTEN = 13
"""Before it, weights had to be inputs and integers were left out of many operators."""


NEW_VALUES: Mapping[tuple[str, int], Mapping[str, tuple[int | str, ...]]] = {
    ("AveragePool", 19): {"ceil_mode": (1,)},
    ("AveragePool", 22): {"ceil_mode": (1,)},
    ("LpPool", 22): {"ceil_mode": (1,)},
    ("MaxPool", 22): {"ceil_mode": (1,)},
    ("Pad", 19): {"mode": ("wrap",)},
    ("Resize", 19): {"coordinate_transformation_mode": ("half_pixel_symmetric",)},
    ("ScatterElements", 18): {"reduction": ("max", "min")},
    ("ScatterND", 18): {"reduction": ("max", "min")},
}
"""Values of attributes that an operator learnt in a version, or that ONNX got right in it: a last window that
`ceil_mode` opens behind the pads."""


def written_opset(graph: Graph) -> int:
    """The version of the standard operators that a file of `graph` needs."""
    nodes = (node for node in graph.all_nodes() if not node.domain)
    return max((_oldest(node, graph.opset) for node in nodes), default=OLDEST_WRITTEN)


def _oldest(node: Node, opset: int) -> int:
    version = opset
    while version > OLDEST_WRITTEN:
        schema = schema_at(node.op_type, version)
        if schema is None:
            return version
        since = schema.since_version
        if since <= OLDEST_WRITTEN:
            return OLDEST_WRITTEN
        if since > CANONICAL_OPSET:  # the adapters do not know what changed there
            return since
        before = schema_at(node.op_type, since - 1)
        if (node.op_type, since) in ADAPTERS or before is None or not _fits(node, before, since):
            return since
        version = since - 1
    return OLDEST_WRITTEN


def _fits(node: Node, old: defs.OpSchema, since: int) -> bool:
    if old.deprecated or len(node.inputs) > old.max_input or len(node.outputs) > old.max_output:
        return False
    if not set(node.attributes) <= set(old.attributes):
        return False
    if any(node.attr(name) in new for name, new in NEW_VALUES.get((node.op_type, since), {}).items()):
        return False
    return all(
        value is None
        or value.type is None
        or type_text(value.dtype) in parameters[min(k, len(parameters) - 1)].types
        for values, parameters in ((node.inputs, old.inputs), (node.outputs, old.outputs))
        for k, value in enumerate(values)
    )
