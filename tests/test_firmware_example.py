"""examples/firmware: what its page tells is what `make` does, on both boards."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graphopt.targets.bundle import Bundle
from graphopt.targets.firmware.emulated import EmulatedFirmware
from graphopt.verification import random_sample
from tests.targets.conftest import runnable

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "firmware"
BOARDS = {"mps2-an386": "cortex-m4f", "mps3-an547": "cortex-m55"}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the boards' programs go; the first quantises the model for both."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return tmp_path_factory.mktemp("firmware")


@pytest.mark.slow
@pytest.mark.parametrize("board", [pytest.param(b, marks=runnable(core)) for b, core in BOARDS.items()])
def test_the_board_reads_digits(build: Path, board: str) -> None:
    """Nearly all of them; the instructions are those that the plugin counts, but for the call and SysTick's steps."""
    command = ["make", "-s", "-C", str(FOLDER), board, f"BUILD={build}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    right, count = map(int, re.findall(r"right: (\d+) of (\d+)\n", done.stdout)[0])
    assert count == 150 and right >= 145
    (instructions,) = map(int, re.findall(r"instructions of one inference: (\d+)\n", done.stdout))
    bundle = Bundle.open(build / board / "model")
    module = EmulatedFirmware(bundle, count=True)
    module(random_sample(bundle.abi.inputs, 0))
    assert instructions == pytest.approx(module.measured.total_instructions, rel=0.02)
    assert f"arena: {bundle.abi.workspace_bytes} bytes\n" in done.stdout


def test_the_page_lists_the_files() -> None:
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{path.name}`" in told for path in FOLDER.iterdir() if path.suffix not in (".md", ""))
    assert "make -C examples/firmware " in told and (ROOT / "docs" / "firmware.md").is_file()
