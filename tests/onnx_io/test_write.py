"""Writing: names and metadata stay, groups are taken apart, the opset is the oldest that will do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.errors import UnsupportedError
from graphopt.ir import QUANT, DType, Graph, TensorType
from graphopt.ir.fused import fuse_nodes
from graphopt.onnx_io.read import read_model
from graphopt.onnx_io.write import RULE_KEY, to_bytes, to_model, write_model
from graphopt.onnx_io.written_opset import written_opset
from graphopt.passes import DEFAULT, catalog
from graphopt.pipeline import parse_pipeline
from tests.onnx_io.models import cnn, control
from tests.onnx_io.oracle import UNIT, check_file, onnxruntime_outputs
from tests.zoo import zoo_model


def graph_of(*ops: tuple[str, dict], dtype: DType = DType.float32) -> Graph:
    """A chain of operators of one operand on x: [2, 3, 8, 8]."""
    graph = Graph("chain", opset=24)
    value = graph.add_input("x", TensorType(dtype, (2, 3, 8, 8)))
    for op_type, attributes in ops:
        value = graph.add(op_type, [value], attributes, types=[value.type]).output
    graph.add_output(value, "y")
    return graph


def test_same_bytes() -> None:
    for build in (cnn, control):
        first, second = (to_bytes(read_model(build())) for _ in range(2))
        assert first == second
        assert to_bytes(read_model(first)) == first, "a written model reads as what was written"


def test_names_and_metadata_stay() -> None:
    original, written = control(), to_model(read_model(control()))
    for side in ("input", "output"):
        assert [v.name for v in getattr(written.graph, side)] == [
            v.name for v in getattr(original.graph, side)
        ]
    assert {entry.key: entry.value for entry in written.metadata_props} == {"author": "nobody"}
    assert written.producer_name == "graphopt"
    assert written.graph.name == "control"
    named = {name for node in written.graph.node for name in node.output}
    assert {"scaled", "y", "trace", "wide", "z"} <= named


def test_nested_names_follow_outputs() -> None:
    """A value that a branch captures may be written under a graph output's name."""
    graph = read_model(control())
    graph.rename(graph.value("y"), "moved")
    model = to_model(graph)
    check_file(model)
    x = np.ones((2, 4), np.float32)
    feed = {"x": x, "flag": np.array(True), "turns": np.array(2)}
    want, got = (onnxruntime_outputs(m, feed) for m in (control(), model))
    for name, array in want.items():
        assert np.array_equal(got[name], array)


def test_a_last_result_that_nobody_reads_stays_where_their_number_counts() -> None:
    graph = Graph("last", opset=24)
    x = graph.add_input("x", TensorType(DType.float32, (4, 6)))
    half, vector = (TensorType(DType.float32, shape) for shape in ((4, 3), (3,)))
    halves = graph.add("Split", [x], {"axis": 1, "num_outputs": 2}, types=[half, half])
    body = Graph("step", opset=24, parent=graph)
    state = body.add_input("state", vector)
    row = body.add_input("row", vector)
    total = body.add("Add", [state, row], types=[vector]).output
    body.add_output(total, "total")
    body.add_output(body.add("Neg", [total], types=[vector]).output, "kept")
    first = graph.add_constant(np.zeros(3, np.float32), "first")
    attributes = {"body": body, "num_scan_inputs": 1}
    sums = graph.add("Scan", [first, halves.outputs[0]], attributes, types=[vector, half])
    graph.add_output(sums.outputs[0], "y")
    model = to_model(graph)
    check_file(model)
    given = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert np.array_equal(onnxruntime_outputs(model, {"x": given})["y"], given[:, :3].sum(0))


def test_groups_are_taken_apart() -> None:
    graph = read_model(cnn())
    plain = to_bytes(graph)
    nodes = {node.op_type: node for node in graph.nodes}
    fuse_nodes(graph, [nodes["Conv"], nodes["BatchNormalization"], nodes["Clip"]])
    assert any(node.key == "graphopt.kernel::Fused" for node in graph.nodes)
    written = to_model(graph)
    image = np.random.default_rng(0).normal(size=(3, 2, 8, 8)).astype(np.float32)
    want = onnxruntime_outputs(onnx.ModelProto.FromString(plain), {"image": image})
    got = onnxruntime_outputs(written, {"image": image})
    assert all(np.array_equal(got[name], want[name]) for name in want)
    assert any(node.key == "graphopt.kernel::Fused" for node in graph.nodes), (
        "the graph itself stays as it was"
    )


