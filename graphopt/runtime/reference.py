"""Running a graph with numpy, node by node: slow, simple, and right.

Operators are evaluated by `onnx.reference`, the specification's own implementation; a few that it does too
slowly, or wrong, have a numpy form beside this file. Serves constant folding, numeric verification, and users without
ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from graphopt.errors import UnsupportedError, UsageError
from graphopt.ir import KERNEL, QUANT, Graph, Node, Value
from graphopt.ir.fused import body_of, is_fused
from graphopt.ir.layout import blocked_of
from graphopt.onnx_io.infer import schema_of
from graphopt.onnx_io.protos import attribute_to_proto
from graphopt.runtime.reference_blocked import evaluate_blocked
from graphopt.runtime.reference_conv import conv
from graphopt.runtime.reference_conv_transpose import conv_transpose
from graphopt.runtime.reference_loops import loop, nested, scan
from graphopt.runtime.reference_pool import average_pool, max_pool
from graphopt.runtime.reference_quant import evaluate_quant
from graphopt.runtime.reference_tensor import gather_elements, group_normalization, lrn, one_hot, pad


def run(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph's outputs by name. Raises UsageError for missing inputs."""
    missing = [v.name for v in graph.inputs if v.name not in inputs]
    if missing:
        raise UsageError(f"no value is given for {', '.join(missing)}", hint="give every input by name")
    environment = {value: np.asarray(inputs[value.name]) for value in graph.inputs}
    _execute(graph, environment)
    names = zip(graph.output_names, graph.outputs, strict=True)
    return {name: environment[value] for name, value in names}


def evaluate_node(
    node: Node, operands: Sequence[np.ndarray | None], *, as_declared: bool = True
) -> list[np.ndarray]:
    """The outputs of one node on numpy operands. Raises UnsupportedError for an unknown operator.

    The same when the reference fails on these operands. Results have the types that the graph declares, unless
    `as_declared` is false and operands of other types than it declares stand in for those.
    """
    if is_fused(node):
        body = body_of(node)
        environment = {v: a for v, a in zip(body.inputs, operands, strict=True) if a is not None}
        _execute(body, environment)
        return [environment[value] for value in body.outputs]
    if node.domain == KERNEL:
        return evaluate_blocked(node, operands, evaluate_node)
    if node.domain == QUANT:
        blocked = blocked_of(node.output.type) is not None and node.op_type != "Requantize"
        return evaluate_blocked(node, operands, evaluate_quant) if blocked else evaluate_quant(node, operands)
    own = OWN.get(node.op_type) if not node.domain and len(node.outputs) == 1 else None
    try:
        if own is not None and _first(operands).dtype.kind in NUMBERS:
            return [own(node, operands)]
        results = _evaluator(node).run(None, {f"i{k}": a for k, a in enumerate(operands) if a is not None})
    except UnsupportedError:
        raise
    except Exception as error:  # onnx.reference raises whatever numpy does
        raise UnsupportedError(
            f"the reference evaluator failed: {type(error).__name__}: {error}",
            where=f"node '{node.name}' ({node.key})",
        ) from error
    return [
        np.asarray(result, value.type.dtype.numpy if as_declared and value.type is not None else None)
        for result, value in zip(results, node.outputs, strict=False)
    ]


OWN: Mapping[str, Callable[[Node, Sequence[np.ndarray | None]], np.ndarray]] = {
    "AveragePool": lambda node, operands: average_pool(node, _first(operands)),
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "GatherElements": gather_elements,
    "GroupNormalization": group_normalization,
    "GlobalMaxPool": lambda node, operands: _global_max(_first(operands)),
    "LRN": lrn,
    "MaxPool": lambda node, operands: max_pool(node, _first(operands)),
    "OneHot": one_hot,
    "Pad": pad,
}
"""Operators of one output that onnx.reference does too slowly, or wrong, or not in full."""

NUMBERS = "fiub"
"""Kinds of numpy's own element types; the narrow ones are left to onnx.reference."""


def _first(operands: Sequence[np.ndarray | None]) -> np.ndarray:
    assert operands[0] is not None
    return operands[0]


