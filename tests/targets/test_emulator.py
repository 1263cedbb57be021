"""Emulation: what is missing is said with the way to get it, and a failed program is told in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from graphopt.errors import ToolchainError
from graphopt.targets import emulator
from graphopt.targets.device import load_target

HOST = load_target("host")
FOREIGN = "rpi4" if HOST.family == "x86" else "x86-64-v2"


def script(folder: Path, text: str) -> list[str]:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return ["./program"]


def test_nothing_is_missing_for_this_machine() -> None:
    assert emulator.missing(HOST) is None


def test_a_missing_emulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    target = load_target(FOREIGN)
    reason = emulator.missing(target)
    assert reason == f"{target.emulator} is not installed (Debian: apt-get install qemu-user)"
    with pytest.raises(ToolchainError, match=r"apt-get install qemu-user"):
        emulator.run(target, ["./program"], folder=Path())


def test_a_missing_c_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = dataclasses.replace(load_target(FOREIGN), emulator="fake-qemu", sysroot=str(tmp_path / "root"))
    fake = tmp_path / "fake-qemu"
    fake.write_text("")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    expected = f"{tmp_path / 'root'} is missing (it holds the C library to run against)"
    assert emulator.missing(target) == expected
    (tmp_path / "root" / "lib").mkdir(parents=True)
    assert emulator.missing(target) is None


@pytest.mark.parametrize(("name", "package"), [("rpi4", "arm64"), ("rpi-armv7", "armhf")])
def test_every_sysroot_has_its_package(name: str, package: str) -> None:
    assert emulator.PACKAGES[load_target(name).sysroot] == f"libc6-{package}-cross"


def test_a_target_without_an_emulator() -> None:
    target = dataclasses.replace(load_target(FOREIGN), emulator="", name="mine")
    assert emulator.missing(target) == "no emulator runs mine: it takes a machine that has what it has"


def test_a_failed_program_is_quoted(tmp_path: Path) -> None:
    command = script(tmp_path, "echo first >&2; echo 'the reason' >&2; exit 3")
    with pytest.raises(ToolchainError, match=r"^program exited with 3: the reason$"):
        emulator.run(HOST, command, folder=tmp_path)


def test_a_program_that_hangs_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"did not end within 0 s"):
        emulator.run(HOST, script(tmp_path, "exec sleep 60"), folder=tmp_path, seconds=0.2)


def test_output_comes_back(tmp_path: Path) -> None:
    assert emulator.run(HOST, script(tmp_path, "echo here"), folder=tmp_path).stdout == "here\n"
