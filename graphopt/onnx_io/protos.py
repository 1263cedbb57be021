"""Between IR values and the small protobuf messages: types, tensors, attributes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from graphopt.errors import ModelError, UnsupportedError
from graphopt.ir import Attribute, Dim, DType, TensorType, fresh_dim, is_unnamed

STANDARD_DOMAINS = ("", "ai.onnx")


GRAPH_KINDS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


def standard(domain: str) -> str:
    """The domain by one name: the standard operators' has two."""
    return "" if domain in STANDARD_DOMAINS else domain


def title(node: onnx.NodeProto) -> str:
    """The name of a node, or else of what it computes."""
    return node.name or next((output for output in node.output if output), "?")


def place(node: onnx.NodeProto) -> str:
    """How messages call a node."""
    return f"node '{title(node)}' ({node.op_type})"


def nested_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type in GRAPH_KINDS:
                for graph in (attribute.g, *attribute.graphs):
                    yield from nested_nodes(graph.node)


def weight_names(graph: onnx.GraphProto) -> set[str]:
    """Names that stand for data of the file, even when the graph lists them among its inputs."""
    return {tensor.name for tensor in graph.initializer} | {
        tensor.values.name for tensor in graph.sparse_initializer
    }


def type_to_proto(type: TensorType, *, keep_unnamed: bool = False) -> onnx.TypeProto:
    """`?`-symbols, which nobody named, become unnamed dimensions, unless they are to be followed."""
    if type.shape is None:
        return helper.make_tensor_type_proto(type.dtype.onnx_code, None)
    dims = [None if is_unnamed(d) and not keep_unnamed else d for d in type.shape]
    return helper.make_tensor_type_proto(type.dtype.onnx_code, dims)


def type_from_proto(proto: onnx.TypeProto, where: str = "") -> TensorType | None:
    """None when the element type is not given. Raises UnsupportedError for anything but a tensor."""
    kind = proto.WhichOneof("value")
    if kind is None:
        return None
    if kind != "tensor_type":
        kind = kind.removesuffix("_type").replace("_", " ")
        article = "an" if kind[0] in "aeiou" else "a"
        raise UnsupportedError(
            f"it is {article} {kind}, not a tensor", where=where, hint="graphopt works on dense tensors alone"
        )
    tensor = proto.tensor_type
    if tensor.elem_type == 0:
        return None
    try:
        dtype = DType.of(tensor.elem_type)
    except KeyError:
        raise ModelError(f"unknown element type {tensor.elem_type}", where=where) from None
    if not tensor.HasField("shape"):
        return TensorType(dtype, None)
    return TensorType(dtype, tuple(_dim_from_proto(d, where) for d in tensor.shape.dim))


def _dim_from_proto(dim: onnx.TensorShapeProto.Dimension, where: str) -> Dim:
    """Exporters write -1 for a dimension they do not know."""
    if dim.HasField("dim_value"):
        if dim.dim_value < -1:
            raise ModelError(f"a dimension is {dim.dim_value}", where=where, hint="export the model again")
        return dim.dim_value if dim.dim_value >= 0 else fresh_dim()
    return dim.dim_param if dim.HasField("dim_param") and dim.dim_param else fresh_dim()


def tensor_to_proto(array: np.ndarray, name: str = "") -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array) if array.ndim else array, name)


def attribute_to_proto(name: str, value: Attribute, type: int | None = None) -> AttributeProto:
    """`type` is the AttributeProto type the schema asks for; it decides for empty tuples and whole floats."""
    data: object = value
    if isinstance(value, np.ndarray):
        data = tensor_to_proto(value)
    elif type == AttributeProto.FLOAT and isinstance(value, int):
        data = float(value)
    elif type == AttributeProto.FLOATS and isinstance(value, tuple):
        data = tuple(float(v) for v in value)
    elif isinstance(value, tuple):
        data = list(value)
    if isinstance(data, list) and not data:
        return helper.make_attribute(name, data, attr_type=type or AttributeProto.INTS)
    return helper.make_attribute(name, data)
