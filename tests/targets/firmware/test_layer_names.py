"""The user recognises the layers of a bundle, and what each kernel is; shapes that nothing reads take no flash."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from graphopt.errors import UnsupportedError
from graphopt.targets.firmware.kernel_comments import comment
from graphopt.targets.firmware.layer_names import LONGEST
from tests.targets.firmware.conftest import DIGITS, Firmware

LONG = "block/conv/*second*/|one;" + "and/what/was/fused/into/it;" * 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions of one shape, with what is fused into them, a Reshape, and a product of floats."""
    random = np.random.default_rng(0)
    weights = {
        "w": random.normal(size=(4, 4, 3, 3)).astype(np.float32),
        "v": random.normal(size=(4, 4, 3, 3)).astype(np.float32),
        "m": random.normal(size=(100, 3)).astype(np.float32),
        "shape": np.array([1, 100], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "first/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "first/relu"),
        helper.make_node("Conv", ["b", "v"], ["c"], LONG, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], "second/relu"),
        helper.make_node("Reshape", ["d", "shape"], ["e"], "flatten"),
        helper.make_node("MatMul", ["e", "m"], ["y"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    path = tmp_path_factory.mktemp("named") / "named.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_layers_have_the_models_names(model: Path, tmp_path: Path) -> None:
    """Also where one holds what a comment or a table must not."""
    bundle = graphopt.compile(model, target="cortex-m3", out=tmp_path / "fw", name="net")
    told = json.loads((bundle.path / "memory.json").read_text())
    named = [layer["layer"] for layer in told["layers"] if "transpose" not in layer["kernel"]]
    assert named == ["first/conv", LONG, "head"]
    page = (bundle.path / "memory.md").read_text()
    beginning = LONG[: LONGEST - 3]
    assert "| first/conv |" in page and beginning.replace("|", "\\|") + "... |" in page and LONG not in page
    for file in ("net_selftest.c", "net_kernels.c"):
        text = (bundle.path / file).read_text()
        assert "first/conv" in text and comment(beginning) in text and LONG not in text


def test_quantised_layers_are_those_of_the_file(digits_int8: Firmware) -> None:
    bundle = digits_int8("cortex-m3")
    nodes = {source for layer in bundle.report["layers"] for source in layer["origin"]}
    named = [layer["layer"] for layer in json.loads((bundle.path / "memory.json").read_text())["layers"]]
    assert {name.removesuffix(" (2)") for name in named} <= nodes and len(set(named)) == len(named)


def test_each_kernel_tells_what_it_is(digits_int8: Firmware) -> None:
    """Of which layers, by which operators, of which shapes, by which template."""
    bundle = digits_int8("cortex-m3")
    text = (bundle.path / "net_kernels.c").read_text()
    for number, layer in enumerate(bundle.report["layers"], 1):
        before, _ = text.split(f"\nvoid {layer['kernel']}(")
        told = before.rsplit("/* layer", 1)[1]
        assert told.endswith(" */") and f" {number}: " in told
        assert layer["schedule"] in told and layer["output"][0] in told
        assert all(operator in told for operator in layer["operators"])


def test_what_does_not_fit_is_told_by_the_models_names(tmp_path: Path) -> None:
    nodes = {node.name for node in onnx.load(DIGITS).graph.node}
    with pytest.raises(UnsupportedError, match="most of it in '") as refused:
        graphopt.compile(DIGITS, target="cortex-m4f", ram=1024, out=tmp_path / "fw")
    assert str(refused.value).split("most of it in '")[1].split("'")[0] in nodes


def test_shapes_are_no_weights(model: Path, tmp_path: Path) -> None:
    bundle = graphopt.compile(model, target="cortex-m3", out=tmp_path / "fw", name="net")
    assert "int64_t" not in (bundle.path / "net_internal.h").read_text()
