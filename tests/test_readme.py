"""README.md tells the truth: its commands, its Python, its C, its lists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.cli import main
from graphopt.cli.app import app
from graphopt.targets.device import list_targets, load_target
from tests.cli.conftest import network
from tests.targets.conftest import runnable

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(after: str) -> list[str]:
    """The lines of the first indented block that follows a text."""
    lines = README.split(after, 1)[1].split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("    "))
    found = []
    for line in lines[start:]:
        if not line.startswith("    "):
            break
        found.append(line[4:])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model.onnx that takes the README's image."""
    made = tmp_path_factory.mktemp("readme")
    nodes = [helper.make_node("ReduceMean", ["x"], ["scores"], axes=[2, 3], keepdims=0)]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "height", "width"])]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 3])]
    graph = helper.make_graph(nodes, "of another name", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), made / "model.onnx")
    return made


def test_the_python_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    array = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    names: dict[str, object] = {"array": array}
    exec("\n".join(block("From Python:")), names)
    outputs = names["outputs"]
    assert isinstance(outputs, dict) and list(outputs) == ["scores"]
    np.testing.assert_allclose(outputs["scores"], array.mean(axis=(2, 3)), atol=1e-5)


def test_the_c_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    if not (folder / "model.bundle").exists():
        test_the_python_works(folder, monkeypatch)
    program = [
        '#include "model.h"',
        "#include <stdio.h>",
        "static float image[3 * 224 * 224], scores[3];",
        "int main(void) {",
        "    for (int i = 0; i < 3 * 224 * 224; ++i) image[i] = (float)(i / (224 * 224));",
        *block("On the device, from C"),
        '    printf("%g %g %g\\n", scores[0], scores[1], scores[2]);',
        "    return error;",
        "}",
    ]
    (folder / "main.c").write_text("\n".join(program))
    zig = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Imodel.bundle",
        "-Lmodel.bundle",
    ]
    subprocess.run([*zig, "main.c", "-lmodel", "-Wl,-rpath,$ORIGIN/model.bundle", "-o", "main"], check=True)
    done = subprocess.run(["./main"], capture_output=True, text=True, check=True)
    assert done.stdout == "0 1 2\n"


def test_the_commands_are_those_there_are() -> None:
    told = set(re.findall(r"^\| `(\w+)", README, re.MULTILINE))
    there = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    assert told == there | {group.name for group in app.registered_groups}


@pytest.mark.parametrize("command", re.findall(r"^\| `(\w+)", README, re.MULTILINE))
def test_the_options_are_those_there_are(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = re.findall(rf"^\| `{command}.*$", README, re.MULTILINE)
    assert main([command, "--help"]) == 0
    helped = capsys.readouterr().out
    for option in re.findall(r"--[a-z-]+|(?<= )-o(?= )", row):
        assert option in helped


def test_the_two_commands_of_the_use_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    shape = ["--input-shape", "x=1,3,224,224"]
    compile_line, verify_line = (line.split()[1:] for line in block("the command `graphopt`"))
    compile_line[compile_line.index("rpi4")] = "host"
    assert main([*compile_line, *shape]) == 0
    assert main(verify_line) == 0


def test_quantising_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "model.onnx")
    images = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
    for name in ("samples.npz", "test.npz"):
        np.savez(name, images=images, labels=np.arange(40) % 5)
    for line in block("## Quantising"):
        assert main(shlex.split(line)[1:]) == 0


@pytest.mark.parametrize("core", [pytest.param("cortex-m4f", marks=runnable("cortex-m4f"))])
def test_firmware_works(core: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "model.onnx")
    images = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
    np.savez("samples.npz", images=images)
    quantise = "quantize model.onnx -c samples.npz:images --methods none -o model.int8.onnx"
    lines = block("## Firmware")
    assert len(lines) == 3 and core in lines[0]
    for line in (f"graphopt {quantise}", *lines):
        assert main(shlex.split(line)[1:]) == 0
    assert Path("modules", "model", "zephyr", "module.yml").is_file()


def test_the_targets_are_those_there_are(tmp_path: Path) -> None:
    text = README.split("## Targets")[1].split("A target is a TOML file")[0]
    assert sorted(re.findall(r"`([\w.-]+)`", text)) == sorted(list_targets())
    (tmp_path / "mine.toml").write_text("\n".join(block("your own is accepted")))
    assert load_target(str(tmp_path / "mine.toml")).cores == 2


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
