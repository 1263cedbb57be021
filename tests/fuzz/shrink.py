"""A failing model, made as small as it goes while it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
from onnx import helper


def shrunk(model: onnx.ModelProto, fails: Callable[[onnx.ModelProto], bool]) -> onnx.ModelProto:
    """The smallest that greedy cuts find: an output less, or a node whose results become inputs."""
    model = _typed(model)
    while True:
        smaller = next((cut for cut in _cuts(model) if fails(cut)), None)
        if smaller is None:
            return model
        model = smaller


def _cuts(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    outputs, nodes = list(model.graph.output), list(model.graph.node)
    if len(outputs) > 1:
        yield from (_made(model, nodes, [value]) for value in outputs)
    made = {name: number for number, node in enumerate(nodes) for name in node.output}
    last = max((made[value.name] for value in outputs if value.name in made), default=0)
    known = {value.name: value for value in model.graph.value_info}
    read = [name for name in nodes[last].input if name in made and name in known]
    if len(outputs) == 1:
        yield from (_made(model, nodes, [known[name]]) for name in read)
    for number in range(len(nodes) - 1):
        if all(name in known for name in nodes[number].output):
            yield _made(model, nodes[:number] + nodes[number + 1 :], outputs)


def _made(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """`outputs` from as many of `nodes` as they need; what nobody makes any more is an input."""
    needed, kept = {value.name for value in outputs}, []
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.insert(0, node)
            needed |= set(node.input)
    made = {name for node in kept for name in node.output}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    values = {value.name: value for value in (*model.graph.input, *model.graph.value_info)}
    beside = made | {tensor.name for tensor in constants} | {""}
    inputs = [values[name] for name in sorted(needed - beside)]
    graph = helper.make_graph(kept, "fuzz", inputs, outputs, constants)
    whole = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return _typed(whole)


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model)
