"""`graphopt inspect`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.onnx_io.write import to_bytes
from tests.cli.conftest import Cli
from tests.passes.helpers import Draft
from tests.targets.test_fixed_network import tail

CONV, DENSE = 4 * 64 * 3 * 9, 4 * 5


def test_numbers_by_hand(cli: Cli, model: Path) -> None:
    data = cli("inspect", model, "--json", "--nodes").data
    assert data["inputs"] == [{"name": "x", "type": "float32[1, 3, 8, 8]"}]
    assert data["outputs"] == [{"name": "y", "type": "float32[1, 5]"}]
    assert data["opsets"] == {"ai.onnx": 17}
    assert data["macs"] == CONV + DENSE
    assert data["parameters"] == 4 * 27 + 4 * 4 + 4 * 5 + 5
    assert data["weight_bytes"] == 4 * data["parameters"]
    assert data["operators"]["Conv"] == 1 and data["nodes"] == 6
    assert (data["peak_activation_bytes"], data["peak_at"]) == (2 * 4 * 256, "norm")
    assert data["unsupported"] == [] and data["unfixed_inputs"] == []
    assert [node["macs"] for node in data["node_list"]] == [CONV, 0, 0, 0, 0, DENSE]
    assert data["nodes_after_passes"] < 6


def test_a_person_reads_the_same(cli: Cli, model: Path) -> None:
    shown = cli("inspect", model, "--target", "rpi4", "--nodes")
    assert (shown.code, shown.err) == (0, "")
    for text in ("net.onnx", "float32[1, 3, 8, 8]", f"{CONV:,}", "149", "rpi4 can run all of it.", "flatten"):
        assert text in shown.out


def test_symbols_are_no_error(cli: Cli, dynamic: Path) -> None:
    data = cli("inspect", dynamic, "--json").data
    assert (data["macs"], data["peak_activation_bytes"]) == (None, None)
    assert data["parameters"] == 149
    assert data["unfixed_inputs"] == ["x"] and data["unsupported"] == []
    assert "--input-shape x=..." in cli("inspect", dynamic).out
    fixed = cli("inspect", dynamic, "--input-shape", "x=2,3,8,8", "--json").data
    assert fixed["macs"] == 2 * (CONV + DENSE)


def test_a_shape_that_an_input_decides_is_no_error(cli: Cli, tmp_path: Path) -> None:
    node = helper.make_node("HannWindow", ["size"], ["y"], "window")
    size = helper.make_tensor_value_info("size", TensorProto.INT64, [])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([node], "windows", [size], [y])
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), tmp_path / "window.onnx")
    data = cli("inspect", tmp_path / "window.onnx", "--json").data
    assert data["arena_bytes_at_least"] is None and data["unfixed_inputs"] == []
    assert data["unsupported"] != []
    assert cli("inspect", tmp_path / "window.onnx").code == 0


@pytest.fixture(scope="module")
def odd(folder: Path) -> Path:
    """A custom operator between two that everybody knows."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "first"),
        helper.make_node("Whirl", ["a"], ["b"], "whirl", domain="com.example"),
        helper.make_node("Relu", ["b"], ["y"], "last"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    info = [helper.make_tensor_value_info("b", TensorProto.FLOAT, [4])]
    graph = helper.make_graph(nodes, "odd", values[:1], values[1:], value_info=info)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 3)]
    path = folder / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return path


def test_what_a_target_cannot_run_is_told_with_node_and_reason(cli: Cli, odd: Path) -> None:
    told = cli("inspect", odd, "--target", "rpi4", "--json")
    assert told.code == 4
    data = told.data
    [problem] = data["unsupported"]
    assert (problem["node"], problem["operator"]) == ("whirl", "com.example::Whirl")
    assert "no kernel" in problem["reason"]
    assert data["opsets"] == {"ai.onnx": 17, "com.example": 3}
    shown = cli("inspect", odd, "--target", "rpi4")
    assert (shown.code, shown.err) == (4, "")
    assert "rpi4 cannot run this model" in shown.out and "whirl" in shown.out


def test_only_a_target_that_is_named_decides_the_exit_code(cli: Cli, odd: Path, dynamic: Path) -> None:
    shown = cli("inspect", odd)
    assert shown.code == 0 and "host cannot run this model" in shown.out
    assert cli("inspect", dynamic, "-t", "rpi4").code == 0
    assert "Exit code 4" in cli("inspect", "--help").out


def test_the_arena_is_at_least_what_inspect_tells(cli: Cli, model: Path, bundle: Path) -> None:
    """And exactly that for a model whose kernels want no workspace."""
    memory = cli("inspect", bundle, "--json").data["memory"]
    data = cli("inspect", model, "--json").data
    assert data["arena_bytes_at_least"] == memory["lower_bound_bytes"] <= memory["arena_bytes"]
    assert "at least on host" in cli("inspect", model).out


