"""From exceptions to one line on standard error and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from graphopt.errors import GraphoptError

EXIT_CODES = {
    0: "success",
    1: "the compiled model reported an error",
    2: "the command, an option, a spec string, a target or a bundle is wrong",
    3: "the model is not valid ONNX",
    4: "the model uses something graphopt or the target cannot do",
    5: "a compiler, a linker, an emulator or a Python package is missing or failed",
    6: "two results that must agree do not",
    70: "a bug in graphopt",
    130: "interrupted",
    141: "nobody reads the output any more",
    143: "told to end",
}
"""What a script may rely on."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED = 130
BUG = 70
OUTPUT_CLOSED = 141


def guarded(run: Callable[[], int], debug: bool) -> int:
    """Call `run`; with `debug` an error that is not the user's typing shows its traceback."""
    _open_closed_streams()
    try:
        code = run()
        sys.stdout.flush()  # what cannot be written is an error here, and not while Python ends
        return _say("interrupted", code) if code == INTERRUPTED else code
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # `graphopt ... | head`
        _discard_output()
        return OUTPUT_CLOSED
    except SystemExit as end:  # the option parser's word for a broken pipe is 1
        _discard_output()
        return OUTPUT_CLOSED if end.code == 1 else int(end.code or 0)
    except Exception as error:
        if _is_abort(error):
            return _say("interrupted", INTERRUPTED)
        if _is_usage(error):
            return _say_usage(error)
        if debug:
            raise
        if isinstance(error, GraphoptError):
            bug = " [this is a bug; --debug shows where]" if error.exit_code == BUG else ""
            return _say(f"{error}{bug}", error.exit_code)
        if isinstance(error, MemoryError):
            return _say("out of memory", 1)
        if isinstance(error, OSError) and error.filename is not None:
            return _say(f"{error.filename}: {error.strerror}", 2)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            _discard_output()
            return _say(f"cannot write: {error.strerror} [free some space, or write elsewhere]", 2)
        what = f"{type(error).__name__}: {error}"
        return _say(f"{what} [this is a bug; --debug shows where]", BUG)


def _open_closed_streams() -> None:
    """`graphopt ... >&-` leaves Python without the stream."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _discard_output() -> None:
    """What is left of standard output goes nowhere, or Python would fail to write it at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no real file
        return


def warn(text: str) -> None:
    """One line on standard error."""
    _write_line(f"warning: {text}")


def _say(text: str, code: int) -> int:
    _write_line(f"error: {text}")
    return code


def _write_line(text: str) -> None:
    """One line, whatever the text holds: names inside a model may have line ends and escape codes."""
    line = "".join(c if c.isprintable() else " " for c in text)
    encoding = sys.stderr.encoding or "ascii"
    sys.stderr.write(" ".join(line.split()).encode(encoding, "replace").decode(encoding) + "\n")


def _is_abort(error: Exception) -> bool:
    return type(error).__name__ == "Abort"


def _is_usage(error: Exception) -> bool:
    """An error of the option parser, wherever this version of typer keeps its classes."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _say_usage(error: Exception) -> int:
    text: str = error.format_message()  # type: ignore[attr-defined]
    if not text:  # the help has been shown instead
        return 2
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "graphopt"
    return _say(f"{text} [try `{command} --help`]", 2)
