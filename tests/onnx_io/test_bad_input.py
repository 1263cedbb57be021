"""What is wrong with a model is told in one line: what, where, and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper, parser

from graphopt.errors import GraphoptError, ModelError, UnsupportedError, UsageError
from graphopt.onnx_io.read import read_model
from tests.onnx_io.models import cnn, control

HEADER = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]>'


def parsed(text: str) -> onnx.ModelProto:
    return parser.parse_model(f"{HEADER}\n{text}")


def small(*nodes: str, inputs: str = "float[2,3] x", outputs: str = "float[2,3] y") -> onnx.ModelProto:
    return parsed(f"small ({inputs}) => ({outputs}) {{ {' '.join(nodes)} }}")


def changed(
    build: Callable[[], onnx.ModelProto], change: Callable[[onnx.ModelProto], object]
) -> onnx.ModelProto:
    model = build()
    change(model)
    return model


def relu() -> onnx.ModelProto:
    return small("y = Relu (x)")


def conv() -> onnx.ModelProto:
    model = small("y = Conv (x, w)", inputs="float[1,2,4,4] x", outputs="float[1,3,2,2] y")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 2, 3, 3), np.float32), "w"))
    return model


def nested(depth: int) -> onnx.ModelProto:
    """Branches inside branches."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y0"])],
        "deepest",
        [],
        [helper.make_tensor_value_info("y0", 1, [2, 3])],
    )
    for level in range(1, depth + 1):
        node = helper.make_node("If", ["c"], [f"y{level}"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], f"level{level}", [], [onnx.ValueInfoProto(name=f"y{level}")])
        graph.node[0].attribute[1].g.Clear()  # one branch is enough, two would double at each level
    graph.input.append(helper.make_tensor_value_info("x", 1, [2, 3]))
    graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def set_raw(model: onnx.ModelProto, data: bytes) -> None:
    model.graph.initializer[0].raw_data = data


def set_dims(model: onnx.ModelProto, *dims: int) -> None:
    model.graph.initializer[0].dims[:] = dims


def attribute(model: onnx.ModelProto, name: str, value: object) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute(name, value))


def circle() -> onnx.ModelProto:
    return parsed(
        """small (float[2,3] x) => (float[2,3] y) { y = local.f (x) }
        <domain: "local", opset_import: ["local" : 1]> f (a) => (b) { b = local.g (a) }
        <domain: "local", opset_import: ["local" : 1]> g (a) => (b) { b = local.f (a) }"""
    )


