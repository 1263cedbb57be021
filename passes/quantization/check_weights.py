"""What weights and biases tell before any of them is quantised: numbers that no scale is for."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir import Node
from graphopt.passes.quantization.layers import weights_of
from graphopt.passes.quantization.operators import PERCEPTIBLE, is_product
from graphopt.passes.quantization.parameters import SMALLEST_SCALE, check_finite

VANISHING = 127 * SMALLEST_SCALE
"""Weights below it are zero on any scale."""

LISTED_AT_MOST = 3


def check_weights(layers: Collection[Node]) -> list[str]:
    """What to tell of weights that are zero, and of biases beyond all data.

    Raises UsageError where all are, where there is no layer, and for constants with NaN or infinity.
    """
    for value in (value for node in layers for value in node.inputs):
        if value is not None and value.constant is not None:
            check_finite(value.constant, f"weights '{value.name}'")
    tensors = [value for node in layers for value in weights_of(node)]
    if not layers:
        raise UsageError("the model has no layer to quantise", hint="it has no convolution or matrix product")
    zeros = [
        value
        for value in tensors
        if value.constant is not None and np.abs(value.constant).max(initial=0.0) < VANISHING
    ]
    if zeros and len(zeros) == len(tensors):
        names = ", ".join(f"'{value.name}'" for value in zeros[:LISTED_AT_MOST])
        more = f" and {len(zeros) - LISTED_AT_MOST} more" if len(zeros) > LISTED_AT_MOST else ""
        hint = "export the trained model"
        raise UsageError(f"all its weights are zero: {names}{more}", where="model", hint=hint)
    notes = [f"weights '{value.name}' are all zero; they get a scale of 1" for value in zeros]
    return notes + [note for node in layers for note in _vast_bias(node)]


def _vast_bias(node: Node) -> Iterator[str]:
    """What to tell of a bias that no sum of products reaches: exact beside it are only zeros."""
    bias = node.input(2) if is_product(node) else None
    if bias is None or bias.constant is None:
        return
    channel = int(np.abs(bias.constant).argmax())
    most = float(bias.constant.flat[channel])
    if abs(most) >= PERCEPTIBLE:
        told = f"bias '{bias.name}' is {most:g} in channel {channel}"
        yield f"{told}, beside which its weights round to zero; is the model trained?"
