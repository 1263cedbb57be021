"""The typed graph IR: `Graph`, `Node`, `Value`, `TensorType`."""

from graphopt.ir.graph import KERNEL, ONNX, QUANT, Attribute, Graph, Node, Origin, Use, Value
from graphopt.ir.types import Dim, DType, Shape, TensorType, fresh_dim, is_unnamed
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
