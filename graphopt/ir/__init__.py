"""The typed graph IR: `Graph`, `Node`, `Value`, `TensorType`."""

from graphopt.ir.attributes import Attribute
from graphopt.ir.graph import KERNEL, ONNX, QUANT, Graph, Node
from graphopt.ir.origin import Origin
from graphopt.ir.types import Dim, DType, Shape, TensorType, fresh_dim, is_unnamed
from graphopt.ir.value import Use, Value
from graphopt.ir.verify import verify

__all__ = [
    "KERNEL",
    "ONNX",
    "QUANT",
    "Attribute",
    "DType",
    "Dim",
    "Graph",
    "Node",
    "Origin",
    "Shape",
    "TensorType",
    "Use",
    "Value",
    "fresh_dim",
    "is_unnamed",
    "verify",
]
