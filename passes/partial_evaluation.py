"""What is known of small values before run time: constants, shapes, and what follows from these alone.

Serves the control flow: whether an If takes a branch, how often a Loop runs.
"""

from __future__ import annotations

import numpy as np

from graphopt.errors import GraphoptError
from graphopt.ir import ONNX, Graph, Node, Value
from graphopt.ir.elements import evaluate, is_numbers
from graphopt.passes.fold_constants import RANDOM
from graphopt.runtime.reference import evaluate_node

LARGEST = 1024
"""Elements; larger values are data, and nothing is known of them."""

Known = dict[Value, np.ndarray | None]
"""What has been found out so far. None: not known."""


def known_value(value: Value | None, known: Known) -> np.ndarray | None:
    """The data of `value`, if it follows from constants, shapes and what `known` says; `known` grows."""
    if value is None:
        return None
    if value not in known:
        known[value] = None
        known[value] = _evaluate(value, known)
    return known[value]


def _evaluate(value: Value, known: Known) -> np.ndarray | None:
    if value.constant is not None:
        return value.constant if value.constant.size <= LARGEST else None
    node = value.producer
    if node is None or node.domain != ONNX or node.subgraphs or node.op_type in RANDOM:
        return None
    if node.op_type in ("Shape", "Size"):
        (elements,) = evaluate(node, {})
        return None if elements is None or not is_numbers(elements) else np.array(elements.tolist(), np.int64)
    operands = [known_value(operand, known) for operand in node.inputs]
    pairs = zip(node.inputs, operands, strict=True)
    if any(operand is not None and data is None for operand, data in pairs):
        return None
    try:
        results = evaluate_node(node, operands)
    except GraphoptError:
        return None
    except Exception:  # onnx.reference raises whatever numpy does
        return None
    result = np.asarray(results[value.index])
    return result if result.size <= LARGEST else None


def trip_count(node: Node, limit: int) -> int | str:
    """How often a Loop runs its body, as far as that is at most `limit`; else the reason why nobody knows.

    A condition that is left out counts as true before the first trip.
    """
    body = node.attr("body")
    assert isinstance(body, Graph)
    outside: Known = {}
    trips, running, *state = (known_value(value, outside) for value in node.inputs)
    if node.input(0) is not None and trips is None:
        return "its trip count is not known"
    if node.input(1) is not None and running is None:
        return "whether it starts is not known"
    go_on = running is None or bool(running)
    wanted = limit + 1 if trips is None else int(trips)
    count = 0
    while go_on and count < wanted:
        if count == limit:
            return f"it runs more than {limit} times"
        known = dict(outside)
        start = [np.asarray(count, np.int64), np.asarray(True), *state]
        known.update(zip(body.inputs, start, strict=True))
        condition = known_value(body.outputs[0], known)
        if condition is None:
            return "whether it goes on depends on data"
        go_on = bool(condition)
        state = [known_value(value, known) for value in body.outputs[1 : 1 + len(state)]]
        count += 1
    return count
