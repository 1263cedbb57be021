"""Models of one node, and three ways to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphopt.onnx_io.read import read_model
from graphopt.onnx_io.write import to_model
from graphopt.runtime.compare import compare_arrays
from graphopt.runtime.reference import run

UNIT = float(np.finfo(np.float32).eps)


def one_node(
    node: onnx.NodeProto,
    arrays: Sequence[np.ndarray | None],
    *,
    opset: int,
    weights: Mapping[int, np.ndarray] | None = None,
    symbolic: bool = False,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of `node` with the inputs i0, i1, ..., and its feed; `weights` are initializers, by input number.

    With `symbolic` the shapes of inputs are symbols.
    """
    weights = weights or {}
    node.input.extend("" if a is None and k not in weights else f"i{k}" for k, a in enumerate(arrays))
    feed = {f"i{k}": a for k, a in enumerate(arrays) if a is not None and k not in weights}
    infos = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(a.dtype),
            [f"{name}_{k}" for k in range(a.ndim)] if symbolic else a.shape,
        )
        for name, a in feed.items()
    ]
    graph = helper.make_graph([node], "one", infos, [onnx.ValueInfoProto(name=name) for name in node.output])
    graph.initializer.extend(numpy_helper.from_array(a, f"i{k}") for k, a in weights.items())
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model, feed


def onnxruntime_outputs(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name, with ONNX Runtime's own optimisations off. Skips the test where it is not installed."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the judge here")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def check_same_meaning(model: onnx.ModelProto, feed: Mapping[str, np.ndarray], *, tolerance: float) -> None:
    """ONNX Runtime on the model, our reference on the graph, and ONNX Runtime on the export agree.

    `tolerance` is relative to each output's scale.
    """
    want = onnxruntime_outputs(model, feed)
    graph = read_model(model)
    exported = to_model(graph)
    check_file(exported)
    for got in (run(graph, feed), onnxruntime_outputs(exported, feed)):
        assert list(got) == list(want)
        for name, array in want.items():
            error = compare_arrays(name, array, np.asarray(got[name]))
            assert error.relative <= tolerance, error


def check_file(model: onnx.ModelProto) -> None:
    """ONNX's checker, types and all, takes the model."""
    normalises = any(node.op_type == "MeanVarianceNormalization" for node in model.graph.node)
    onnx.checker.check_model(
        model, full_check=not normalises
    )  # the checker cannot infer that function's body
