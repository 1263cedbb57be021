"""Loop and Scan with numpy, around a function that runs the body once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphopt.errors import IRError
from graphopt.ir import Graph, Node, Value

Call = Callable[[Graph, Sequence[np.ndarray]], list[np.ndarray]]
"""The outputs of a body for its arguments."""


def nested(node: Node, name: str) -> Graph:
    """The nested graph of that name. Raises IRError when there is none."""
    body = node.attr(name)
    if not isinstance(body, Graph):
        raise IRError(f"it has no graph '{name}'", where=f"node '{node.name}' ({node.key})")
    return body


def loop(node: Node, operands: Sequence[np.ndarray | None], call: Call) -> list[np.ndarray]:
    """The carried values after the last trip, then one row per trip of every scan output.

    A condition that is left out counts as true before the first trip, as in ONNX Runtime.
    """
    body = nested(node, "body")
    trips, go_on, *carried = operands
    state = [np.asarray(value) for value in carried]
    scanned: list[list[np.ndarray]] = [[] for _ in body.outputs[1 + len(state) :]]
    running = go_on is None or bool(go_on)
    index = 0
    while running and (trips is None or index < int(trips)):
        results = call(body, [np.asarray(index, np.int64), np.asarray(True), *state])
        running = bool(results[0])
        state = results[1 : 1 + len(state)]
        for rows, value in zip(scanned, results[1 + len(state) :], strict=True):
            rows.append(value)
        index += 1
    rows_of = zip(scanned, node.outputs[len(state) :], strict=True)
    return [*state, *(np.stack(rows) if rows else _no_rows(value) for rows, value in rows_of)]


def scan(node: Node, operands: Sequence[np.ndarray | None], call: Call) -> list[np.ndarray]:
    """The state after the last step, then one slice per step of every scan output."""
    body, count = nested(node, "body"), node.int("num_scan_inputs")
    first = len(operands) - count
    state = [np.asarray(value) for value in operands[:first]]
    axes = node.ints("scan_input_axes", (0,) * count) or ()
    backward = node.ints("scan_input_directions", (0,) * count) or ()
    rows = [np.moveaxis(np.asarray(x), axis, 0) for x, axis in zip(operands[first:], axes, strict=True)]
    rows = [x[::-1] if back else x for x, back in zip(rows, backward, strict=True)]
    scanned: list[list[np.ndarray]] = [[] for _ in body.outputs[first:]]
    for step in zip(*rows, strict=True):
        results = call(body, [*state, *step])
        state = results[:first]
        for values, value in zip(scanned, results[first:], strict=True):
            values.append(value)
    made = len(scanned)
    out_axes = node.ints("scan_output_axes", (0,) * made) or ()
    out_backward = node.ints("scan_output_directions", (0,) * made) or ()
    stacks = [
        np.stack(values[::-1] if back else values, axis)
        for values, axis, back in zip(scanned, out_axes, out_backward, strict=True)
    ]
    return [*state, *stacks]


def _no_rows(value: Value) -> np.ndarray:
    if value.type is None or value.shape is None:
        raise IRError("a scan output of no trips has no known shape", where=f"value '{value.name}'")
    rest = [dim if isinstance(dim, int) else 0 for dim in value.shape[1:]]
    return np.zeros((0, *rest), value.dtype.numpy)
