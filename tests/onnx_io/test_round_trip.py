"""Read and written again, a model means the same: ONNX's own node cases, and the models of the zoo."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.errors import UnsupportedError
from graphopt.ir import Graph
from graphopt.onnx_io.read import read_model
from graphopt.onnx_io.write import to_model
from graphopt.runtime.compare import compare_arrays
from graphopt.runtime.reference import random_inputs, run
from tests.onnx_io.oracle import UNIT, check_file, onnxruntime_outputs
from tests.zoo import zoo_models

TOLERANCE = 64 * UNIT
"""Of the output's scale: ONNX Runtime sums AveragePool and the Reduce operators in another order from one version
of them to another."""

RANDOM = {"Bernoulli", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "RandomNormal"}

NOT_TENSORS = ("sequence", "optional", "opset 1 ", "Scan of opset 8")
"""What the node cases refused are about."""


def test_node_cases() -> None:
    """Every case that ONNX Runtime can run gives the same outputs from our export, most of them bit by bit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the cases overflow on purpose
        from onnx.backend.test.loader import load_node_model_tests

        cases = load_node_model_tests()
        count = Counter(_round_trip(case.model, case.data_sets) for case in cases)
    assert not count["different"]
    assert count["refused"] <= 40
    assert count["same"] >= 1700, count
    assert count["close"] <= 10


def _round_trip(model: onnx.ModelProto, data_sets: list) -> str:
    try:
        graph = read_model(model)
    except UnsupportedError as error:
        assert any(text in str(error) for text in NOT_TENSORS), error
        return "refused"
    exported = to_model(graph)
    check_file(exported)
    inputs, _ = data_sets[0]
    feed = {info.name: _array(a) for info, a in zip(model.graph.input, inputs, strict=False)}
    try:
        want = onnxruntime_outputs(model, feed)
    except pytest.skip.Exception:
        raise
    except Exception:  # ONNX Runtime lacks the operator, or the type
        return _by_reference(graph, exported, feed)
    return _compared(want, onnxruntime_outputs(exported, feed))


def _by_reference(graph: Graph, exported: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> str:
    """The export, read again, against the graph, where the reference evaluator is the only judge."""
    again = read_model(exported)
    assert to_model(again).SerializeToString(deterministic=True) == exported.SerializeToString(
        deterministic=True
    )
    try:
        want = run(graph, feed)
    except UnsupportedError:
        return "not run"
    result = _compared(want, run(again, feed))
    return "random" if result != "same" and RANDOM & {node.op_type for node in graph.all_nodes()} else result


def _array(data: object) -> np.ndarray:
    return numpy_helper.to_array(data) if isinstance(data, onnx.TensorProto) else np.asarray(data)


def _compared(want: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> str:
    assert list(got) == list(want)
    result = "same"
    for name, array in want.items():
        if isinstance(array, np.ndarray) and array.tobytes() == got[name].tobytes():
            continue
        error = compare_arrays(name, array, got[name])
        if error.relative > TOLERANCE:
            return "different"
        result = "same" if error.absolute == 0 else "close"
    return result


@pytest.mark.zoo
@pytest.mark.parametrize("path", zoo_models(), ids=lambda path: path.stem)
def test_zoo(path: Path) -> None:
    graph = read_model(path)
    exported = to_model(graph)
    check_file(exported)
    assert exported.SerializeToString(deterministic=True) == to_model(read_model(path)).SerializeToString(
        deterministic=True
    )
    feed = random_inputs(graph, dims=_dims(graph))
    want = onnxruntime_outputs(onnx.load(path), feed)
    assert _compared(want, onnxruntime_outputs(exported, feed)) == "same"


def _dims(graph: Graph) -> dict[str, int]:
    """A number for every symbol: 2, and for images 32."""
    dims = {}
    for value in graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, str):
                dims[dim] = 32 if value.rank == 4 and axis > 1 else 2
    return dims
