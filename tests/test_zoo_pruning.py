"""Real trained models, half as wide: the checker takes them, ONNX Runtime runs them, compiled they agree with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import graphopt
from graphopt.analysis.cost import cost_of_graph
from graphopt.analysis.groups.find import channel_groups
from graphopt.ir import Graph
from graphopt.ir.verify import verify
from graphopt.onnx_io.write import to_bytes
from graphopt.passes import PRUNABLE
from graphopt.passes.pruning.choose import by_ratio, without
from graphopt.passes.pruning.importance import by_weights
from graphopt.runtime.compare import compare_outputs
from graphopt.runtime.module import Module
from graphopt.runtime.reference import random_inputs
from tests.zoo import zoo_model

pytestmark = pytest.mark.zoo

MODELS = {
    "mlperf_vww96_bn_op17": 14,
    "pkg_ppocr_cls_static": 26,
    "pkg_silero_vad_openvino_16k": 5,
    "trn_cifar_resnets_op13": 6,
    "trn_mnist_lstm_op17": 2,
    "trn_mnist_vit_op17": 9,
}
"""How many groups each has, one of the transformer's being its width."""

COMPILED = ("trn_mnist_lstm_op17", "trn_mnist_vit_op17")


def half(name: str) -> tuple[Graph, Graph]:
    """A model and the same with half of the channels of every group."""
    graph = graphopt.optimize(graphopt.load(zoo_model(name)), PRUNABLE)
    groups = channel_groups(graph).groups
    assert len(groups) == MODELS[name]
    return graph, without(graph, by_ratio(by_weights(groups, "l2"), 0.5, 1))


def outputs(graph: Graph, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(to_bytes(graph), providers=["CPUExecutionProvider"])
    return dict(zip(graph.output_names, session.run(None, inputs), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_half_as_wide(name: str, tmp_path: Path) -> None:
    graph, narrow = half(name)
    verify(narrow)
    onnx.checker.check_model(onnx.load_from_string(to_bytes(narrow)), full_check=True)
    before, after = cost_of_graph(graph).macs, cost_of_graph(narrow).macs
    assert before is not None and after is not None and after < 0.55 * before
    inputs = random_inputs(narrow)
    wanted = outputs(narrow, inputs)
    assert all(np.isfinite(array).all() for array in wanted.values())
    if name in COMPILED:
        bundle = graphopt.compile(narrow, out=tmp_path / "half.bundle", name="half")
        compare_outputs(wanted, Module(bundle.path)(inputs)).raise_if_worse_than(1e-4)
