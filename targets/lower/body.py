"""A fused body as one TensorIR function."""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import QUANT, Graph, Node, Value
from graphopt.targets.lower.support import ELEMENTWISE, is_supported, where
from graphopt.targets.lower.tables import LOWERINGS, OPAQUE
from graphopt.targets.lower.tensors import Expr, copied, literal, narrowed, placeholder
from graphopt.targets.requantize import apart, is_added

FLAT = ELEMENTWISE - {"Dropout"}
"""Operators whose kernels look at no axis; those that quantise do so only where scales are no single numbers."""

LARGEST_LITERAL = 64
"""Elements; a constant inside a body that is read as data, not as a shape, becomes selects up to this size."""


def lower(body: Graph) -> tirx.PrimFunc:
    """See `graphopt.targets.lower.lower_body`."""
    if not any(value.size for value in body.outputs):
        raise UnsupportedError(
            "its outputs have no elements, so there is nothing to compute", where=body.name
        )
    nodes = list(body.nodes)
    if len(nodes) == 1 and nodes[0].key in OPAQUE:
        _check(nodes[0])
        return OPAQUE[nodes[0].key](nodes[0]).with_attr("tirx.is_scheduled", True)
    shape = (body.outputs[0].size,) if _is_flat(body) else None
    tensors = {value: placeholder(value, f"p{index}", shape) for index, value in enumerate(body.inputs)}
    parameters = list(tensors.values())
    exact = any(node.domain == QUANT or node.op_type == "DequantizeLinear" for node in nodes)
    for node in nodes:
        _lower_node(node, tensors)
        if exact and is_added(node):  # a product of quantised numbers is rounded by itself
            product = tensors[node.output]
            tensors[node.output] = te.compute(product.shape, _apart(product), name="product")
    return te.create_prim_func([*parameters, *_results(body, tensors)])


def _is_flat(body: Graph) -> bool:
    """All tensors have the same elements in the same places, so that one axis tells them.

    Rows that are no whole number of vectors long then need no arithmetic on indices.
    """
    shape = body.outputs[0].static_shape
    tensors = (*body.inputs, *body.outputs, *(value for node in body.nodes for value in node.outputs))
    return (
        len(shape) > 1
        and all(not node.domain and node.op_type in FLAT for node in body.nodes)
        and all(value.static_shape == shape for value in tensors)
        and all(value.static_shape == () for value in body.constants)
    )


def _lower_node(node: Node, tensors: dict[Value, te.Tensor]) -> None:
    _check(node)
    if node.key not in LOWERINGS:
        raise UnsupportedError("its kernel cannot be fused with other operators", where=where(node))
    inputs = [None if v is None else _read(v, tensors) for v in node.inputs]
    outputs = LOWERINGS[node.key](node, inputs)
    for value, tensor in zip(node.outputs, outputs if isinstance(outputs, list) else [outputs], strict=False):
        tensors[value] = narrowed(tensor, value.dtype)


def _apart(product: te.Tensor) -> Callable[..., Expr]:
    return lambda *i: apart(product(*i))


def _check(node: Node) -> None:
    reason = is_supported(node)
    if reason is not None:
        raise UnsupportedError(reason, where=where(node))


def _read(value: Value, tensors: dict[Value, te.Tensor]) -> te.Tensor | None:
    """The tensor of a value; None for a constant that is too large to be anything but a structural operand."""
    if value not in tensors and value.constant is not None and 0 < value.constant.size <= LARGEST_LITERAL:
        tensors[value] = literal(value.constant, value.dtype, "constant")
    return tensors.get(value)


def _results(body: Graph, tensors: dict[Value, te.Tensor]) -> list[te.Tensor]:
    """A tensor of its own for each output: an input, or a tensor that is two outputs, is copied."""
    taken = set(body.inputs)
    results: list[te.Tensor] = []
    for value in body.outputs:
        tensor = _read(value, tensors)
        assert tensor is not None
        if value in taken or any(tensor.same_as(t) for t in results):
            tensor = copied(tensor)
        results.append(tensor)
    return results
