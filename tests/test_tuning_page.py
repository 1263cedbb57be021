"""Every command of docs/tuning.md works as it is written, one after the other, and so does its Python."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from bench.network import Network
from graphopt.cli import main
from graphopt.targets.device import load_target
from graphopt.targets.instruction_counts import no_plugins

PAGE = Path(__file__).parent.parent / "docs" / "tuning.md"


def emulates(command: str) -> bool:
    return "--target rpi4" in command


def test_commands_and_program_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    net = Network()
    model = net.image_model(net.classifier(net.conv_bn("input", 3, 8, 3, 2), 8, 4), "net", 8, 4)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    target = load_target("rpi4")
    can_count = shutil.which(target.emulator) is not None and no_plugins(target) is None
    assert len(commands) == 8
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "graphopt"
        if can_count or not emulates(command):
            assert main(arguments) == 0, command
    told = capsys.readouterr().out
    assert "by the database" in told
    if can_count:
        assert "instructions" in told
    [script] = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(script, {})
    assert "'exact': " in capsys.readouterr().out
