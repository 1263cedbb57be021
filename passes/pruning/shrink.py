"""Units of channels taken out of a graph: constants sliced, attributes and shapes written anew.

    shrink(graph, {group: units that go})

What is left is an ordinary smaller graph. Where a group is not coupled it computes what the old one does with the same
slices of its constants made zero (`masked`), as far as zeros stay zeros on the way.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphopt.analysis.groups.find import Group
from graphopt.analysis.groups.links import Dimension
from graphopt.errors import IRError
from graphopt.ir import Graph, Node, Use, Value
from graphopt.onnx_io.infer import infer_outputs
from graphopt.passes.pruning.attributes import adapt
from graphopt.passes.pruning.kept import Kept

Removal = Mapping[Group, np.ndarray]
"""The units of each group that go, as numbers in ascending order. The groups are those of the graph itself."""


def shrink(graph: Graph, removal: Removal) -> None:
    """Take units out of `graph`, in place. Raises IRError where a group would be left with none."""
    kept = Kept(removed_indices(removal))
    _take_from_constants(graph, kept)
    for node in list(graph.nodes):
        adapt(node, kept)
    for value in graph.values():
        if value.type is not None and value.shape is not None and value.constant is None:
            shape = tuple(kept.size(Dimension(value, axis)) for axis in range(len(value.shape)))
            if shape != value.shape:
                value.type = value.type.with_shape(shape)
    graph.remove_unused_constants()
    for node in graph.nodes:
        _check(node)


def removed_indices(removal: Removal) -> dict[Dimension, np.ndarray]:
    """The indices that go, by dimension. Raises IRError for all units of a group."""
    gone: dict[Dimension, np.ndarray] = {}
    for group, units in removal.items():
        if len(np.unique(units)) >= group.size:
            raise IRError(f"all {group.size} of its channels would go", where=f"group '{group.name}'")
        if not len(units):
            continue
        for stretch in group.stretches:
            before = gone.get(stretch.dimension, np.empty(0, np.int64))
            gone[stretch.dimension] = np.union1d(before, stretch.indices[np.asarray(units)].ravel())
    return gone


def masked(graph: Graph, removal: Removal) -> None:
    """Make zero, in place, what `shrink` takes out of constants."""
    gone = removed_indices(removal)
    for holder, axes in _constants(gone).items():
        value = holder.node.inputs[holder.index]
        assert value is not None and value.constant is not None and holder.node.graph is not None
        data = value.constant.copy()
        for axis, indices in axes.items():
            data[(slice(None),) * axis + (indices,)] = 0
        holder.node.set_input(holder.index, holder.node.graph.add_constant(data, value.name))


def _take_from_constants(graph: Graph, kept: Kept) -> None:
    """What one constant keeps for several nodes stays one constant."""
    made: dict[tuple, Value] = {}
    for holder, axes in _constants(kept.gone).items():
        value = holder.node.inputs[holder.index]
        assert value is not None and value.constant is not None
        key = (value, *((axis, indices.tobytes()) for axis, indices in sorted(axes.items())))
        if key not in made:
            data = value.constant
            for axis, indices in axes.items():
                data = np.delete(data, indices, axis)
            made[key] = graph.add_constant(np.ascontiguousarray(data), value.name)
        holder.node.set_input(holder.index, made[key])


def _constants(gone: Mapping[Dimension, np.ndarray]) -> dict[Use, dict[int, np.ndarray]]:
    """What goes of each constant operand, by axis."""
    found: dict[Use, dict[int, np.ndarray]] = {}
    for dimension, indices in gone.items():
        if isinstance(dimension.holder, Use):
            found.setdefault(dimension.holder, {})[dimension.axis] = indices
    return found


def _check(node: Node) -> None:
    """Raise IRError where the operator, fed with what is left, would return another shape than was worked out."""
    for value, type in zip(node.outputs, infer_outputs(node), strict=True):
        if type is None or type.shape is None or value.shape is None:
            continue
        if len(type.shape) != len(value.shape) or any(
            isinstance(a, int) and isinstance(b, int) and a != b
            for a, b in zip(type.shape, value.shape, strict=True)
        ):
            told = f"its output would be {type.shape}, not {value.shape}"
            raise IRError(told, where=f"node '{node.name}' ({node.key})")
