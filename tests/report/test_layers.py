"""report.json: numbers by hand on a small network, layers that name the user's own nodes."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from graphopt.analysis.storage import is_alias
from graphopt.api import compile
from graphopt.ir import DType, Graph, TensorType
from graphopt.pipeline import PipelineRecord
from graphopt.report.layers import bundle_report
from graphopt.targets.device import load_target
from graphopt.targets.fuse import fuse
from graphopt.targets.program import Program, build_program
from tests.passes.helpers import Draft
from tests.targets.test_integer_product import Layer, packed_whole_steps, whole_steps

SCHEDULES = defaultdict(lambda: "generic")


def tensor(*shape: int) -> TensorType:
    return TensorType(DType.float32, shape)


@pytest.fixture
def graph() -> Graph:
    """A convolution, a ReLU, a reshape, a product with a bias; 4 -> 8 channels on 6 x 6."""
    graph = Graph("net", opset=24)
    x = graph.add_input("x", tensor(1, 4, 6, 6))
    w = graph.add_constant(np.ones((8, 4, 3, 3), np.float32), "w")
    padded = {"pads": (1, 1, 1, 1), "kernel_shape": (3, 3)}
    conv = graph.add("Conv", [x, w], padded, types=[tensor(1, 8, 6, 6)], name="conv").output
    relu = graph.add("Relu", [conv], types=[tensor(1, 8, 6, 6)], name="relu").output
    shape = graph.add_constant(np.array([1, 288]), "shape")
    flat = graph.add("Reshape", [relu, shape], types=[tensor(1, 288)], name="flatten").output
    v = graph.add_constant(np.ones((288, 10), np.float32), "v")
    b = graph.add_constant(np.ones(10, np.float32), "b")
    dense = graph.add("Gemm", [flat, v, b], types=[tensor(1, 10)], name="dense").output
    graph.add_output(dense, "logits")
    return graph


def laid_out(graph: Graph) -> Program:
    """The program, with kernels named k0, k1, ..., the first with a workspace of 100 bytes."""
    fused = graph.clone()
    fuse(fused)
    names = {node: f"k{i}" for i, node in enumerate(n for n in fused.nodes if not is_alias(n))}
    return build_program(fused, names, {name: (100,) if name == "k0" else () for name in names.values()})


def test_numbers_by_hand(graph: Graph) -> None:
    report = bundle_report(graph, laid_out(graph), SCHEDULES, PipelineRecord(), load_target("rpi4"))
    conv, dense = report["layers"]
    assert conv["operators"] == ["Conv", "Relu"]
    assert conv["origin"] == ["conv", "relu"]
    assert conv["macs"] == 8 * 6 * 6 * 4 * 3 * 3
    assert conv["flops"] == 2 * conv["macs"] + 8 * 6 * 6
    assert conv["weights_bytes"] == 4 * 8 * 4 * 3 * 3
    assert (conv["read_bytes"], conv["written_bytes"]) == (4 * 4 * 36, 4 * 8 * 36)
    assert conv["workspace_bytes"] == 100
    assert dense["macs"] == 288 * 10
    assert dense["output"] == ["float32[1, 10]"]
    summary = report["summary"]
    assert summary["macs"] == summary["macs_imported"] == conv["macs"] + dense["macs"]
    assert summary["parameters_imported"] == 8 * 4 * 9 + 288 * 10 + 10
    assert (summary["target"], summary["layers"], summary["kernels"]) == ("rpi4", 2, 2)
    assert summary["bits_a_weight"] is None


@pytest.mark.parametrize(("layer", "bits", "beside"), [(whole_steps, 8, 64), (packed_whole_steps, 4, 64 + 8)])
def test_bits_of_integer_weights(layer: Layer, bits: int, beside: int, tmp_path: Path) -> None:
    """Each of 48 columns of 64 has a start and a scale, and in 4 bits a byte that weights are stored above."""
    draft = Draft()
    draft.output(layer(draft))
    bundle = compile(draft.graph, target="rpi5", out=tmp_path / "layer")
    bias_scale_and_zero_point = 32 + 32 + 8
    stored = 48 * (64 * bits + beside) + bias_scale_and_zero_point
    assert bundle.report["summary"]["bits_a_weight"] == round(stored / (48 * 64), 4)


def test_the_map_shows_who_lives_where(graph: Graph) -> None:
    memory = bundle_report(graph, laid_out(graph), SCHEDULES, PipelineRecord(), load_target("rpi4"))["memory"]
    places = {place.pop("name"): place for place in memory["map"]}
    assert places["relu.0"]["bytes"] == 8 * 36 * 4
    assert (places["relu.0"]["first"], places["relu.0"]["last"]) == (0, 1)
    assert (places["0:workspace 0"]["first"], places["0:workspace 0"]["last"]) == (0, 0)
    assert memory["arena_bytes"] == memory["lower_bound_bytes"] == 1152 + 128  # 100 rounded up to 64s
    assert memory["over_bound"] == 1.0


def test_the_report_is_json_without_times(graph: Graph) -> None:
    text = json.dumps(bundle_report(graph, laid_out(graph), SCHEDULES, PipelineRecord(), load_target("rpi4")))
    assert "seconds" not in text


def test_counts_of_passes(graph: Graph) -> None:
    from graphopt.api import optimize_with_record

    result = optimize_with_record(graph)
    report = bundle_report(graph, laid_out(result.graph), SCHEDULES, result.record, load_target("rpi4"))
    passes = {step["pass"]: step for step in report["passes"]}
    assert passes["fuse-activations"]["rules"] == {"fuse-activations": 1}
    assert passes["fuse-activations"]["nodes_before"] - passes["fuse-activations"]["nodes_after"] == 1
    assert report["summary"]["nodes_imported"] == 4