def test_memory_is_asked_too(cli: Cli, dynamic: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text('base = "rpi4"\nram_mb = 1\n')
    shape = ("--input-shape", "x=2000,3,8,8")
    [problem] = cli("inspect", dynamic, "-t", tmp_path / "small.toml", *shape, "--json").data["unsupported"]
    assert problem["node"] == "the whole model" and "small has 1 MiB" in problem["reason"]
    assert cli("compile", dynamic, "-t", tmp_path / "small.toml", *shape, "-o", tmp_path / "b").code == 4
    assert cli("inspect", dynamic, "-t", "rpi4", *shape).code == 0


def test_compile_refuses_what_inspect_told(cli: Cli, odd: Path, tmp_path: Path) -> None:
    failed = cli("compile", odd, "-t", "rpi4", "-o", tmp_path / "odd.bundle")
    assert failed.code == 4
    assert "'whirl' (com.example::Whirl)" in failed.error and "graphopt inspect" in failed.error
    assert list(tmp_path.iterdir()) == []


def test_a_target_of_ones_own(cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "rpi3"\n')
    assert cli("inspect", model, "-t", tmp_path / "mine.toml", "--json").data["target"] == "mine"


def test_tvm_stays_unloaded(model: Path) -> None:
    program = (
        "import sys; from graphopt.cli import main; "
        f"code = main(['inspect', {str(model)!r}, '--target', 'rpi4']); "
        "sys.exit(code or 100 * ('tvm' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_floats_of_a_target_in_fixed_point_are_told(cli: Cli, tmp_path: Path) -> None:
    """With the reason why; a target that computes in floats anyway tells none."""
    path = tmp_path / "tail.onnx"
    g = Draft()
    g.output(tail(g))
    path.write_bytes(to_bytes(g.graph))
    (tmp_path / "board.toml").write_text('base = "rpi4"\nrequantization = "fixed"\n')
    told = cli("inspect", path, "-t", tmp_path / "board.toml", "--json").data["in_floats"]
    assert [node["operator"] for node in told] == ["Cast", "Mul", "Tanh", "QuantizeLinear"]
    assert told[-1]["reason"] == "Tanh has no form in fixed point"
    assert told[0]["reason"] == "its result is floats"
    shown = cli("inspect", path, "-t", tmp_path / "board.toml").out
    assert "board computes this in floats" in shown and "board can run all of it" in shown
    assert cli("inspect", path, "-t", "rpi4", "--json").data["in_floats"] == []


def test_a_boards_flash_and_ram_are_asked_too(cli: Cli, dynamic: Path, tmp_path: Path) -> None:
    """In the numbers that `compile` refuses it by; code and stack are not counted."""
    board = tmp_path / "board.toml"
    regions = [("flash", 0, 512), ("ram", 0x2000_0000, 4096)]
    board.write_text('base = "cortex-m4f"\n' + "".join(REGION.format(*region) for region in regions))
    image, channels = 4 * 3 * 64, 4 * 4 * 64
    shape = ("--input-shape", "x=8,3,8,8")
    told = cli("inspect", dynamic, "-t", board, *shape, "--json")
    reasons = [problem["reason"] for problem in told.data["unsupported"]]
    least = [int(reason.split()[2].replace(",", "")) for reason in reasons]
    assert told.code == 4
    assert [r.partition("bytes")[2] for r in reasons] == [
        " of flash without code and stack, board has 512",
        " of ram without code and stack, board has 4,096",
    ]
    assert 4 * (4 * 27 + 4 + 4 * 5 + 5) <= least[0] < 4 * 200
    assert 8 * (image + 4 * 5) < least[1] <= 8 * (image + channels + 4 * 4 + 4 * 5)
    refused = cli("compile", dynamic, "-t", board, *shape, "-o", tmp_path / "fw")
    assert refused.code == 4 and " bytes of flash without" in refused.error and " of ram " in refused.error
    assert "board cannot run this model" in cli("inspect", dynamic, "-t", board, *shape).out
    assert cli("inspect", dynamic, "-t", "stm32f103c8", "--input-shape", "x=1,3,8,8").code == 0


REGION = '[[regions]]\nname = "{0}"\nkind = "{0}"\nstart = {1}\nbytes = {2}\n'


def test_a_board_is_emulated_on_the_one_of_its_core(cli: Cli) -> None:
    from graphopt.targets import emulator
    from graphopt.targets.device import load_target

    if emulator.missing(load_target("rp2040")):
        pytest.skip("needs an emulator and a compiler")
    for command in (("targets",), ("targets", "show", "rp2040")):
        assert "emulated on mps2-an385" in cli(*command).out


def test_channels_that_go_together(cli: Cli, model: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "groups.svg"
    shown = cli("inspect", model, "--groups", "--picture", drawn)
    assert (shown.code, shown.err) == (0, "")
    for text in ("norm + conv", "dense", "Stay as they are", "'y' is an output of the model"):
        assert text in shown.out
    assert drawn.read_text().startswith("<svg")
    [group] = cli("inspect", model, "--groups", "--json").data["groups"]
    assert group["channels"] == 4 and [c["is_read"] for c in group["constants"]] == [False, False, True]
    assert "would be lost" in cli("inspect", model, "--picture", model).error
