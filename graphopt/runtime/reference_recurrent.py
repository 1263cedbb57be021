"""LSTM and GRU of the domain `graphopt.quant` in numpy, step by step: see `passes/recognize_recurrence.py`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir import Node


def recurrence(node: Node, operands: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """The last states, then the state h after each step."""
    x, weights, bias, scale, *states = (operand for operand in operands if operand is not None)
    kept = np.empty((*x.shape[:2], weights.shape[0]), node.outputs[-1].dtype.numpy)
    bounds = np.iinfo(states[0].dtype)
    for time in times(node, len(x)):
        made, *cell = step(node, x[time], (weights, bias, scale), states)
        whole = np.rint(made / np.float32(node.float("h_scale"))) + node.int("h_zero_point")
        h = np.clip(whole, bounds.min, bounds.max).astype(bounds.dtype)
        kept[time] = h if kept.dtype == h.dtype else made
        states = [h, *cell]
    return [*states, kept]


def times(node: Node, steps: int) -> Sequence[int]:
    """The places along the sequence, in the order of the steps."""
    return range(steps)[::-1] if node.int("reverse") else range(steps)


def step(
    node: Node, x: np.ndarray, product: Sequence[np.ndarray], states: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The state h, not quantised yet, and the cell after a step that reads `x`.

    `product` has the weights, the bias and the scale; of `states` h is quantised.
    """
    weights, bias, scale = product
    h, *cell = states
    centred = h.astype(np.int32) - node.int("h_zero_point")
    sums = (centred.astype(np.float64) @ weights.astype(np.float64) + bias).astype(np.int32)
    recurrent = sums.astype(np.float32) * scale
    if node.op_type == "LSTM":
        return _lstm(x + recurrent, *cell)
    return [_gru(x, recurrent, centred.astype(np.float32) * np.float32(node.float("h_scale")))]


def _lstm(total: np.ndarray, cell: np.ndarray) -> list[np.ndarray]:
    enter, leave, forget, candidate = np.split(total, 4, axis=-1)
    new = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(candidate)
    return [_sigmoid(leave) * np.tanh(new), new]


def _gru(x: np.ndarray, recurrent: np.ndarray, h: np.ndarray) -> np.ndarray:
    ahead, behind = np.split(x, 3, axis=-1), np.split(recurrent, 3, axis=-1)
    update, reset = (_sigmoid(a + b) for a, b in zip(ahead[:2], behind[:2], strict=True))
    candidate = np.tanh(ahead[2] + reset * behind[2])
    return candidate + update * (h - candidate)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """Of exponentials that do not overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x > 0, np.float32(1), small) / (1 + small)