def _global_max(x: np.ndarray) -> np.ndarray:
    return x.max(axis=tuple(range(2, x.ndim)), keepdims=True)


def random_inputs(
    graph: Graph, seed: int = 0, dims: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """Inputs of the graph's types: normal floats, small non-negative integers, fair booleans.

    `dims` gives symbolic dimensions their numbers. Raises UsageError for one that has none.
    """
    random = np.random.default_rng(seed)
    arrays = {}
    for value in graph.inputs:
        shape = tuple(d if isinstance(d, int) else _dim(value, d, dims or {}) for d in value.shape or ())
        dtype = value.dtype
        if dtype.is_float:
            arrays[value.name] = random.normal(size=shape).astype(dtype.numpy)
        elif dtype.is_integer:
            arrays[value.name] = random.integers(0, 8, shape).astype(dtype.numpy)
        elif dtype.label == "bool":
            arrays[value.name] = random.integers(0, 2, shape).astype(bool)
        else:
            raise UnsupportedError(f"no random {dtype}", where=f"input '{value.name}'")
    return arrays


def _dim(value: Value, symbol: str, dims: Mapping[str, int]) -> int:
    if symbol not in dims:
        raise UsageError(
            f"dimension '{symbol}' is not a number",
            where=f"input '{value.name}' {value.type}",
            hint=f"give its shape with --input-shape {value.name}=...",
        )
    return dims[symbol]


def _execute(graph: Graph, environment: dict[Value, np.ndarray]) -> None:
    """Compute every value of `graph` into `environment`; values nobody reads any more are dropped."""
    for value in graph.constants:
        assert value.constant is not None
        environment[value] = value.constant
    waiting = {v: len(v.uses) + v.outputs_of_graph for v in graph.values()}
    for node in graph.nodes:
        operands = [None if v is None else environment[v] for v in node.inputs]
        results = _control_flow(node, operands, environment) or evaluate_node(node, operands)
        environment.update(zip(node.outputs, results, strict=False))
        for operand in node.inputs:
            if operand is not None and operand in waiting:
                waiting[operand] -= 1
                if not waiting[operand]:
                    del environment[operand]


def _control_flow(
    node: Node, operands: Sequence[np.ndarray | None], environment: Mapping[Value, np.ndarray]
) -> list[np.ndarray] | None:
    """If, Loop and Scan, whose bodies read the enclosing values; None for any other node."""

    def call(body: Graph, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        local = {**environment, **dict(zip(body.inputs, arguments, strict=True))}
        _execute(body, local)
        return [local[value] for value in body.outputs]

    if node.is_op("If"):
        return call(nested(node, "then_branch" if operands[0] else "else_branch"), [])
    if node.is_op("Loop"):
        return loop(node, operands, call)
    if node.is_op("Scan"):
        return scan(node, operands, call)
    if node.subgraphs and not is_fused(node):
        raise UnsupportedError("no reference for it", where=f"node '{node.name}' ({node.key})")
    return None


def _evaluator(node: Node) -> ReferenceEvaluator:
    """A model of the one node, with inputs i0, i1, ..."""
    schema = schema_of(node)
    if schema is None:
        raise UnsupportedError("no reference for it", where=f"node '{node.name}' ({node.key})")
    names = ["" if v is None else f"i{k}" for k, v in enumerate(node.inputs)]
    outputs = [f"o{k}" for k in range(len(node.outputs))]
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=node.name)
    proto.input.extend(names)
    proto.output.extend(outputs)
    for key, value in node.attributes.items():
        declared = schema.attributes.get(key)
        proto.attribute.append(attribute_to_proto(key, value, int(declared.type.value) if declared else None))
    unknown = onnx.TypeProto()
    inputs = [helper.make_value_info(name, unknown) for name in names if name]
    made = helper.make_graph([proto], "node", inputs, [helper.make_value_info(o, unknown) for o in outputs])
    opset = node.graph.opset if node.graph else onnx.defs.onnx_opset_version()
    imports = [helper.make_opsetid("", opset)]
    if node.domain:
        imports.append(helper.make_opsetid(node.domain, 1))
    return ReferenceEvaluator(helper.make_model(made, opset_imports=imports))
