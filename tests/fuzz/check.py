"""Where ours and ONNX Runtime part.

Rounding errors of a graph are not known beforehand: a Softmax flattens them, an Exp lets them grow. So the model also
runs on inputs that are off by a few units of the last place, several times; what that changes, and the rounding of as
many operations as there are nodes, is what may differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import graphopt
from graphopt import passes
from graphopt.errors import GraphoptError
from graphopt.ir import Graph
from graphopt.onnx_io.write import to_model
from graphopt.runnable import runnable
from graphopt.runtime.reference import run

EPSILON = np.float32(2.0**-23)
NUDGES, UNITS = 3, 8
"""Runs on inputs that are off, and by how many units of the last place."""

AMPLIFIED = 16
"""Times what inputs that are off change, that a result may be: errors arise at every node, not at the inputs alone."""

ROUNDED = 64
"""Units of the largest magnitude for each node: sums of some hundred terms."""

NEEDING_DATA = frozenset({"equalize", "factorize-dense", "migrate-outliers", "quantize"})
NEEDING_OPTIONS = frozenset({"assign-layout", "compute-in-half", "patch-rows"})
LEFT_OUT = NEEDING_DATA | NEEDING_OPTIONS

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Failure:
    """`stage` is a step of the way through graphopt."""

    stage: str
    reason: str


@dataclass(frozen=True)
class Oracle:
    """ONNX Runtime's answer, and by how much each output may be off."""

    inputs: Arrays
    answer: Arrays
    allowed: Mapping[str, float]

    def parts_from(self, found: Arrays) -> str:
        """How `found` differs; empty: it does not."""
        for name, want in self.answer.items():
            got = np.asarray(found[name])
            if got.shape != want.shape or got.dtype != want.dtype:
                return f"{name} is {got.dtype}{list(got.shape)}, should be {want.dtype}{list(want.shape)}"
            if not np.array_equal(np.isfinite(got), np.isfinite(want)):
                return f"{name} is not finite elsewhere"
            finite = np.isfinite(want)
            error = float(np.abs(got[finite] - want[finite]).max(initial=0))
            if error > self.allowed[name]:
                return f"{name} is off by {error:.3g}, {self.allowed[name]:.3g} may be"
        return ""


def oracle_of(model: onnx.ModelProto, seed: int = 0) -> Oracle:
    """Raises what ONNX Runtime raises for a model that it refuses."""
    random = np.random.default_rng(seed)
    inputs = {
        value.name: random.normal(size=[d.dim_value for d in value.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for value in model.graph.input
    }
    session = _session(model)
    names = [value.name for value in session.get_outputs()]

    def answer(arrays: Arrays) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(arrays)), strict=True))

    exact = answer(inputs)
    changes = dict.fromkeys(names, 0.0)
    for _ in range(NUDGES):
        signs = {name: random.choice(np.float32([-1, 1]), x.shape) for name, x in inputs.items()}
        nudged = answer({name: x * (1 + UNITS * EPSILON * signs[name]) for name, x in inputs.items()})
        for name, y in nudged.items():
            change = np.abs(y - exact[name])
            changes[name] = max(changes[name], float(change[np.isfinite(change)].max(initial=0)))
    rounded = ROUNDED * EPSILON * len(model.graph.node)
    largest = {name: float(np.abs(y[np.isfinite(y)]).max(initial=0)) for name, y in exact.items()}
    allowed = {n: AMPLIFIED * changes[n] + rounded * max(largest[n], float(EPSILON)) for n in names}
    return Oracle(inputs, exact, allowed)


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def failure_of(model: onnx.ModelProto, seed: int = 0, *, compiled: bool = False) -> Failure | None:
    """The first stage that goes wrong."""
    return next(failures(model, seed, compiled=compiled), None)


def failures(model: onnx.ModelProto, seed: int = 0, *, compiled: bool = False) -> Iterator[Failure]:
    """Stage by stage: as imported, written and read again, each pass alone, passes in random order, all, compiled."""
    oracle = oracle_of(model, seed)
    for stage, answer in _stages(model, seed, compiled=compiled):
        try:
            reason = oracle.parts_from(answer(oracle.inputs))
        except GraphoptError as error:
            reason = f"refused: {error}"
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        if reason:
            yield Failure(stage, reason)


def _stages(
    model: onnx.ModelProto, seed: int, *, compiled: bool
) -> Iterator[tuple[str, Callable[[Arrays], Arrays]]]:
    def after(*names: str) -> Callable[[Arrays], Arrays]:
        return lambda inputs: run(_passed(model, names), inputs)

    free = sorted(set(passes.PASSES) - LEFT_OUT - _COMPRESSING)
    yield "import", after()
    yield "export", lambda inputs: run(graphopt.load(to_model(graphopt.load(model))), inputs)
    for name in free:
        yield name, after(name)
    order = np.random.default_rng(seed).permutation(free)
    yield f"passes in the order {','.join(order)}", after(*order)
    yield "default", after(passes.DEFAULT)
    if compiled:
        yield "compiled", lambda inputs: _compiled(model, inputs)


_COMPRESSING = frozenset(name for name in passes.PASSES if name.startswith(("prune", "sparsify")))
"""They change answers; so they are meant to."""


def _passed(model: onnx.ModelProto, names: tuple[str, ...]) -> Graph:
    graph = graphopt.load(model)
    return graphopt.optimize(graph, ",".join(names)) if names else graph


def _compiled(model: onnx.ModelProto, inputs: Arrays) -> Arrays:
    with tempfile.TemporaryDirectory(prefix="graphopt-fuzz-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return runnable(path).run(inputs)
