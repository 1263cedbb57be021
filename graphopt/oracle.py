"""Who says what a model's answers are: ONNX Runtime with its optimisations off.

The convolutions of a quantised model are sums of integers, and it runs them so (`graphopt/integer_oracle.py`).
Where it is not installed, or refuses the file, the reference evaluator does, and so it does for targets that requantise
in fixed point.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import EncodeError

from graphopt.errors import UnsupportedError
from graphopt.integer_oracle import integer_kernels
from graphopt.ir import Graph
from graphopt.runtime import reference

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Oracle:
    """Runs the model. `name` is what to call it, `note` why it is not ONNX Runtime, if it is not."""

    name: str
    run: Run
    note: str = ""


def oracle_for(model: str | Path, graph: Graph) -> Oracle:
    """The best there is for the file `model`, whose graph is `graph`, its shapes fixed."""
    try:
        run = _onnx_runtime(model)
    except ImportError:
        note = "ONNX Runtime is not installed (pip install onnxruntime)"
    except UnsupportedError as error:
        note = error.what
    else:
        return _with_integers(model) or Oracle("ONNX Runtime", run)
    return Oracle("the reference evaluator", lambda inputs: reference.run(graph, inputs), note)


def fixed_point_oracle(graph: Graph, pipeline: str | None) -> Oracle | None:
    """What a target in fixed point answers, to the bit; None where no sum of the model becomes bytes so.

    ONNX Runtime requantises in floats: a layer is at most one step off, which later layers may enlarge. `pipeline` is
    the one that the model was compiled with; None: the default one.
    """
    from graphopt.api import optimize
    from graphopt.preparation import legalized, sums_integers

    exact = legalized(optimize(graph, pipeline), fixed_point=True)
    if not sums_integers(exact):
        return None
    note = "ONNX Runtime requantises in floats"
    return Oracle("the reference evaluator in fixed point", lambda inputs: reference.run(exact, inputs), note)


def _with_integers(model: str | Path) -> Oracle | None:
    """ONNX Runtime with its kernels for quantised convolutions; None where the model has none for them."""
    try:
        kernels = integer_kernels(Path(model))
    except EncodeError:  # protobuf holds 2 GB
        return None
    if kernels is None or not kernels.replaced:
        return None
    try:
        run = _onnx_runtime(kernels.model)
    except UnsupportedError:  # it knows the file, not this form of it
        return None
    total = kernels.replaced + len(kernels.left)
    return Oracle(f"ONNX Runtime, {kernels.replaced} of {total} quantised sums in integers", run)


def plain_refusal(error: Exception) -> str:
    """What ONNX Runtime has to say, in one line, without its codes."""
    text = str(error).strip().split("\n")[0]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return re.sub(r"^Load model from .* failed:", "", text).rstrip(".")


def _onnx_runtime(model: str | Path | bytes) -> Run:
    """Raises ImportError where it is not installed, UnsupportedError when it refuses the file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # C++ exceptions without a common base
        raise UnsupportedError(f"ONNX Runtime refuses the file: {plain_refusal(error)}") from None
    place = "the model in memory" if isinstance(model, bytes) else str(model)
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        try:
            return dict(zip(names, session.run(names, dict(inputs)), strict=True))
        except Exception as error:
            reason = f"ONNX Runtime fails to run it: {plain_refusal(error)}"
            raise UnsupportedError(reason, where=place, hint="try other inputs, with --inputs") from None

    return run
