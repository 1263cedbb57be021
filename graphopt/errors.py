"""The errors graphopt raises: each says what is wrong, where, and what to do about it.

Everything a user can cause derives from `GraphoptError`, so the command line can print one line and
choose an exit code, and a program can catch one class.
"""

from __future__ import annotations


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
    """A compiler, a linker or an emulator is missing or failed."""

    exit_code = 5


class VerificationError(GraphoptError):
    """Two things that must agree do not: a pass changed the meaning, a bundle gives other answers."""

    exit_code = 6


class IRError(GraphoptError):
    """The graph breaks an invariant of the IR: a bug in a pass, not in the user's model."""

    exit_code = 70
