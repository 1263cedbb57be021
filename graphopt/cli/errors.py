"""From exceptions to one line on standard error and an exit code."""

from __future__ import annotations

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
    5: "a compiler, a linker or an emulator is missing or failed",
    6: "two results that must agree do not",
    70: "a bug in graphopt",
    130: "interrupted",
}
"""What a script may rely on."""

INTERRUPTED = 130
BUG = 70
OUTPUT_CLOSED = 141


def guarded(run: Callable[[], int], debug: bool) -> int:
    """Call `run`; with `debug` an error that is not the user's typing shows its traceback."""
    try:
        return run()
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # `graphopt ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OUTPUT_CLOSED
    except Exception as error:
        if _is_abort(error):
            return _say("interrupted", INTERRUPTED)
        if _is_usage(error):
            return _say(_usage_text(error), 2)
        if debug:
            raise
        if isinstance(error, GraphoptError):
            bug = " [this is a bug; --debug shows where]" if error.exit_code == BUG else ""
            return _say(f"{error}{bug}", error.exit_code)
        if isinstance(error, MemoryError):
            return _say("out of memory", 1)
        if isinstance(error, OSError) and error.filename is not None:
            return _say(f"{error.filename}: {error.strerror}", 2)
        what = f"{type(error).__name__}: {error}"
        return _say(f"{what} [this is a bug; --debug shows where]", BUG)


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


def _usage_text(error: Exception) -> str:
    text: str = error.format_message()  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "graphopt"
    return f"{text} [try `{command} --help`]"
