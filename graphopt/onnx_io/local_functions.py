"""Functions that a model brings along: put in where they are called, by ONNX's inliner, once that is safe."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import inliner

from graphopt.errors import ModelError
from graphopt.onnx_io.protos import nested_nodes, standard
from graphopt.onnx_io.reasons import plain_reason

LARGEST_FUNCTION = 100_000
"""Nodes; functions that call functions could stand for any number."""

FunctionKey = tuple[str, str, str]
"""Domain, name, overload."""


def function_key(function: onnx.FunctionProto) -> FunctionKey:
    return standard(function.domain), function.name, function.overload


def called_key(node: onnx.NodeProto) -> FunctionKey:
    """The function that the node calls, if there is one."""
    return standard(node.domain), node.op_type, node.overload


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without local functions that computes the same.

    Raises ModelError for functions that call each other in a circle, or that unfold to absurdly many nodes.
    """
    functions = {function_key(f): f for f in model.functions}
    sizes: dict[FunctionKey, int] = {}
    for key, function in functions.items():
        if _inlined_size(key, functions, sizes) > LARGEST_FUNCTION:
            raise ModelError(
                f"its local function '{function.name}' unfolds to more than {LARGEST_FUNCTION} nodes"
            )
    try:
        return inliner.inline_local_functions(_with_defaults(model), convert_version=True)
    except Exception as error:  # raised by C++ without a type of its own
        raise ModelError(f"its local functions cannot be inlined: {plain_reason(error)}") from None


def _with_defaults(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every call gives every attribute: the inliner forgets their defaults."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    functions = {function_key(f): f for f in copy.functions}
    for nodes in (copy.graph.node, *(f.node for f in copy.functions)):
        for node in nested_nodes(nodes):
            called = functions.get(called_key(node))
            given = {attribute.name for attribute in node.attribute}
            for default in called.attribute_proto if called else ():
                if default.name not in given:
                    node.attribute.append(default)
    return copy


def _inlined_size(
    key: FunctionKey,
    functions: Mapping[FunctionKey, onnx.FunctionProto],
    sizes: dict[FunctionKey, int],
    calls: tuple[FunctionKey, ...] = (),
) -> int:
    """How many nodes the function is once the functions it calls are put in. Raises ModelError for a circle."""
    if key in calls:
        path = " -> ".join(name for _, name, _ in (*calls[calls.index(key) :], key))
        raise ModelError(f"local functions call each other in a circle: {path}")
    if key not in sizes:
        sizes[key] = sum(
            _inlined_size(called, functions, sizes, (*calls, key)) if called in functions else 1
            for node in nested_nodes(functions[key].node)
            for called in [called_key(node)]
        )
    return sizes[key]
