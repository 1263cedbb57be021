"""The errors graphopt raises: each says what is wrong, where, and what to do about it.

Everything a user can cause derives from `GraphoptError`, so the command line can print one line and
choose an exit code, and a program can catch one class.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CLOSE = 0.75
"""How alike two names must be (twice the letters they share in order, over the letters of both) to be confused."""

SUGGESTED_AT_MOST = 3
SHORTEST_PART = 3
"""Letters from which on a part of a name stands for it."""


class GraphoptError(Exception):
    """A problem with the user's input, told in one line.

    `what` is the cause, `where` the place (a file, a node, a value), `hint` the way out.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = " ".join(what.split())
        self.where = " ".join(where.split())
        self.hint = " ".join(hint.split())
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.hint:
            parts.append(f"[{self.hint}]")
        super().__init__(" ".join(parts))


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """A hint for an unknown name: the known ones that were likely meant, else `otherwise`.

    Likely are the names that differ least, whatever their case, and in few letters; else those that `name` is a
    part of.
    """
    spelled = {other.lower(): other for other in sorted(known, reverse=True)}
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, spelled, SUGGESTED_AT_MOST, CLOSE)
    likeness = [difflib.SequenceMatcher(None, other, wanted).ratio() for other in close]
    close = sorted(other for other, ratio in zip(close, likeness, strict=True) if ratio == likeness[0])
    if not close and len(wanted) >= SHORTEST_PART:
        close = sorted((other for other in spelled if wanted in other), key=lambda other: (len(other), other))
    meant = [spelled[other] for other in close[:SUGGESTED_AT_MOST]]
    return f"did you mean {' or '.join(meant)}?" if meant else otherwise


class ModelError(GraphoptError):
    """The model file is not valid ONNX: unreadable, truncated, cyclic, ill-typed, unsafe."""

    exit_code = 3


class UnsupportedError(GraphoptError):
    """The model is valid but uses something graphopt or the chosen target cannot do."""

    exit_code = 4


class UsageError(GraphoptError):
    """The command, an option, a spec string or a target file is wrong."""

    exit_code = 2


class ToolchainError(GraphoptError):
    """A compiler, a linker, an emulator or a Python package is missing or failed."""

    exit_code = 5


class VerificationError(GraphoptError):
    """Two things that must agree do not: a pass changed the meaning, a bundle gives other answers."""

    exit_code = 6


class IRError(GraphoptError):
    """The graph breaks an invariant of the IR: a bug in a pass, not in the user's model."""

    exit_code = 70
