"""The C compiler and linker.

zig, from the package `ziglang`, compiles and links for every Linux target and any glibc; a system compiler is
used when it is named. Commands run inside the build folder on relative names, so that no path of this machine
gets into the result.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graphopt.errors import ToolchainError
from graphopt.targets.device import Target

C_FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections")
LIBRARIES = ("-lm", "-lpthread")
LAST_LINES = 3
"""Lines of a failing tool's output that the error quotes."""


@dataclass(frozen=True)
class Toolchain:
    """`compiler` is the command of a system compiler such as `aarch64-linux-gnu-gcc`; empty: zig."""

    compiler: str = ""

    def link_shared(
        self,
        sources: Sequence[Path],
        out: Path,
        target: Target,
        *,
        exports: Sequence[str],
        tuned: bool = False,
    ) -> None:
        """Compile C and assembly, link with objects, into a shared library that shows only `exports`.

        With `tuned` the C is for this very machine, instructions and all: it does the arithmetic itself.
        All files must be in one folder, which `out` is in too. Raises ToolchainError.
        """
        (out.parent / "exports.map").write_text(version_script(exports))
        flags = [
            *C_FLAGS,
            *(("-march=native", "-ffast-math") if tuned else ()),
            "-shared",
            "-s",
            f"-Wl,-soname,{out.name}",
            "-Wl,--version-script=exports.map",
            "-Wl,--gc-sections",
            "-Wl,--build-id=none",
            "-Wl,-z,noexecstack",
            "-Wl,-z,nodelete",  # the pool's threads outlive a dlclose
        ]
        self._run([*self.command(target), *flags, "-o", out.name, *_names(sources), *LIBRARIES], out.parent)

    def link_executable(self, sources: Sequence[Path], out: Path, target: Target) -> None:
        """Compile and link a program; a shared library among `sources` is found beside the program."""
        flags = ["-std=gnu11", "-O2", "-Wl,-rpath,$ORIGIN", "-Wl,--build-id=none"]
        self._run([*self.command(target), *flags, "-o", out.name, *_names(sources), *LIBRARIES], out.parent)

    def link_static(self, sources: Sequence[Path], out: Path, target: Target) -> None:
        """Compile and link a program that needs no library of the machine it runs on."""
        flags = ["-std=gnu11", "-O2", "-static", "-s", "-Wl,--build-id=none"]
        musl = dataclasses.replace(target, zig=re.sub(r"gnu(\w*)(\.[\d.]+)?$", r"musl\1", target.zig))
        self._run([*self.command(musl), *flags, "-o", out.name, *_names(sources), *LIBRARIES], out.parent)

    def command(self, target: Target) -> list[str]:
        """The compiler's command line up to the flags."""
        if self.compiler:
            return [self.compiler]
        return [sys.executable, "-m", "ziglang", "cc", "-target", target.zig, *_zig_cpu(target)]

    def _run(self, command: list[str], folder: Path) -> None:
        environment = {**os.environ, "LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
            )
        except OSError as error:
            raise ToolchainError(
                f"cannot run {command[0]}: {error.strerror}", hint="install it, or leave it out to use zig"
            ) from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            if "No module named ziglang" in done.stderr:
                raise ToolchainError("zig is not installed", hint="pip install ziglang")
            raise ToolchainError(
                f"{' '.join(command[:4])} ... failed: {' | '.join(lines[-LAST_LINES:])}",
                hint=_advice(done.stderr, own=bool(self.compiler)),
            )


def _advice(said: str, own: bool) -> str:
    if "cache directory" in said or "AppDataDirUnavailable" in said:
        return "zig keeps what it built in a folder: name one with ZIG_GLOBAL_CACHE_DIR, or set HOME"
    if "temporary file" in said:
        return "set TMPDIR to a folder that can be written"
    if "No space left" in said or "NoSpaceLeft" in said:
        return "free some space"
    return "is the compiler for the target's machine?" if own else "does the target's file name zig's triple?"


def version_script(exports: Sequence[str]) -> str:
    """A linker version script that hides everything else."""
    shown = "".join(f" {name};" for name in exports)
    return f"{{ global:{shown} local: *; }};\n"


def _names(files: Sequence[Path]) -> list[str]:
    return [file.name for file in files]


def _zig_cpu(target: Target) -> list[str]:
    """A baseline for the little C there is: it carries no arithmetic, so the lowest common CPU is right."""
    return ["-mcpu=cortex_a7"] if target.triple.startswith("armv7") else []
