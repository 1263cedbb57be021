"""Scales that quantise nothing are refused with the file.

A scale of zero would be divided by, one that is negative, infinite or NaN means nothing, and what is below float32's
normal numbers is zero to processors that flush denormals. The scale is a constant nearly always; what is computed
cannot be checked.
"""

from __future__ import annotations

import numpy as np

from graphopt.errors import ModelError
from graphopt.ir import Graph

SCALES = {
    "QuantizeLinear": (1,),
    "DequantizeLinear": (1,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "com.microsoft::QLinearAdd": (1, 4, 6),
    "com.microsoft::QLinearMul": (1, 4, 6),
}
"""Operator -> its inputs that are scales."""

SMALLEST = np.finfo(np.float32).tiny


def check_scales(graph: Graph) -> None:
    """Raise ModelError naming the first constant scale that is no positive, normal number."""
    for node in graph.all_nodes():
        for index in SCALES.get(node.key, ()):
            value = node.input(index)
            if value is None or value.constant is None or not value.dtype.is_float:
                continue
            numbers = value.constant.astype(np.float32).reshape(-1)
            bad = numbers[~((numbers >= SMALLEST) & (numbers < np.inf))]
            if bad.size:
                raise ModelError(
                    f"scale '{value.name}' of node '{node.name}' ({node.key}) is {bad[0]:g}",
                    hint="a scale is a positive number that float32 holds in full; quantise the model again",
                )
