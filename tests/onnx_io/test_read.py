"""Reading: every way in which ONNX lets a model say something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from graphopt.ir import DType, Graph, TensorType
from graphopt.onnx_io.read import read_model
from graphopt.runtime.reference import run
from tests.onnx_io.models import cnn, control
from tests.onnx_io.oracle import UNIT, check_same_meaning

HEADER = '<ir_version: 8, opset_import: ["" : 17, "local" : 1, "other" : 2]>'


def parsed(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(f"{HEADER}\n{text}")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items())
    return model


def types(graph: Graph) -> dict[str, str]:
    return {value.name: str(value.type) for value in graph.values()}


def test_sources(tmp_path: Path) -> None:
    """A message, bytes, a path and its text give the same graph."""
    model = cnn()
    path = tmp_path / "cnn.onnx"
    path.write_bytes(model.SerializeToString())
    for source in (model, model.SerializeToString(), path, str(path)):
        graph = read_model(source)
        assert graph.name == "small_cnn"
        assert len(graph) == 18
    assert model == cnn(), "the caller's message stays as it was"


@pytest.mark.parametrize("flag", [True, False])
def test_control_flow_means_the_same(flag: bool) -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(3, 4)).astype(np.float32)
    feed = {"x": x, "flag": np.array(flag), "turns": np.array(3)}
    check_same_meaning(control(), feed, tolerance=8 * UNIT)


def test_cnn_means_the_same() -> None:
    image = np.random.default_rng(1).normal(size=(2, 2, 8, 8)).astype(np.float32)
    check_same_meaning(cnn(), {"image": image}, tolerance=256 * UNIT)  # sums of up to 48 products in a row


def test_shapes_are_followed() -> None:
    """Symbols stay; arithmetic on shapes is followed; numbers take their place when they are given."""
    known = types(read_model(control()))
    assert known["scaled"] == "float32[rows, 4]"
    assert known["zero"] == "float32[2, 2]"
    assert known["last"] == "float32[rows, 4]"
    assert known["wide"] == "float32[3]"
    text = """m (float[N,4,4] x) => (float[N,16] y) {
        s = Shape (x)  n = Gather (s, first)  c = Unsqueeze (n, axis)  t = Concat <axis = 0> (c, rest)
        y = Reshape (x, t)  z = Sigmoid (y) }"""
    weights = {"first": np.int64(0), "axis": np.array([0]), "rest": np.array([-1])}
    model = parsed(text, **weights)
    assert types(read_model(model))["z"] == "float32[N, 16]"
    assert types(read_model(model, input_shapes={"x": (5, 4, 4)}))["z"] == "float32[5, 16]"


def test_specialisation_reaches_everything() -> None:
    graph = read_model(control(), input_shapes={"x": (5, 4)})
    assert graph.value("y").static_shape == (5, 4)
    loop = next(node for node in graph.nodes if node.op_type == "Loop")
    assert loop.subgraphs[0].inputs[2].static_shape == (5, 4)
    text = "m (float[N,3] x, float[N,3] z, float[M,3] o) => (float[N,3] y) { y = Add (x, z) }"
    graph = read_model(parsed(text), input_shapes={"x": (7, 3)})
    assert [str(value.type) for value in graph.inputs] == ["float32[7, 3]", "float32[7, 3]", "float32[M, 3]"]


def test_unnamed_dimensions_are_their_own() -> None:
    """-1, no value and an empty name are unknown, and equal to nothing else."""
    model = parsed("m (float[1,2,3] x) => (float[1,2,3] y) { y = Relu (x) }")
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value, dims[1].dim_param = -1, ""
    dims[2].ClearField("dim_value")
    graph = read_model(model)
    shape = graph.inputs[0].shape
    assert shape is not None
    assert len(set(shape)) == 3
    assert all(isinstance(d, str) and d.startswith("?") for d in shape)


def test_wrong_stated_shapes_do_not_count() -> None:
    text = "m (float[5,4] x) => (float[1,4] z) <float[1,4] y> { y = Relu (x)  z = Neg (y) }"
    assert types(read_model(parsed(text)))["z"] == "float32[5, 4]"


CONSTANTS = {
    "value = float[2] {1, 2}": np.array([1, 2], np.float32),
    "value_float = 0.5": np.float32(0.5),
    "value_floats = [0.5, 1.5]": np.array([0.5, 1.5], np.float32),
    "value_int = 7": np.int64(7),
    "value_ints = [7, 8]": np.array([7, 8]),
    'value_string = "a"': np.array("a", object),
    'value_strings = ["a", "b"]': np.array(["a", "b"], object),
}


@pytest.mark.parametrize("form", CONSTANTS)
def test_constant(form: str) -> None:
    graph = read_model(parsed(f"m (float[2] x) => (float[2] y) {{ c = Constant <{form}> () y = Relu (x) }}"))
    constant = graph.value("c").constant
    assert constant is not None
    assert constant.dtype == np.asarray(CONSTANTS[form]).dtype
    assert constant.shape == np.asarray(CONSTANTS[form]).shape
    assert np.array_equal(constant, CONSTANTS[form])


def test_sparse_tensors() -> None:
    """As a weight, with flat or full indices, and as a Constant."""
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    flat = helper.make_tensor("wi", TensorProto.INT64, [2], [1, 5])
    full = helper.make_tensor("wi", TensorProto.INT64, [2, 2], [0, 1, 1, 2])
    want = np.array([[0, 1, 0], [0, 0, 2]], np.float32)
    for indices in (flat, full):
        sparse = helper.make_sparse_tensor(values, indices, [2, 3])
        model = parsed("m (float[2,3] x) => (float[2,3] y) { y = Add (x, w) }")
        model.graph.sparse_initializer.append(sparse)
        assert np.array_equal(read_model(model).value("w").constant, want)
        model = parsed("m (float[2,3] x) => (float[2,3] y) { y = Add (x, w) }")
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse))
        assert np.array_equal(read_model(model).value("w").constant, want)


def test_every_element_type() -> None:
    """Weights of every type, as raw bytes and in the typed fields."""
    for dtype in DType:
        data = np.array(["a", "b"], object) if dtype is DType.string else np.array([1, 1]).astype(dtype.numpy)
        raw = numpy_helper.from_array(data, "w")
        array = helper.make_tensor(
            "v", dtype.onnx_code, [2], [b"a", b"b"] if dtype is DType.string else [1, 1]
        )
        model = parsed("m (float[2] x) => (float[2] y) { y = Relu (x) }")
        model.graph.initializer.extend([raw, array])
        graph = read_model(model)
        for name in ("w", "v"):
            constant = graph.value(name).constant
            assert constant is not None
            assert graph.value(name).type == TensorType(dtype, (2,))
            assert constant.tobytes() == data.tobytes() or dtype is DType.string


def test_weights_that_are_inputs() -> None:
    """IR version 3 lists weights among the inputs; they are constants here."""
    model = parsed("m (float[2] x, float[2] w) => (float[2] y) { y = Add (x, w) }", w=np.ones(2, np.float32))
    model.ir_version = 3
    graph = read_model(model)
    assert [value.name for value in graph.inputs] == ["x"]
    assert graph.value("w").is_constant


def test_names() -> None:
    """Nodes without names are called by what they compute; two of one name are told apart; values keep theirs."""
    model = parsed("m (float[2] x) => (float[2] y) { a = Relu (x)  b = Neg (a)  c = Abs (b)  y = Exp (c) }")
    model.graph.node[1].name = model.graph.node[2].name = "twin"
    graph = read_model(model)
    assert [node.name for node in graph.nodes] == ["Relu:a", "twin", "twin_1", "Exp:y"]
    assert [value.name for value in graph.values()] == ["x", "a", "b", "c", "y"]


def test_unsorted_nodes() -> None:
    model = parsed(
        "m (float[2] x) => (float[2] y) { a = Relu (x)  b = Neg (a)  c = Abs (b)  y = Add (c, a) }"
    )
    model.graph.node.reverse()
    feed = {"x": np.array([1, -2], np.float32)}
    assert np.array_equal(run(read_model(model), feed)["y"], [2, 0])


def test_outputs_of_every_kind() -> None:
    """An input, a weight, and one value twice behind outputs."""
    model = parsed(
        "m (float[2] x) => (float[2] x, float[2] w, float[2] y, float[2] z) { y = Relu (x) z = Identity (y) }",
        w=np.array([3, 4], np.float32),
    )
    check_same_meaning(model, {"x": np.array([1, -2], np.float32)}, tolerance=0.0)


def test_optional_inputs_and_outputs() -> None:
    text = """m (float[1,2,4,4] x) => (float[1,2,2,2] y, int64[1,2,2,2] where, float[1,2,4,4] r) {
        y, where = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x)
        r = Clip (x, , top) }"""
    model = parsed(text, top=np.float32(0.5))
    graph = read_model(model)
    clip = next(node for node in graph.nodes if node.op_type == "Clip")
    assert clip.inputs[1] is None
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(np.float32)
    check_same_meaning(model, {"x": x}, tolerance=0.0)


def test_functions_of_functions() -> None:
    """With attributes given, left to their defaults, and passed on; with an opset of their own."""
    text = """m (float[2] x) => (float[2] y) { a = local.outer <slope = 0.5> (x)  y = local.outer (a) }
    <domain: "local", opset_import: ["" : 17, "local" : 1]> outer <slope: float = 0.25> (v) => (r) {
        h = local.leaky <by: float = @slope> (v)  r = Neg (h) }
    <domain: "local", opset_import: ["" : 17]> leaky <by> (v) => (r) { r = LeakyRelu <alpha: float = @by> (v) }"""
    feed = {"x": np.array([-1, 2], np.float32)}
    check_same_meaning(parsed(text), feed, tolerance=0.0)
    assert [node.op_type for node in read_model(parsed(text)).nodes] == ["LeakyRelu", "Neg"] * 2


def test_a_function_of_an_older_opset() -> None:
    text = """m (float[2,3] x) => (float[3] y) { y = local.total (x) }
    <domain: "local", opset_import: ["" : 12]> total (v) => (r) { r = ReduceSum <axes = [0], keepdims = 0> (v) }"""
    feed = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    assert np.array_equal(run(read_model(parsed(text)), feed)["y"], [3, 5, 7])


def test_scan_with_a_captured_value() -> None:
    text = """m (float[2] start, float[5,2] rows, float[2] w) => (float[2] last, float[5,2] all) {
        last, all = Scan <num_scan_inputs = 1, body = step (float[2] s, float[2] r) => (float[2] t, float[2] o) {
            p = Mul (r, w)  t = Add (s, p)  o = Identity (t) }> (start, rows) }"""
    random = np.random.default_rng(0)
    feed = {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape in (("start", 2), ("rows", (5, 2)), ("w", 2))
    }
    check_same_meaning(parsed(text), feed, tolerance=8 * UNIT)
    graph = read_model(parsed(text))
    assert str(graph.outputs[1].type) == "float32[5, 2]"


def test_branches_may_use_the_same_names() -> None:
    text = """m (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = a () => (float[2] r) { h = Relu (x) r = Neg (h) },
                    else_branch = b () => (float[2] r) { h = Abs (x) r = Neg (h) }> }"""
    for flag in (True, False):
        check_same_meaning(
            parsed(text), {"c": np.array(flag), "x": np.array([1, -2], np.float32)}, tolerance=0.0
        )


def test_a_branch_never_taken_may_be_impossible() -> None:
    text = """m (float[2] x) => (float[2] y) {
        y = If (no) <then_branch = a () => (float[2] r) {
                         m, n = Split <axis = 0> (x, lengths) r = Concat <axis = 0> (m, n) },
                     else_branch = b () => (float[2] s) { s = Abs (x) }> }"""
    graph = read_model(parsed(text, no=np.array(False), lengths=np.array([5, -3])))
    assert np.array_equal(run(graph, {"x": np.array([1, -2], np.float32)})["y"], [1, 2])


def test_other_domains_and_metadata() -> None:
    model = parsed("m (float[2] x) => (float[2] y) { h = other.Twist <by = 3> (x)  y = Relu (h) }")
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [2]))
    model.metadata_props.add(key="author", value="nobody")
    graph = read_model(model)
    node = next(graph.nodes)
    assert node.key == "other::Twist"
    assert node.int("by") == 3
    assert str(graph.value("y").type) == "float32[2]"
    assert graph.domains == {"local": 1, "other": 2}
    assert graph.metadata == {"author": "nobody"}


def test_newest_opset_stays() -> None:
    newest = onnx.defs.onnx_opset_version()
    model = parsed("m (float[2] x) => (float[2] y) { y = Relu (x) }")
    for version, kept in ((7, 24), (24, 24), (newest, newest)):
        model.opset_import[0].version = version
        assert read_model(model).opset == kept
