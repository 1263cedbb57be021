"""Operators of the domain `graphopt.quant` in numpy: exact sums of integers, and their requantisation in fixed point.

Sums run in float64, which holds every integer that int32 does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.errors import UnsupportedError
from graphopt.ir import Node
from graphopt.runtime.fixed_point import requantized
from graphopt.runtime.reference_conv import conv
from graphopt.runtime.reference_conv_transpose import conv_transpose
from graphopt.runtime.reference_pool import sum_pool
from graphopt.runtime.reference_recurrent import recurrence

Operands = Sequence[np.ndarray | None]


def evaluate_quant(node: Node, operands: Operands) -> list[np.ndarray]:
    """The outputs of a node of the domain `graphopt.quant` on plain tensors."""
    if node.op_type == "MatMul":
        return [_as_sums(_matmul(node, operands))]
    if node.op_type == "Lookup":
        return [_looked_up(operands)]
    if node.op_type == "Conv":
        return [_as_sums(conv(node, _centred(node, operands)))]
    if node.op_type == "ConvTranspose":
        return [_as_sums(conv_transpose(node, _centred(node, operands)))]
    if node.op_type == "SumPool":
        (x,) = _centred(node, operands)
        assert x is not None
        return [_as_sums(sum_pool(node, x))]
    if node.op_type == "Requantize":
        return [_requantized(node, operands)]
    if node.op_type == "Softmax":
        return [_softmax(node, operands)]
    if node.op_type in ("GRU", "LSTM"):
        return recurrence(node, operands)
    raise UnsupportedError("no reference for it", where=f"node '{node.name}' ({node.key})")


def _centred(node: Node, operands: Operands) -> list[np.ndarray | None]:
    """The operands in float64, the first without its zero point."""
    x, *rest = (None if a is None else a.astype(np.float64) for a in operands)
    assert x is not None
    return [x - node.int("x_zero_point"), *rest]


def _matmul(node: Node, operands: Operands) -> np.ndarray:
    a, b, *rest = (None if v is None else v.astype(np.float64) for v in operands)
    assert a is not None and b is not None
    product = np.matmul(a - node.int("a_zero_point"), b - node.int("b_zero_point"))
    return product + rest[0] if rest and rest[0] is not None else product


def _looked_up(operands: Operands) -> np.ndarray:
    """A table holds the results in the order of the bits of what is looked up."""
    x, table = operands[0], operands[1]
    assert x is not None and table is not None
    return table[x.view(np.uint8)]


def _requantized(node: Node, operands: Operands) -> np.ndarray:
    x, multiplier, *rest = operands
    assert x is not None and multiplier is not None
    result = node.output.dtype.numpy
    within = np.iinfo(result.name)
    low, high = node.int("low", int(within.min)), node.int("high", int(within.max))
    shift = rest[0] if rest else None
    zero = node.int("zero_point")
    return requantized(x, multiplier, shift, zero_point=zero, low=low, high=high).astype(result)


def _softmax(node: Node, operands: Operands) -> np.ndarray:
    """See `passes/fixed_softmax.py`."""
    x, table = operands[0], operands[1]
    assert x is not None and table is not None
    axis, result = node.int("axis"), node.output.dtype.numpy
    wide = x.astype(np.int64)
    powers = table[wide.max(axis=axis, keepdims=True) - wide].astype(np.int64)
    total = powers.sum(axis=axis, keepdims=True)
    quotient = (node.int("steps") * powers + total // 2) // total
    within = np.iinfo(result.name)
    return np.clip(quotient + node.int("zero_point"), within.min, within.max).astype(result)


def _as_sums(exact: np.ndarray) -> np.ndarray:
    return np.asarray(exact).astype(np.int32)
