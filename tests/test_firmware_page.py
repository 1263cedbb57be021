"""docs/firmware.md tells the truth: its commands run, its C and CMake build, its target is one, its names are there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.cli import main
from graphopt.targets.device import load_target
from graphopt.targets.firmware.package import PACKAGES
from tests.cli.conftest import network
from tests.targets.conftest import runnable
from tests.targets.firmware.conftest import STRICT

PAGE = (Path(__file__).parent.parent / "docs" / "firmware.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    graphopt (.+)$", PAGE, re.MULTILINE)
ON_CORE = [pytest.param("cortex-m4f", marks=runnable("cortex-m4f"))]


def block(first: str) -> str:
    """The indented lines from the one that begins so; empty lines between them count."""
    lines = PAGE.split("\n")
    start = next(n for n, line in enumerate(lines) if line.startswith(f"    {first}"))
    end = next(n for n in range(start, len(lines)) if lines[n] and not lines[n].startswith("    "))
    return "\n".join(line[4:] for line in lines[start:end]).rstrip() + "\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all commands of the page have run."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        onnx.save(network(), "model.onnx")
        np.savez("samples.npz", x=np.random.default_rng(0).normal(size=(20, 3, 8, 8)).astype(np.float32))
        for command in COMMANDS:
            assert main(shlex.split(command)) == 0, command
    return folder


@pytest.mark.parametrize("core", ON_CORE)
def test_its_program_compiles(made: Path, core: str) -> None:
    """With both bundles, the plain one too."""
    (made / "program.c").write_text(
        f"#include <stddef.h>\nint classify(const float *image);\n{block('#include')}"
    )
    target = load_target(core)
    for bundle in ("firmware", "plain"):
        flags = [*target.gcc_flags, *STRICT, f"-I{bundle}", "-c", "program.c", "-o", "program.o"]
        done = subprocess.run([f"{target.gcc}gcc", *flags], cwd=made, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("core", ON_CORE)
def test_its_names_are_there(made: Path, core: str) -> None:
    header = (made / "firmware" / "net.h").read_text()
    table = PAGE.split("| what | name |")[1].split("\n\n")[0]
    for name in re.findall(r"`((?:NET|net)_\w+)", table):
        if not re.search(r"SCALE|ZERO_POINT|quantize|\.\.\.|OUTPUT_0_$", name):
            assert re.search(rf"\b{name}\b", header), name
    assert (made / "modules" / "net" / "zephyr" / "module.yml").is_file()
    assert "config GRAPHOPT_NET\n" in (made / "modules" / "net" / "zephyr" / "Kconfig").read_text()
    assert not list((made / "plain").glob("*.S"))


def test_its_board_is_a_target(tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text(block("base ="))
    board = load_target(str(tmp_path / "board.toml"))
    assert (board.bytes_of("flash"), board.bytes_of("ram")) == (512 << 10, 96 << 10)


def test_it_lists_every_package() -> None:
    table = PAGE.split("| `--for` |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == list(PACKAGES)