def bomb() -> onnx.ModelProto:
    calls = " ".join(f"a{k + 1} = local.f{{}} (a{k})" for k in range(10))
    functions = "".join(
        f'<domain: "local", opset_import: ["local" : 1]> f{k} (a0) => (a10) {{ {calls.format(*[k + 1] * 10)} }}\n'
        for k in range(8)
    )
    last = '<domain: "local", opset_import: ["" : 17]> f8 (a) => (b) { b = Relu (a) }'
    return parsed(f"small (float[2,3] x) => (float[2,3] y) {{ y = local.f0 (x) }}\n{functions}{last}")


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], type[GraphoptError], str]] = {
    "no graph": (onnx.ModelProto, ModelError, r"the file holds no graph \[is this an ONNX file\?"),
    "no opset": (
        lambda: changed(relu, lambda m: m.ClearField("opset_import")),
        ModelError,
        "it imports no opset",
    ),
    "huge opset": (
        lambda: changed(relu, lambda m: setattr(m.opset_import[0], "version", 1 << 62)),
        UnsupportedError,
        r"uses opset 4611686018427387904 \[supported are 7 to \d+; convert it, or install a newer onnx\]",
    ),
    "two opsets": (
        lambda: changed(relu, lambda m: m.opset_import.add(domain="ai.onnx", version=13)),
        ModelError,
        "two versions of the domain 'ai.onnx'",
    ),
    "cycle": (
        lambda: small("a = Relu (b)", "b = Relu (a)", "y = Add (a, x)"),
        ModelError,
        r"the graph has a cycle through 'a', 'b' \[a graph must be acyclic\]",
    ),
    "unknown operator": (
        lambda: small("y = Rellu (x)"),
        ModelError,
        r"node 'y' \(Rellu\): unknown operator Rellu \[.*opset 17; did you mean Relu\?\]",
    ),
    "unknown domain": (
        lambda: small("y = foreign.Relu (x)"),
        ModelError,
        r"node 'y' \(Relu\): its domain 'foreign' is not imported \[add it to the model's opset_import\]",
    ),
    "our own domain": (
        lambda: changed(relu, lambda m: setattr(m.graph.node[0], "domain", "graphopt.kernel")),
        ModelError,
        "the domain 'graphopt.kernel' is graphopt's own",
    ),
    "type mismatch": (
        lambda: small("i = Shape (x)", "y = Add (x, i)"),
        ModelError,
        r"node 'Add:y' \(Add\): input 1 \('i'\) is int64, input 0 \('x'\) float32; Add wants one type \[a Cast",
    ),
    "type refused": (
        lambda: small("y = And (x, x)"),
        ModelError,
        r"node 'And:y' \(And\): input 0 \('x'\) is float32, And takes bool",
    ),
    "output of another type": (
        lambda: small("y = Relu (x)", outputs="int64[2,3] y"),
        ModelError,
        r"node 'Relu:y' \(Relu\): its output 'y' is float32, the model says int64",
    ),
    "shapes that do not fit": (
        lambda: small("y = Add (x, z)", inputs="float[2,3] x, float[2,4] z"),
        ModelError,
        r"node 'Add:y' \(Add\): .*[Ii]ncompatible dimensions",
    ),
    "too many inputs": (
        lambda: small("y = Relu (x, x)"),
        ModelError,
        r"node 'y' \(Relu\): it has 2 inputs, Relu has 1",
    ),
    "too few inputs": (lambda: small("y = Add (x)"), ModelError, "it has 1 inputs, Add has 2"),
    "an input left out": (
        lambda: changed(lambda: small("y = Add (x, x)"), lambda m: m.graph.node[0].input.__setitem__(0, "")),
        ModelError,
        r"its input 0 \('A'\) is left out",
    ),
    "no outputs": (
        lambda: changed(relu, lambda m: m.graph.node[0].ClearField("output")),
        ModelError,
        "it has 0 outputs, Relu has 1",
    ),
    "missing attribute": (lambda: small("y = Concat (x, x)"), ModelError, "attribute 'axis' is missing"),
    "unknown attribute": (
        lambda: small("y = LeakyRelu <slope = 0.1> (x)"),
        ModelError,
        r"unknown attribute 'slope' \[LeakyRelu has alpha\]",
    ),
    "attribute of another kind": (
        lambda: small("y = LeakyRelu <alpha = 1> (x)"),
        ModelError,
        "attribute 'alpha' is INT, not FLOAT",
    ),
    "equation that is none": (
        lambda: small('y = Einsum <equation = "...i \\r>...i"> (x)'),
        ModelError,
        r"node 'y' \(Einsum\): its equation .* is none \[such as 'ij,jk->ik'\]",
    ),
    "attribute twice": (
        lambda: changed(
            lambda: small("y = LeakyRelu <alpha = 0.1> (x)"), lambda m: attribute(m, "alpha", 0.2)
        ),
        ModelError,
        "attribute 'alpha' is given twice",
    ),
    "reference attribute outside": (
        lambda: changed(
            lambda: small("y = LeakyRelu <alpha = 0.1> (x)"),
            lambda m: setattr(m.graph.node[0].attribute[0], "ref_attr_name", "slope"),
        ),
        ModelError,
        "attribute 'alpha' refers to 'slope', which is no parameter here",
    ),
    "undefined name": (
        lambda: small("y = Add (x, z)"),
        ModelError,
        r"node 'y' \(Add\): nothing computes its input 'z'",
    ),
    "undefined output": (lambda: small("z = Relu (x)"), ModelError, "output 'y': nothing computes it"),
    "output twice": (
        lambda: small("y = Relu (x)", outputs="float[2,3] y, float[2,3] y"),
        ModelError,
        r"output 'y': two outputs have this name \[list it once, or add an Identity",
    ),
    "computed twice": (
        lambda: small("y = Relu (x)", "y = Neg (x)"),
        ModelError,
        r"value 'y': two nodes compute it \[ONNX forbids this: export the model again",
    ),
    "input computed": (lambda: small("x = Relu (x)"), ModelError, "'x'"),
    "input twice": (
        lambda: small("y = Relu (x)", inputs="float[2,3] x, float[2,3] x"),
        ModelError,
        "input 'x': two values have this name",
    ),
    "nameless input": (
        lambda: changed(relu, lambda m: setattr(m.graph.input[0], "name", "")),
        ModelError,
        "an input has no name",
    ),
    "input without type": (
        lambda: changed(relu, lambda m: m.graph.input[0].ClearField("type")),
        ModelError,
        "input 'x': its element type is missing",
    ),
    "unknown element type": (
        lambda: changed(relu, lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 99)),
        ModelError,
        "input 'x': unknown element type 99",
    ),
    "weight twice": (
        lambda: changed(conv, lambda m: m.graph.initializer.append(m.graph.initializer[0])),
        ModelError,
        "tensor 'w': two tensors have this name",
    ),
    "weight too short": (
        lambda: changed(conv, lambda m: set_raw(m, b"\0" * 100)),
        ModelError,
        "tensor 'w': its data does not fit its type and shape",
    ),
    "weight too long": (
        lambda: changed(conv, lambda m: set_raw(m, b"\0" * 220)),
        ModelError,
        "tensor 'w': its data does not fit its type and shape",
    ),
    "weight of unknown type": (
        lambda: changed(conv, lambda m: setattr(m.graph.initializer[0], "data_type", 77)),
        ModelError,
        "tensor 'w': its data does not fit",
    ),
    "weight with a negative dimension": (
        lambda: changed(conv, lambda m: set_dims(m, -3, -2, 3, 3)),
        ModelError,
        r"tensor 'w': its shape \[-3, -2, 3, 3\] is absurd \[the file is damaged; export the model again\]",
    ),
    "weight whose size overflows": (
        lambda: changed(conv, lambda m: set_dims(m, 1 << 62, 4, 1, 1)),
        ModelError,
        r"tensor 'w': its shape \[4611686018427387904, 4, 1, 1\] is absurd",
    ),
    "absurd input": (
        lambda: small("y = Relu (x)", inputs="float[9000000000000,3] x"),
        ModelError,
        r"input 'x': its shape \[9000000000000, 3\] is absurd",
    ),
    "negative dimension": (
        lambda: changed(
            relu, lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", -5)
        ),
        ModelError,
        "input 'x': a dimension is -5",
    ),
    "absurd output": (
        lambda: changed(
            lambda: small("y = Tile (x, n)"),
            lambda m: m.graph.initializer.append(numpy_helper.from_array(np.array([1 << 40, 1]), "n")),
        ),
        ModelError,
        r"node 'Tile:y' \(Tile\): its shape \[2199023255552, 3\] is absurd",
    ),
    "window larger than its input": (
        lambda: small("y = MaxPool <kernel_shape = [9, 9]> (x)", inputs="float[1,1,4,4] x"),
        ModelError,
        r"node 'MaxPool:y' \(MaxPool\): its output 'y' would be of shape \[1, 1, -4, -4\]",
    ),
    "deep nesting": (lambda: nested(30), ModelError, "graphs are nested too deeply"),
    "functions in a circle": (circle, ModelError, "local functions call each other in a circle: f -> g -> f"),
    "functions that unfold": (bomb, ModelError, "its local function 'f0' unfolds to more than 100000 nodes"),
    "function with too many inputs": (
        lambda: parsed(
            """small (float[2,3] x) => (float[2,3] y) { y = local.f (x, x) }
            <domain: "local", opset_import: ["" : 17]> f (a) => (b) { b = Relu (a) }"""
        ),
        ModelError,
        r"node 'y' \(f\): it has 2 inputs, the function 'f' 1",
    ),
    "name that is not text": (
        lambda: onnx.ModelProto.FromString(
            small("y = Relu (x)", "unread = Relu (marked)", inputs="float[2,3] x, float[2,3] marked")
            .SerializeToString()
            .replace(b"marked", b"mark\xff\xfe")
        ),
        ModelError,
        r"b'mark\\xff\\xfe' is not UTF-8 text",
    ),
    "sequence": (
        lambda: changed(
            relu,
            lambda m: m.graph.input[0].type.sequence_type.elem_type.tensor_type.__setattr__("elem_type", 1),
        ),
        UnsupportedError,
        r"input 'x': it is a sequence, not a tensor \[graphopt works on dense tensors alone\]",
    ),
    "sequence inside": (
        lambda: small("s = SequenceConstruct (x, x)", "y = ConcatFromSequence <axis = 0> (s)"),
        UnsupportedError,
        r"node 'SequenceConstruct:s' \(SequenceConstruct\): it is a sequence",
    ),
    "optional": (
        lambda: small("o = Optional (x)", "y = OptionalGetElement (o)"),
        UnsupportedError,
        r"node 'Optional:o' \(Optional\): it is an optional, not a tensor",
    ),
    "constant without value": (
        lambda: small("y = Constant ()"),
        ModelError,
        "a Constant has exactly one value",
    ),
    "condition that is no truth value": (
        lambda: changed(control, lambda m: setattr(m.graph.input[1].type.tensor_type, "elem_type", 1)),
        ModelError,
        r"\(If\): input 0 \('flag'\) is float32, If takes bool",
    ),
    "attribute that names a type": (
        lambda: changed(
            lambda: small("y = foreign.F (x)"),
            lambda m: (
                m.opset_import.add(domain="foreign", version=1),
                m.graph.node[0].attribute.append(AttributeProto(name="of", type=AttributeProto.TYPE_PROTO)),
            ),
        ),
        UnsupportedError,
        r"node 'y' \(F\): attribute 'of' is a type_proto",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_model(name: str) -> None:
    build, kind, message = MODELS[name]
    with pytest.raises(kind, match=message) as caught:
        read_model(build())
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"the file is empty \[is this an ONNX file\?"),
        (b"hello, this is text\n", "not an ONNX model, or cut short"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not an ONNX model, or cut short"),
        (b"\x08\x08", "the file holds no graph"),
    ],
)
def test_not_a_model(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_model(data)
    with pytest.raises(ModelError, match=rf"^photo\.onnx: {message}"):
        read_model(path)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"^gone\.onnx: cannot be read: No such file or directory \[check the path .*gone\.onnx\]$",
    ):
        read_model(tmp_path / "gone.onnx")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_model(tmp_path)


