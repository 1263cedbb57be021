"""The types of a model as its shape arithmetic tells them, without a change to the model.

ONNX's inference gives up where a shape is computed (Shape, Gather, Concat, Reshape); folding that arithmetic
tells the numbers. Counts of MACs and bytes need them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir import Graph

SHARPEN = "fold-constants,fold-shapes,fold-constants,fold-shapes"


def sharpened(graph: Graph) -> Graph:
    """`graph` itself where every type is static; else a copy whose types are as static as can be told."""
    from graphopt import passes
    from graphopt.pipeline import parse_pipeline

    if all(value.is_static for value in graph.values()):
        return graph
    folded = graph.clone()
    parse_pipeline(SHARPEN, passes.catalog()).run(folded)
    known = {value.name: value.type for value in folded.values() if value.is_static}
    copy = graph.clone()
    for value in copy.values():
        found = known.get(value.name)
        if found is not None and value.type is not None and value.type.accepts(found):
            value.type = found
    return copy
