"""The compiler and linker: what a missing or failing one says, and what a system compiler needs."""

from __future__ import annotations

import ctypes
import shutil
import sys
from pathlib import Path

import pytest

from graphopt.errors import ToolchainError
from graphopt.targets.device import load_target
from graphopt.targets.toolchain import Toolchain, version_script

HOST = load_target("host")
GOOD = (
    '__attribute__((visibility("default"))) int shown(void) { return 1; }\nint hidden(void) { return 2; }\n'
)


def link(folder: Path, text: str, toolchain: Toolchain) -> Path:
    (folder / "model.c").write_text(text)
    toolchain.link_shared([folder / "model.c"], folder / "libmodel.so", HOST, exports=["shown"])
    return folder / "libmodel.so"


def test_a_compiler_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError) as raised:
        link(tmp_path, GOOD, Toolchain("no-such-gcc"))
    assert str(raised.value) == (
        "cannot run no-such-gcc: No such file or directory [install it, or leave it out to use zig]"
    )
    assert raised.value.exit_code == 5


def test_zig_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\necho "{interpreter}: No module named ziglang" >&2\nexit 1\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(ToolchainError, match=r"zig is not installed \[pip install ziglang\]"):
        link(tmp_path, GOOD, Toolchain())


def test_a_failing_compilation_is_quoted_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError) as raised:
        link(tmp_path, "int shown(void) { return nothing; }\n", Toolchain())
    message = str(raised.value)
    assert "model.c:1" in message and "nothing" in message and "\n" not in message
    assert not (tmp_path / "libmodel.so").exists()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
def test_a_system_compiler_that_is_named_is_used(tmp_path: Path) -> None:
    assert Toolchain("gcc").command(HOST) == ["gcc"]
    library = ctypes.CDLL(str(link(tmp_path, GOOD, Toolchain("gcc"))))
    assert library.shown() == 1
    assert not hasattr(library, "hidden")


def test_zig_is_told_target_and_c_library() -> None:
    command = Toolchain().command(load_target("rpi4"))
    assert command[1:] == ["-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.31"]


def test_the_version_script_hides_the_rest() -> None:
    assert version_script(["a", "b"]) == "{ global: a; b; local: *; };\n"
