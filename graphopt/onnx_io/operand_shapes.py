"""Do the operands' shapes fit each other where ONNX's inference takes it for granted?

A bias longer than its channels, or weights smaller than the kernel that a node states, would make compiled code
read and write beside its tensors. `wanted_shapes` has the rules; a dimension that is not known fits any.
"""

from __future__ import annotations

from graphopt.errors import IRError
from graphopt.ir import Node, TensorType
from graphopt.onnx_io.wanted_shapes import RULES, Shape

WINDOWED = ("AveragePool", "Conv", "ConvInteger", "DeformConv", "LpPool", "MaxPool", "QLinearConv")

INDEXED = ("Gather", "GatherElements")


def check_operand_shapes(node: Node, result: Shape | None) -> None:
    """`result` is the shape of the first output. Raises IRError naming the operand."""
    _check_window(node, result)
    _check_indices(node)
    rule = RULES.get(node.op_type) if not node.domain else None
    if rule is None:
        return
    shapes = [None if value is None else numbers_of(value.type) for value in node.inputs]
    if None in shapes[:2]:
        return
    for index, wanted in rule(node, shapes, result):
        shape = shapes[index] if index < len(shapes) else None
        if shape is not None and not _fits(shape, wanted):
            operand = node.inputs[index]
            assert operand is not None
            raise IRError(
                f"input {index} ('{operand.name}') is of shape {_text(shape)}, "
                f"{node.op_type} wants {_text(wanted)} beside its other inputs",
                where=f"node '{node.name}' ({node.key})",
            )


def _check_window(node: Node, result: Shape | None) -> None:
    """Inference lets a window that is one too long pass: nothing would come out."""
    x = None if not node.inputs or node.inputs[0] is None else numbers_of(node.inputs[0].type)
    if node.op_type not in WINDOWED or node.domain or x is None or result is None:
        return
    if 0 in result[2:] and 0 not in x[2:]:
        raise IRError(
            f"its window is larger than its input of shape {_text(x)}, pads included",
            where=f"node '{node.name}' ({node.key})",
            hint="give it a larger input, or more pads",
        )


def _check_indices(node: Node) -> None:
    """Constant indices lie on their axis."""
    data, indices = (node.input(0), node.input(1)) if node.is_op(*INDEXED) else (None, None)
    if data is None or data.shape is None or indices is None or indices.constant is None:
        return
    axis = int(node.attributes.get("axis", 0))
    if not indices.constant.size or not -len(data.shape) <= axis < len(data.shape):
        return
    size = data.shape[axis]
    low, high = int(indices.constant.min()), int(indices.constant.max())
    if isinstance(size, int) and not -size <= low <= high < size:
        raise IRError(
            f"it takes element {low if low < -size else high} of an axis of {size} elements",
            where=f"node '{node.name}' ({node.key})",
            hint=f"indices must lie between {-size} and {size - 1}",
        )


def numbers_of(type: TensorType | None) -> Shape | None:
    """The shape with None for symbols; None where the rank is not known."""
    if type is None or type.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in type.shape)


def _fits(shape: Shape, wanted: Shape) -> bool:
    pairs = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(a == b or a is None or b is None for a, b in pairs)


def _text(shape: Shape) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]"
