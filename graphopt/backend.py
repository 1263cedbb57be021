"""ONNX's own backend interface (`onnx.backend.base.Backend`), so that ONNX's test suite runs on graphopt.

    import graphopt.backend as backend
    rep = backend.prepare(model)
    outputs = rep.run([x])

A library has static shapes, and some ONNX operators take shapes, axes or pads as ordinary inputs. Such
structural operands are therefore bound to the values of the first `run`, and the model is compiled then;
other inputs are never looked at before compilation. Other structural values or shapes compile again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType, namedtupledict

from graphopt.api import compile, load, resolve_pipeline
from graphopt.errors import GraphoptError, UsageError
from graphopt.ir import Graph, Value
from graphopt.ir.structural import structural_inputs
from graphopt.onnx_io.infer import infer_graph
from graphopt.preparation import legalized

BACKEND_PIPELINE = (
    "canonicalize,fold-shapes,fold-constants,inline-branches,fold-shapes,fold-constants,eliminate-dead-code"
)
"""What a case is compiled with: enough to make shapes static, no more, so that kernels do the work."""


class CompiledRep(BackendRep):
    """A model that is compiled at its first run."""

    def __init__(self, model: onnx.ModelProto, pipeline: str = BACKEND_PIPELINE) -> None:
        self._model = model
        self._pipeline = pipeline
        self._graph = load(model)
        self._compiled: dict[tuple, _Compiled] = {}

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run on positional inputs (or a mapping by name); returns the outputs, as a named tuple.

        Raises UsageError for a wrong number of inputs, GraphoptError for what cannot be compiled.
        """
        arrays = self._by_name(inputs)
        compiled = self._compile(arrays)
        outputs = compiled.run(arrays)
        names = self._graph.output_names
        return namedtupledict("Outputs", names)(*(outputs[name] for name in names))

    def is_folded(self, inputs: Any) -> bool:
        """Nothing is left to compute at run time once the structural operands are bound."""
        return self._compile(self._by_name(inputs)).folded

    def _by_name(self, inputs: Any) -> dict[str, np.ndarray]:
        if isinstance(inputs, dict):
            return {name: np.asarray(value) for name, value in inputs.items()}
        values = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
        if len(values) != len(self._graph.inputs):
            raise UsageError(f"{len(values)} inputs given, the model has {len(self._graph.inputs)}")
        return {v.name: np.asarray(a) for v, a in zip(self._graph.inputs, values, strict=True)}

    def _compile(self, arrays: dict[str, np.ndarray]) -> _Compiled:
        bound = {v.name: arrays[v.name] for v in structural_graph_inputs(self._graph)}
        key = (
            tuple((name, array.shape) for name, array in arrays.items()),
            tuple((name, array.tobytes()) for name, array in bound.items()),
        )
        if key not in self._compiled:
            shapes = {name: array.shape for name, array in arrays.items()}
            graph = load(self._model, input_shapes=shapes)
            for name, array in bound.items():
                graph.make_constant(graph.value(name), array)
            infer_graph(graph)
            self._compiled[key] = _Compiled(graph, self._pipeline)
        return self._compiled[key]


class _Compiled:
    """One specialisation: a loaded library."""

    def __init__(self, graph: Graph, pipeline: str) -> None:
        from graphopt.runtime.module import Module

        self._folder = tempfile.TemporaryDirectory(prefix="graphopt-backend-")
        steps = resolve_pipeline(pipeline)
        out = Path(self._folder.name) / "case.bundle"
        bundle = compile(graph, name="case", out=out, pipeline=steps, threads=1)
        self._module = Module(bundle.path)
        self.folded = not bundle.report["layers"]
        self._inputs = [value.name for value in graph.inputs]

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._module({name: arrays[name] for name in self._inputs})


def structural_graph_inputs(graph: Graph) -> list[Value]:
    """Graph inputs that only determine shapes or attributes, directly or through arithmetic on them."""
    return [value for value in graph.inputs if value.uses and _only_structural(value, set())]


def _only_structural(value: Value, seen: set[Value]) -> bool:
    if value.is_graph_output or value in seen:
        return False
    for use in value.uses:
        if use.index in structural_inputs(use.node):
            continue
        outputs_used = [v for v in use.node.outputs if v.uses or v.is_graph_output]
        if not outputs_used or not all(_only_structural(v, seen | {value}) for v in outputs_used):
            return False
    return True


class GraphoptBackend(Backend):
    """graphopt as an ONNX backend for the CPU."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        from graphopt.targets.lower import unsupported

        try:
            return not unsupported(legalized(load(model)))
        except GraphoptError:
            return False

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> CompiledRep:
        super().prepare(model, device, **kwargs)
        return CompiledRep(model)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple:
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple:
        """Run one node: a model of it alone, at the newest opset, is made around the inputs."""
        super().run_node(node, inputs, device, outputs_info, **kwargs)
        arrays = [np.asarray(value) for value in inputs]
        names = [name for name in node.input if name]
        infos = [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in zip(names, arrays, strict=True)
        ]
        outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
        model = onnx.helper.make_model(onnx.helper.make_graph([node], "node", infos, outputs))
        return CompiledRep(model).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return Device(device).type == DeviceType.CPU


is_compatible = GraphoptBackend.is_compatible
prepare = GraphoptBackend.prepare
run = GraphoptBackend.run_model
run_model = GraphoptBackend.run_model
run_node = GraphoptBackend.run_node
supports_device = GraphoptBackend.supports_device