def test_an_operator_of_ours_is_refused(tmp_path: Path) -> None:
    graph = graph_of(("Relu", {}))
    graph.add(
        "Requantize",
        [graph.inputs[0]],
        types=[graph.inputs[0].type],
        domain=QUANT,
        name="narrow",
        before=graph.last,
    )
    message = (
        r"node 'narrow': graphopt\.quant::Requantize has no ONNX form \[export before the pass that made it\]"
    )
    with pytest.raises(UnsupportedError, match=message):
        write_model(graph, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("op_type", "attributes", "opset"),
    [
        ("Relu", {}, 13),
        ("HardSwish", {}, 14),
        ("Mish", {}, 18),
        ("Gelu", {}, 20),
        ("Swish", {}, 24),
        ("MaxPool", {"kernel_shape": (2, 2)}, 13),
        ("MaxPool", {"kernel_shape": (2, 2), "ceil_mode": 1}, 22),
        ("AveragePool", {"kernel_shape": (2, 2)}, 13),
        ("AveragePool", {"kernel_shape": (2, 2), "dilations": (2, 2)}, 19),
        ("ReduceMax", {}, 18),
        ("Cast", {"to": 1}, 13),
        ("Cast", {"to": 1, "saturate": 1}, 19),
    ],
)
def test_oldest_opset(op_type: str, attributes: dict, opset: int) -> None:
    assert written_opset(graph_of((op_type, attributes))) == opset
    assert to_model(graph_of(("Relu", {}), (op_type, attributes))).opset_import[0].version == opset


def test_types_decide_the_opset() -> None:
    assert written_opset(graph_of(("Relu", {}), dtype=DType.int32)) == 14
    assert written_opset(graph_of(("Identity", {}), dtype=DType.int4)) == 21
    assert written_opset(graph_of(("Sin", {}), dtype=DType.bfloat16)) == 22


def test_what_changed_after_ours_is_left_alone() -> None:
    """No adapter knows what opset 28 made of Mod."""
    newest = onnx.defs.onnx_opset_version()
    if newest < 28:
        pytest.skip("the installed onnx ends before opset 28")
    graph = Graph("new", opset=newest)
    x = graph.add_input("x", TensorType(DType.int32, (2,)))
    graph.add_output(graph.add("Mod", [x, x], types=[x.type]).output)
    assert written_opset(graph) == 28


@pytest.mark.zoo
@pytest.mark.parametrize(
    "name", ["trn_digits_cnn_op13", "trn_mnist_vit_op13", "mlperf_resnet8_bn_rawtransposes_op13"]
)
def test_at_every_point_of_the_pipeline(name: str) -> None:
    """After each pass the export is valid and means the same; nodes tell the rule that made them."""
    path = zoo_model(name)
    graph = read_model(path)
    random = np.random.default_rng(0)
    feed = {v.name: random.normal(size=v.static_shape).astype(np.float32) for v in graph.inputs}
    want = onnxruntime_outputs(onnx.load(path), feed)
    seen = [to_bytes(graph)]

    def check(step: object, current: Graph) -> None:
        try:
            written = to_bytes(current)
        except UnsupportedError as error:
            assert "has no ONNX form" in str(error)
            return
        if written == seen[-1]:
            return
        seen.append(written)
        model = onnx.ModelProto.FromString(written)
        check_file(model)
        for key, array in onnxruntime_outputs(model, feed).items():
            scale = np.abs(want[key]).max()
            assert np.abs(array - want[key]).max() <= 2000 * UNIT * scale, (
                step
            )  # about 20 layers of 100 units

    parse_pipeline(DEFAULT, catalog()).run(graph, after_pass=check)
    assert len(seen) >= 3
    last = onnx.ModelProto.FromString(seen[-1])
    assert any(entry.key == RULE_KEY for node in last.graph.node for entry in node.metadata_props)
