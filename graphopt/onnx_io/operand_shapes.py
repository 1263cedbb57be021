"""Do the operands' shapes fit each other where ONNX's inference takes it for granted?

A bias longer than its channels, or weights smaller than the kernel that a node states, would make compiled code
read and write beside its tensors. `wanted_shapes` has the rules; a dimension that is not known fits any.
"""

from __future__ import annotations

from graphopt.errors import IRError
from graphopt.ir import Node, TensorType
from graphopt.onnx_io.wanted_shapes import RULES, Shape


def check_operand_shapes(node: Node, result: Shape | None) -> None:
    """`result` is the shape of the first output. Raises IRError naming the operand."""
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
