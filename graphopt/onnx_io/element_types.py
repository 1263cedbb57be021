"""Are the operands' element types the ones the operator takes, and equal where it wants them equal?"""

from __future__ import annotations

from functools import lru_cache

import onnx
from onnx import defs

from graphopt.errors import IRError
from graphopt.ir import DType, Node
from graphopt.onnx_io.infer import schema_of

LISTED_AT_MOST = 6


def check_types(node: Node) -> None:
    """Raises IRError naming the operand. Says nothing of operators that onnx does not know."""
    schema = schema_of(node)
    if schema is None:
        return
    first: dict[str, int] = {}
    for index, value in enumerate(node.inputs):
        if value is None or value.type is None:
            continue
        parameter = schema.inputs[min(index, len(schema.inputs) - 1)]
        operand, where = f"input {index} ('{value.name}')", f"node '{node.name}' ({node.key})"
        if type_text(value.dtype) not in parameter.types:
            raise IRError(
                f"{operand} is {value.dtype}, {node.op_type} takes {_listed(parameter)}",
                where=where,
                hint="a Cast in front of it changes the type",
            )
        if not parameter.is_homogeneous or parameter.type_str not in schema_variables(schema):
            continue
        other = node.inputs[first.setdefault(parameter.type_str, index)]
        if other is not None and other.dtype is not value.dtype:
            raise IRError(
                f"{operand} is {value.dtype}, input {first[parameter.type_str]} ('{other.name}') {other.dtype}; "
                f"{node.op_type} wants one type",
                where=where,
                hint="a Cast in front of it changes the type",
            )


def schema_variables(schema: defs.OpSchema) -> set[str]:
    """Names such as `T` that stand for one type in all the places that use them."""
    return {constraint.type_param_str for constraint in schema.type_constraints}


@lru_cache
def type_text(dtype: DType) -> str:
    """`tensor(float)`: how ONNX's specifications write a type."""
    return f"tensor({onnx.TensorProto.DataType.Name(dtype.onnx_code).lower()})"


def _listed(parameter: defs.OpSchema.FormalParameter) -> str:
    labels = [dtype.label for dtype in DType if type_text(dtype) in parameter.types]
    more = f" and {len(labels) - LISTED_AT_MOST} more" if len(labels) > LISTED_AT_MOST else ""
    return ", ".join(labels[:LISTED_AT_MOST]) + more
