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


def check_place(path: Path | None, *kept: Path | None) -> None:
    """Raise UsageError, before any work, when a file cannot be at `path`, or one of `kept` is there already."""
    if path is None:
        return
    hint = "choose another name"
    if path.is_dir():
        raise UsageError("cannot be written: it is a folder", where=str(path), hint="give a file's name")
    if not path.parent.is_dir():
        reason = "its folder is a file" if path.parent.exists() else "No such file or directory"
        raise UsageError(f"cannot be written: {reason}", where=str(path), hint="make its folder first")
    for other in kept:
        same = other is not None and path.exists() and other.exists() and path.samefile(other)
        if same or other == path:
            raise UsageError(f"{other} is at the same place and would be lost", where=str(path), hint=hint)
