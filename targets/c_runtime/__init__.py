"""The C that is compiled into every library: a parallel-for over a pool of threads, and what 32-bit ARM lacks."""

from importlib import resources
from pathlib import Path

SOURCES = ("conversions.c", "parallel.c", "parallel.h")


def copy_to(folder: Path) -> None:
    """Write the sources into a build folder."""
    for name in SOURCES:
        (folder / name).write_bytes(resources.files(__name__).joinpath(name).read_bytes())
