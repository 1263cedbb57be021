"""Where a command may write."""

from __future__ import annotations

from pathlib import Path

from graphopt.errors import UsageError


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
