"""docs/writing-a-pass.md shows code as it is, and its command works."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest

from graphopt.cli.app import app
from tests.networks import NETWORKS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "writing-a-pass.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^`([\w/.]+)`\n```\w*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_block_says_where_it_stands() -> None:
    assert len(BLOCKS) == PAGE.count("```") // 2 > 8


@pytest.mark.parametrize(("path", "code"), BLOCKS, ids=[f"{i}-{path}" for i, (path, _) in enumerate(BLOCKS)])
def test_the_code_stands_in_the_file(path: str, code: str) -> None:
    assert code in (ROOT / path).read_text(encoding="utf-8")


def test_every_file_it_names_is_there() -> None:
    for path in re.findall(r"`((?:passes|tests|graphopt)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_the_command_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(NETWORKS["llama"](), "model.onnx")
    (command,) = re.findall(r"^    graphopt (optimize .*)$", PAGE, re.MULTILINE)
    with pytest.raises(SystemExit) as stop:
        app(command.split())
    printed = capsys.readouterr().out
    assert stop.value.code in (0, None)
    assert "recognize-rmsnorm fired 5 times" in printed
    reason = re.search(r"`('Sigmoid_.*?)`", PAGE.replace("\n", " "))
    assert reason is not None
    assert reason[1].split(",")[0] in " ".join(printed.split())
