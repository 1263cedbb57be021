"""The C and assembly that make a model's sources a whole program for a board under QEMU."""

from importlib import resources
from pathlib import Path

SOURCES = {"arm": ("start_arm.c", "semihosting.h"), "riscv": ("start_riscv.S", "semihosting.h")}
"""Family of the target -> the files that its program is started by."""


def copy_to(folder: Path, family: str) -> None:
    """Write the sources into a build folder."""
    for name in SOURCES[family]:
        (folder / name).write_bytes(resources.files(__name__).joinpath(name).read_bytes())
