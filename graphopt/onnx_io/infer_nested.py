"""Output types of If, Loop and Scan, from the types inside their nested graphs."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir import Dim, Graph, Node, TensorType, fresh_dim


def nested_outputs(node: Node) -> tuple[TensorType | None, ...]:
    """The type of each output; None where the nested graphs do not tell it."""
    types: Sequence[TensorType | None] = ()
    if node.is_op("If"):
        branches = [node.attr("then_branch"), node.attr("else_branch")]
        one, other = ([v.type for v in g.outputs] if isinstance(g, Graph) else [] for g in branches)
        types = [joined(a, b) for a, b in zip(one, other, strict=False)]
    elif node.is_op("Loop"):
        types = _loop(node)
    elif node.is_op("Scan"):
        types = _scan(node)
    missing = len(node.outputs) - len(types)
    return (*types, *(None,) * missing)[: len(node.outputs)]


def joined(one: TensorType | None, other: TensorType | None) -> TensorType | None:
    """The type of a value that is either `one` or `other`; None when they have no element type in common."""
    if one is None or other is None or one.dtype is not other.dtype:
        return None
    if one.shape is None or other.shape is None or len(one.shape) != len(other.shape):
        return one.with_shape(None)
    return one.with_shape(
        tuple(a if a == b else fresh_dim() for a, b in zip(one.shape, other.shape, strict=True))
    )


def _loop(node: Node) -> list[TensorType | None]:
    """Carried values keep what all turns agree on; each value collected gets an axis of turns in front."""
    body = node.attr("body")
    if not isinstance(body, Graph):
        return []
    carried = len(node.inputs) - 2
    results = [value.type for value in body.outputs[1:]]
    starts = [None if value is None else value.type for value in node.inputs[2:]]
    states = [joined(a, b) for a, b in zip(starts, results, strict=False)]
    return [*states, *(_with_axis(type, 0, fresh_dim()) for type in results[carried:])]


def _scan(node: Node) -> list[TensorType | None]:
    body = node.attr("body")
    if not isinstance(body, Graph):
        return []
    scanned = node.int("num_scan_inputs")
    carried = len(node.inputs) - scanned
    results = [value.type for value in body.outputs]
    axes = node.ints("scan_output_axes", (0,) * (len(results) - carried))
    length = _scan_length(node, carried)
    rows = [_with_axis(t, a, length) for t, a in zip(results[carried:], axes or (), strict=False)]
    return [*results[:carried], *rows]


def _scan_length(node: Node, carried: int) -> Dim:
    axes = node.ints("scan_input_axes") or (0,) * (len(node.inputs) - carried)
    for value, axis in zip(node.inputs[carried:], axes, strict=False):
        if value is not None and value.shape is not None and -len(value.shape) <= axis < len(value.shape):
            return value.shape[axis]
    return fresh_dim()


def _with_axis(type: TensorType | None, axis: int, size: Dim) -> TensorType | None:
    """`type` with an axis of `size` put in at `axis` of the result."""
    if type is None or type.shape is None:
        return type
    dims = list(type.shape)
    dims.insert(axis if axis >= 0 else len(dims) + 1 + axis, size)
    return type.with_shape(tuple(dims))
