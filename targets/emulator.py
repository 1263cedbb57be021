"""Running a program of another machine under QEMU: who can, and one for Linux under its user emulation."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from graphopt.errors import ToolchainError
from graphopt.targets.device import Target

PACKAGES = {
    "/usr/aarch64-linux-gnu": "libc6-arm64-cross",
    "/usr/arm-linux-gnueabihf": "libc6-armhf-cross",
}
"""Debian's package for each sysroot."""

FIRMWARE_PACKAGES = {
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv32": "qemu-system-misc",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "riscv64-unknown-elf-gcc": "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf",
}
"""Debian's packages for each program that builds or runs firmware."""


def missing(target: Target) -> str | None:
    """Why programs for `target` cannot run here, with the way out; None when they can."""
    if target.is_native:
        return None
    if not target.emulator:
        return f"no emulator runs {target.name}: it takes a machine that has what it has"
    if target.is_firmware:
        return _missing_for_firmware(target)
    if shutil.which(target.emulator) is None:
        return f"{target.emulator} is not installed (Debian: apt-get install qemu-user)"
    if not Path(target.sysroot, "lib").is_dir():
        package = PACKAGES.get(target.sysroot)
        hint = f"Debian: apt-get install {package}" if package else "it holds the C library to run against"
        return f"{target.sysroot} is missing ({hint})"
    return None


def _missing_for_firmware(target: Target) -> str | None:
    for program in (f"{target.gcc}gcc", target.emulator):
        if shutil.which(program) is None:
            package = FIRMWARE_PACKAGES.get(program)
            way = f" (Debian: apt-get install {package})" if package else ""
            return f"{program} is not installed{way}"
    return None


def run(
    target: Target,
    command: Sequence[str],
    *,
    folder: Path,
    seconds: float = 600,
    options: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `command` in `folder`, natively where the machine allows; `options` are further ones of the emulator.

    Raises ToolchainError when it fails.
    """
    reason = missing(target)
    if reason:
        raise ToolchainError(reason)
    prefix: list[str] = []
    if not target.is_native:
        prefix = [target.emulator, "-cpu", target.emulator_cpu, "-L", target.sysroot, *options]
    try:
        done = subprocess.run(
            [*prefix, *command], cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"{command[0]} did not end within {seconds:.0f} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise ToolchainError(f"{Path(command[0]).name} exited with {done.returncode}: {said[0]}")
    return done
