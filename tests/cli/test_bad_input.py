"""Bad input at the command line: one line that says what and where, a non-zero code, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.cli.conftest import Cli, network

Node = onnx.NodeProto


def model_of(*nodes: Node, shape: tuple[int, ...] = (4,), **constants: np.ndarray) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y"))
    weights = [numpy_helper.from_array(data, name) for name, data in constants.items()]
    graph = helper.make_graph(list(nodes), "bad", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def relu(source: str, target: str, name: str) -> Node:
    return helper.make_node("Relu", [source], [target], name)


def write_text(path: Path) -> None:
    path.write_text("a poem, and no model at all\n")


def write_empty(path: Path) -> None:
    path.touch()


def write_truncated(path: Path) -> None:
    data = network().SerializeToString()
    path.write_bytes(data[: len(data) // 2])


def write_cycle(path: Path) -> None:
    one, two = helper.make_node("Add", ["x", "b"], ["a"], "one"), relu("a", "b", "two")
    path.write_bytes(model_of(one, two, relu("b", "y", "three")).SerializeToString())


def write_unknown_operator(path: Path) -> None:
    path.write_bytes(model_of(helper.make_node("Reloo", ["x"], ["y"], "odd")).SerializeToString())


def write_type_mismatch(path: Path) -> None:
    add = helper.make_node("Add", ["x", "w"], ["y"], "sum")
    path.write_bytes(model_of(add, w=np.ones(4, np.int64)).SerializeToString())


def write_shape_mismatch(path: Path) -> None:
    product = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    path.write_bytes(model_of(product, w=np.ones((5, 4), np.float32)).SerializeToString())


def write_missing_value(path: Path) -> None:
    path.write_bytes(model_of(relu("nowhere", "y", "lost")).SerializeToString())


def write_escaping_data(path: Path) -> None:
    (path.parent.parent / "secret.bin").write_bytes(bytes(64))
    made = model_of(helper.make_node("Add", ["x", "w"], ["y"], "sum"), w=np.ones(4, np.float32))
    [tensor] = made.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    path.write_bytes(made.SerializeToString())


def write_text_elements(path: Path) -> None:
    made = model_of(helper.make_node("Identity", ["x"], ["y"], "copy"))
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = TensorProto.STRING
    path.write_bytes(made.SerializeToString())


def write_absurd_shape(path: Path) -> None:
    made = model_of(helper.make_node("Add", ["x", "w"], ["y"], "sum"), w=np.ones(4, np.float32))
    made.graph.initializer[0].dims[:] = [2**40, 2**30]
    path.write_bytes(made.SerializeToString())


BAD: dict[str, tuple[Callable[[Path], None], int, tuple[str, ...]]] = {
    "not ONNX": (write_text, 3, ("not an ONNX model",)),
    "empty": (write_empty, 3, ("empty",)),
    "truncated": (write_truncated, 3, ("not an ONNX model", "cut short")),
    "a cycle": (write_cycle, 3, ("one",)),
    "an unknown operator": (write_unknown_operator, 3, ("odd", "Reloo")),
    "a type mismatch": (write_type_mismatch, 3, ("sum", "Add")),
    "a shape mismatch": (write_shape_mismatch, 3, ("product", "MatMul")),
    "a value from nowhere": (write_missing_value, 3, ("lost", "nowhere")),
    "data outside the folder": (write_escaping_data, 3, ("'w'", "../secret.bin")),
    "an absurd shape": (write_absurd_shape, 3, ("'w'", "1099511627776")),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("command", ["inspect", "optimize", "compile"])
def test_a_bad_model(cli: Cli, tmp_path: Path, case: str, command: str) -> None:
    write, code, texts = BAD[case]
    (tmp_path / "in").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    model = tmp_path / "in" / "bad.onnx"
    write(model)
    places = {"inspect": (), "optimize": ("-o", out / "small.onnx"), "compile": ("-o", out / "bad.bundle")}
    failed = cli(command, model, *places[command])
    assert failed.error.startswith("bad.onnx: ")
    assert failed.code == code
    assert all(text in failed.error for text in texts), failed.error
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("command", ["inspect", "optimize", "compile"])
def test_a_missing_model(cli: Cli, tmp_path: Path, command: str) -> None:
    failed = cli(command, tmp_path / "none.onnx")
    assert failed.code == 2
    assert "none.onnx" in failed.error and "No such file" in failed.error


def test_names_cannot_break_the_line(cli: Cli, tmp_path: Path) -> None:
    node = helper.make_node("Reloo", ["x"], ["y"], "two\nlines \x1b[31mred")
    (tmp_path / "bad.onnx").write_bytes(model_of(node).SerializeToString())
    assert "\x1b" not in cli("inspect", tmp_path / "bad.onnx").error


def _meant(argument: str, meant: dict[str, Path]) -> str:
    first, slash, rest = argument.partition("/")
    return f"{meant[first]}{slash}{rest}" if first in meant else argument


def test_a_folder_is_no_model(cli: Cli, tmp_path: Path) -> None:
    for command in ("optimize", "compile"):
        failed = cli(command, tmp_path)
        assert failed.code == 2
        assert f"{tmp_path} is a folder: name a model's file" in failed.error


@pytest.mark.parametrize("command", [["inspect"], ["compile"], ["run"], ["verify"], ["targets", "show"]])
def test_a_command_alone_shows_its_help_and_no_error(cli: Cli, command: list[str]) -> None:
    shown = cli(*command)
    assert (shown.code, shown.err) == (2, "")
    assert "Usage: " in shown.out and "Example: " in shown.out


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["inspect", "MODEL", "--target", "rpi44"], ["rpi44", "rpi4"]),
        (["inspect", "MODEL", "--target", "none.toml"], ["none.toml", "No such file"]),
        (["inspect", "MODEL", "--input-shape", "x=1,a"], ["--input-shape", "x=1,a", "NAME=1,3,224,224"]),
        (["inspect", "MODEL", "--input-shape", "z=1"], ["input shape z=1: ", "'z'", "its inputs: x"]),
        (["inspect", "MODEL", "--input-shape", "x=1,3"], ["input shape x=1,3: 2 dim", "write x=1,3,8,8"]),
        (["inspect", "MODEL", "--input-shape", "x=1,9,8,8"], ["input shape x=1,9,8,8: ", "is 9", "is 3"]),
        (["inspect", "DYNAMIC", "--input-shape", "x=1"], ["input shape x=1: 1 dim", "write x=N,3,8,8"]),
        (["compile", "DYNAMIC", "--input-shape", "x=1000000000000,3,8,8"], ["input shape x=1000", "smaller"]),
        (["compile", "DYNAMIC", "--input-shape", "x=0,3,8,8"], ["--input-shape: 'x=0,3,8,8'", "from 1 on"]),
        (["compile", "DYNAMIC", "--input-shape", "x=-1,3,8,8"], ["--input-shape: 'x=-1,3,8,8'", "NAME=1,3"]),
        (["inspect", "MODEL", "--colour"], ["--colour", "graphopt inspect --help"]),
        (["compile", "MODEL", "--threads", "0"], ["--threads", "greater than or equal to 1"]),
        (["compile", "MODEL", "--name", "Two Words"], ["Two Words", "two_words"]),
        (["insect", "MODEL"], ["insect"]),
        (["targets", "show", "rpi9"], ["rpi9"]),
        (["bench", "BUNDLE", "--threads", "1,two"], ["--threads", "1,two", "write 1,2,4"]),
        (["bench", "BUNDLE", "--threads", ""], ["--threads", "write 1,2,4"]),
        (["bench", "BUNDLE", "--per-layer", "--against", "MODEL"], ["--per-layer and --against exclude"]),
        (["bench", "BUNDLE", "--per-layer", "--threads", "1,2"], ["on one number of threads", "give one"]),
        (
            ["bench", "BUNDLE", "--per-layer", "--shape", "1"],
            ["on the first shape alone", "compile this shape"],
        ),
        (["compile", "MODEL", "-o", "MODEL/x"], ["is a file, not a folder"]),
        (["run", "MODEL", "--random"], ["not a bundle"]),
        (["run", "FOLDER", "--random"], ["not a bundle", "graphopt compile"]),
        (["bench", "FOLDER"], ["not a bundle"]),
        (["verify", "MODEL", "FOLDER"], ["not a bundle"]),
    ],
)
def test_a_bad_option(
    cli: Cli, model: Path, dynamic: Path, bundle: Path, tmp_path: Path, arguments: list[str], texts: list[str]
) -> None:
    meant = {"MODEL": model, "DYNAMIC": dynamic, "BUNDLE": bundle, "FOLDER": tmp_path}
    failed = cli(*(_meant(argument, meant) for argument in arguments))
    assert failed.code == 2
    assert all(text in failed.error for text in texts), failed.error


def test_texts_are_no_elements_for_a_library(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "texts.onnx"
    write_text_elements(path)
    failed = cli("compile", path, "-o", tmp_path / "texts.bundle")
    assert failed.code == 4
    assert failed.error.startswith("input 'x': its elements are string") and "extract_model" in failed.error
    assert [entry.name for entry in tmp_path.iterdir()] == ["texts.onnx"]
    assert "its elements are string" in cli("inspect", path).out


def test_open_shapes_are_told_with_the_way_out(cli: Cli, dynamic: Path, tmp_path: Path) -> None:
    failed = cli("compile", dynamic, "-o", tmp_path / "net.bundle")
    assert failed.code == 4
    assert "--input-shape x=..." in failed.error and "float32[N, 3, 8, 8]" in failed.error
    assert list(tmp_path.iterdir()) == []


def test_what_no_kernel_can_count(cli: Cli, dynamic: Path, tmp_path: Path) -> None:
    shape = ("--input-shape", "x=100000000,3,8,8")
    failed = cli("compile", dynamic, *shape, "-o", tmp_path / "net.bundle")
    assert failed.code == 4
    assert "'x' has 19,200,000,000 elements, a kernel counts 1,073,741,824" in failed.error
    assert "19,200,000,000" in cli("inspect", dynamic, *shape).out
    assert list(tmp_path.iterdir()) == []


def test_what_the_machine_cannot_hold(
    cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphopt.targets.device import Host

    monkeypatch.setattr(Host, "memory_bytes", property(lambda self: 1000))
    failed = cli("compile", model, "-o", tmp_path / "net.bundle")
    assert failed.code == 4
    assert "a run needs" in failed.error and "host has" in failed.error and "smaller" in failed.error
    assert list(tmp_path.iterdir()) == []


def test_compile_destroys_nothing(cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("keep me")
    failed = cli("compile", model, "-o", tmp_path)
    assert failed.code == 2 and str(tmp_path) in failed.error
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "graphopt", "--debug", "inspect", str(tmp_path / "none.onnx")]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode != 0
    assert "Traceback" in shown.stderr and "UsageError" in shown.stderr


def test_limits_of_ram_and_flash_are_told_together(cli: Cli, dynamic: Path, tmp_path: Path) -> None:
    """On the command line as `64K`; they are for microcontrollers."""
    model = ("compile", dynamic, "--input-shape", "x=8,3,8,8", "-o", tmp_path / "fw")
    told = cli(*model, "-t", "cortex-m4f", "--ram", "1K", "--flash", "512")
    assert told.code == 4 and "--ram allows 1,024" in told.error and "--flash allows 512" in told.error
    assert cli(*model, "--ram", "64K").code == 2
    assert cli(*model, "-t", "cortex-m4f", "--ram", "64x").code == 2
    assert not (tmp_path / "fw").exists()
