"""Exact counts of guest instructions: QEMU's plugin that counts blocks, and what it tells.

A block is a run of instructions that QEMU translates at once: it ends at a branch or at the end of a page.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from graphopt.targets import emulation
from graphopt.targets.device import Target, load_target
from graphopt.targets.toolchain import Toolchain

SOURCE = "count_blocks.c"
EXPORTS = ("qemu_plugin_install", "qemu_plugin_version")
NEW_PLUGINS_FROM = 9
"""The QEMU whose plugins tell version 2 of the interface."""


def no_plugins(target: Target) -> str | None:
    """Why the target's emulator counts nothing; None when it does."""
    said = subprocess.run([target.emulator, "--help"], capture_output=True, text=True).stdout
    return None if "-plugin" in said else f"{target.emulator} is built without plugins (Debian's has them)"


def build_plugin(folder: Path, target: Target) -> Path:
    """The plugin for this machine's QEMU, in `folder`."""
    said = subprocess.run([target.emulator, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"version (\d+)", said)
    api = 2 if version and int(version[1]) >= NEW_PLUGINS_FROM else 1
    text = resources.files(emulation).joinpath(SOURCE).read_text(encoding="utf-8")
    source, plugin = folder / SOURCE, folder / "libcount_blocks.so"
    source.write_text(f"#define API_VERSION {api}\n{text}")
    Toolchain().link_shared([source], plugin, load_target("host"), exports=EXPORTS)
    return plugin


def options(plugin: Path, counts: Path, marks: Sequence[int] = ()) -> list[str]:
    """QEMU's options that make it write counts to a file; a section of them begins at each of the addresses `marks`."""
    marked = f",marks={':'.join(map(str, marks))}" if marks else ""
    return ["-plugin", f"{plugin},out={counts}{marked}"]


def read_counts(counts: Path) -> Iterator[tuple[int, int, int, int]]:
    """Section, address, instructions and executions of each block, as the plugin wrote them."""
    for line in counts.read_text().splitlines():
        section, address, instructions, executions = map(int, line.split())
        yield section, address, instructions, executions
