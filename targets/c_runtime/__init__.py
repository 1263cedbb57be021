"""The C that is compiled into libraries: a parallel-for over a pool of threads, what 32-bit ARM lacks, and for AMX the
operating system's leave to use it."""

from importlib import resources
from pathlib import Path

SOURCES = ("amx.c", "amx.h", "conversions.c", "parallel.c", "parallel.h")


def copy_to(folder: Path) -> None:
    """Write the sources into a build folder."""
    for name in SOURCES:
        (folder / name).write_bytes(resources.files(__name__).joinpath(name).read_bytes())
