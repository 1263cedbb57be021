"""Operators of the domain `graphopt.kernel` in numpy.

Those on blocked images are unpacked, computed by their ONNX namesake, packed again; Join and Part move elements in the
order they lie in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphopt.analysis.storage import JOIN, PART
from graphopt.ir import Node
from graphopt.ir.layout import blocked_of, from_blocks, plain_node, to_blocks

Evaluate = Callable[[Node, Sequence[np.ndarray | None]], list[np.ndarray]]


def evaluate_blocked(
    node: Node, operands: Sequence[np.ndarray | None], evaluate: Evaluate
) -> list[np.ndarray]:
    """The outputs of a node on blocked images; `evaluate` computes plain nodes."""
    if node.op_type in (JOIN, PART):
        return [_stretch(node, [a.reshape(-1) for a in operands if a is not None])]
    plain: list[np.ndarray | None] = []
    for value, array in zip(node.inputs, operands, strict=True):
        layout = None if value is None else blocked_of(value.type)
        plain.append(array if layout is None or array is None else from_blocks(array, layout.channels))
    moved = node.op_type in ("Pack", "Unpack")
    results = [a for a in plain[:1] if a is not None] if moved else evaluate(plain_node(node), plain)
    layouts = [blocked_of(value.type) for value in node.outputs]
    return [
        result if layout is None else to_blocks(result, layout.block)
        for result, layout in zip(results, layouts, strict=False)
    ]


def _stretch(node: Node, flat: Sequence[np.ndarray]) -> np.ndarray:
    start, shape = node.int("offset"), node.output.static_shape
    return np.concatenate(flat)[start : start + node.output.size].reshape(shape)
