"""Files that appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphopt.errors import UsageError


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; what is there at the end takes the place of `path`.

    Raises UsageError when it cannot be written; `path` is untouched then, and after any other error.
    """
    beside = path.with_name(f".{path.name}.part")
    with reported(path):
        try:
            yield beside
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Tell of a file that cannot be written by the name that the user gave. Raises UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot be written: {error.strerror or error}", where=str(path), hint="choose another place"
        ) from None
