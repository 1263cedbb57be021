"""Scales and zero points of weights in as few bits as hold them.

    DequantizeLinear(W, s, 0)  -->  DequantizeLinear(W, Cast(s'))        s' float16, where it holds each s exactly

A scale in float32 and a zero point cost a row of nine 4-bit weights as much as the weights. Scales of few bits are
chosen among the numbers of float16 (`storable`), and a zero point that is zero need not be told. Run times fold the
Cast of a constant before they look for quantised layers. Source of the practice: Frantar et al. 2022, GPTQ.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir import DType, Graph, Node, Origin, Value
from graphopt.rewrite import Builder

FEW = 8
"""Bits of weights below which scales are a part of their size."""

FINE = float(2.0**-20)
"""From here on numbers of float16 are no further apart than a sixteenth of themselves."""


def storable(scale: np.ndarray, bits: int, *, up: bool = False) -> np.ndarray:
    """Scales of weights of so many bits as they are stored, in float32: the next ones, or the next that are no less."""
    wide = scale.astype(np.float32)
    if bits >= FEW:
        return wide
    with np.errstate(over="ignore"):
        half = wide.astype(np.float16)
        if up:
            half = np.where(half < wide, np.nextafter(half, np.float16(np.inf)), half)
    return np.where((wide >= FINE) & np.isfinite(half), half, wide).astype(np.float32)


def narrow_parameters(graph: Graph) -> None:
    """Store the parameters of dequantised constants as narrow as they can be, in place."""
    casts: dict[Value, Value] = {}
    for node in list(graph.all_nodes()):
        integers = node.input(0)
        if not node.is_op("DequantizeLinear") or integers is None or integers.constant is None:
            continue
        zero = node.input(2)
        if zero is not None and zero.constant is not None and not zero.constant.any():
            node.set_input(2, None)
        if integers.dtype.bits < FEW:
            _narrow_scale(node, casts)
    graph.remove_unused_constants()


def _narrow_scale(node: Node, casts: dict[Value, Value]) -> None:
    """One number alone is not worth a node."""
    scale = node.inputs[1]
    assert scale is not None
    if scale not in casts:
        if scale.constant is None or scale.size == 1 or scale.dtype is not DType.float32:
            return
        with np.errstate(over="ignore"):
            half = scale.constant.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), scale.constant):
            return
        assert scale.graph is not None
        build = Builder(scale.graph, next(scale.graph.nodes, None), Origin("quantize", node.origin.sources))
        narrow = build.const(half, name=scale.name)
        casts[scale] = build.op("Cast", narrow, to=DType.float32.onnx_code, name=f"{scale.name}.cast")
    node.set_input(1, casts[scale])