def test_every_truncation_is_told() -> None:
    """A model cut anywhere is refused, or is one that is complete without the rest: never anything else."""
    for model in (cnn(), control()):
        data = model.SerializeToString()
        for end in range(len(data)):
            try:
                read_model(data[:end])
            except ModelError as error:
                assert "\n" not in str(error)


def test_wrong_input_shapes() -> None:
    for shapes, message in (
        (
            {"image": (1, 2, 8)},
            r"input shape image=1,2,8: 3 dimensions given, the model's 'image' has 4 \[write image=",
        ),
        ({"image": (1, 3, 8, 8)}, r"input shape image=1,3,8,8: dimension 1 is 3, the model's is 2"),
        ({"image": (-1, 2, 8, 8)}, r"image=-1,2,8,8: dimension 0 is -1 \[give whole numbers from 0 on\]"),
        (
            {"img": (1, 2, 8, 8)},
            r"input shape img=1,2,8,8: the model has no input 'img' \[did you mean image\?\]",
        ),
        ({"w": (4, 2, 3, 3)}, "the model has no input 'w'"),
    ):
        with pytest.raises(UsageError, match=message):
            read_model(cnn(), input_shapes=shapes)
    model = small("y = Add (x, z)", inputs="float[N,3] x, float[N,3] z", outputs="float[N,3] y")
    with pytest.raises(UsageError, match="input shape z=3,3: dimension 0, 'N', is 2 elsewhere and 3 here"):
        read_model(model, input_shapes={"x": (2, 3), "z": (3, 3)})
    with pytest.raises(UsageError, match="^input shape x=1099511627776,3: no machine holds so many elements"):
        read_model(model, input_shapes={"x": (1 << 40, 3)})


def test_unusual_and_valid() -> None:
    """NaN attributes, empty tensors, branches never taken that cannot be, strings."""
    empty = small("y = Relu (x)", inputs="float[0,3] x", outputs="float[0,3] y")
    assert read_model(empty).outputs[0].static_shape == (0, 3)
    nan = changed(lambda: small("y = LeakyRelu <alpha = 0.1> (x)"), lambda m: None)
    nan.graph.node[0].attribute[0].f = float("nan")
    assert np.isnan(next(read_model(nan).nodes).float("alpha"))
    texts = changed(
        lambda: small("y = Equal (s, t)", inputs="string[2] s", outputs="bool[2] y"),
        lambda m: m.graph.initializer.append(
            helper.make_tensor("t", TensorProto.STRING, [2], [b"a", "\u00e9".encode()])
        ),
    )
    texts.opset_import[0].version = 19
    assert read_model(texts).value("t").constant.tolist() == ["a", "\u00e9"]
