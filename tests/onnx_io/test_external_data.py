"""Weights in files beside the model: read by mapping, written beyond one file, never from outside the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import ModelError, UnsupportedError
from graphopt.ir import DType
from graphopt.onnx_io import write
from graphopt.onnx_io.read import read_model
from graphopt.onnx_io.write import to_bytes, write_model

DATA = np.arange(12, dtype=np.float32)


def model_with(location: str, data_type: int = TensorProto.FLOAT, **entries: object) -> onnx.ModelProto:
    """y = x + w, where w is said to be in the file `location`."""
    weight = TensorProto(name="w", dims=[12], data_type=data_type, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    info = helper.make_tensor_value_info("x", data_type, [12])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [info], [info], [weight])
    graph.output[0].name = "y"
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a data file, inside another that has one too."""
    (tmp_path / "secret.bin").write_bytes(DATA.tobytes())
    inner = tmp_path / "model"
    inner.mkdir()
    (inner / "w.bin").write_bytes(bytes(8) + DATA.tobytes())
    return inner


def test_read(folder: Path) -> None:
    graph = read_model(saved(folder, model_with("w.bin", offset=8, length=48)))
    weight = graph.value("w").constant
    assert weight is not None
    assert np.array_equal(weight, DATA)
    assert not weight.flags.writeable
    rest = read_model(saved(folder, model_with("w.bin", offset=8)))
    assert np.array_equal(rest.value("w").constant, DATA)


def test_read_half_bytes(folder: Path) -> None:
    (folder / "n.bin").write_bytes(bytes([0x21, 0x43, 0xF5, 0, 0, 0x80]))
    model = model_with("n.bin", TensorProto.INT4)
    model.graph.node[0].op_type = "Identity"
    del model.graph.node[0].input[0]
    model.opset_import[0].version = 21
    constant = read_model(saved(folder, model)).constants[0]
    assert constant.dtype is DType.int4
    assert constant.constant.astype(int).tolist() == [1, 2, 3, 4, 5, -1, 0, 0, 0, 0, 0, -8]


@pytest.mark.parametrize(
    ("location", "entries", "message"),
    [
        (
            "../secret.bin",
            {},
            r"its data path '\.\./secret\.bin' leaves the model's folder \[keep the model and",
        ),
        ("sub/../../secret.bin", {}, "leaves the model's folder"),
        ("link.bin", {}, "its data path 'link.bin' leaves the model's folder"),
        ("", {}, "leaves the model's folder"),
        ("gone.bin", {}, r"its data file 'gone\.bin' is missing"),
        (".", {}, "its data file '.' is missing"),
        ("round.bin", {}, "is no path|is missing"),
        ("w.bin\0", {}, "is no path"),
        ("a" * 5000, {}, "is no path"),
        (
            "w.bin",
            {"offset": 9},
            r"ends at byte 56, before its data \(48 bytes at 9\) \[the file is cut",
        ),
        ("w.bin", {"offset": 1 << 70}, "ends at byte 56"),
        ("w.bin", {"offset": -8}, "its external data begins at byte -8"),
        ("w.bin", {"length": 40}, "its external data has 40 bytes at 0, its shape needs 48"),
        ("w.bin", {"length": 1 << 70}, "its shape needs 48"),
        ("w.bin", {"offset": "many"}, "its external data is described wrongly"),
    ],
)
def test_refused(folder: Path, location: str, entries: dict[str, object], message: str) -> None:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    (folder / "round.bin").symlink_to(folder / "round.bin")
    with pytest.raises(ModelError, match=message) as caught:
        read_model(saved(folder, model_with(location, **entries)))
    assert caught.value.where == "model.onnx: tensor 'w'"


def test_absolute_path(folder: Path) -> None:
    for location in (folder / "w.bin", folder.parent / "secret.bin"):
        with pytest.raises(ModelError, match="leaves the model's folder"):
            read_model(saved(folder, model_with(str(location))))


def test_texts_and_unknown_types(folder: Path) -> None:
    for data_type, message in (
        (TensorProto.STRING, "texts cannot be external data"),
        (77, "described wrongly|type"),
    ):
        with pytest.raises(ModelError, match=message):
            read_model(saved(folder, model_with("w.bin", data_type, offset=8)))


def test_no_folder() -> None:
    with pytest.raises(ModelError, match="its data is in 'w.bin', but the model has no folder"):
        read_model(model_with("w.bin").SerializeToString())


def test_write_beyond_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    info = helper.make_tensor_value_info("x", 1, [4, 512])
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    output = helper.make_tensor_value_info("y", 1, [4, 512])
    arrays = {"a": random.normal(size=(512, 512)), "b": random.normal(size=512)}
    weights = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [info], [output], weights), ir_version=10)
    graph = read_model(model)
    monkeypatch.setattr(write, "LARGEST_MESSAGE", 1 << 19)
    with pytest.raises(
        UnsupportedError, match=r"its weights do not fit one ONNX file \[write_model puts them"
    ):
        to_bytes(graph)
    for _ in range(2):  # over the files of the first time
        write_model(graph, tmp_path / "big.onnx")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
        onnx.checker.check_model(tmp_path / "big.onnx", full_check=True)
        again = read_model(tmp_path / "big.onnx")
        for name, array in arrays.items():
            assert np.array_equal(again.value(name).constant, array.astype(np.float32))
    assert (tmp_path / "big.onnx").stat().st_size < 3000
    assert (tmp_path / "big.onnx.data").stat().st_size == 4 * 512 * 513
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the judge here")
    session = onnxruntime.InferenceSession(tmp_path / "big.onnx", providers=["CPUExecutionProvider"])
    x = random.normal(size=(4, 512)).astype(np.float32)
    want = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, {"x": x})[0], want.run(None, {"x": x})[0])


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    graph = read_model(saved(folder, model_with("w.bin", offset=8)))
    target = tmp_path / "out.onnx"
    target.write_bytes(b"before")

    def fail(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space"):
        write_model(graph, target)
    assert target.read_bytes() == b"before"
    assert not list(tmp_path.glob(".*partial"))
