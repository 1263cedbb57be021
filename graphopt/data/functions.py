"""Functions of the user's own, named as text: `module:function`, or `package.module:function`.

The module is imported as Python would in the current folder. What a function raises becomes one line that
names the function.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from graphopt.errors import GraphoptError, UsageError, did_you_mean

NAMED = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*)")


def is_function_name(text: str) -> bool:
    """Whether `text` looks like `module:function`."""
    return NAMED.fullmatch(text) is not None


def function_named(text: str) -> Callable[..., Any]:
    """The function that `module:function` names. Raises UsageError where there is none."""
    match = NAMED.fullmatch(text)
    if match is None:
        raise UsageError(f"'{text}' names no function", hint="write module:function")
    module_name, name = match["module"], match["function"]
    module = _imported(module_name, text)
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        hint = did_you_mean(name, known, f"its functions: {', '.join(sorted(known)) or 'none'}")
        raise UsageError(f"module '{module_name}' has no function '{name}'", where=text, hint=hint)
    found = getattr(module, name)
    if not callable(found):
        raise UsageError(f"'{name}' is {type(found).__name__}, not a function", where=text)
    return found


def _imported(name: str, text: str) -> object:
    here = "" not in sys.path
    if here:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise UsageError(f"importing it failed: {error}", where=text) from error
        hint = "it is looked for in the current folder and in PYTHONPATH"
        raise UsageError(f"there is no module '{error.name}'", where=text, hint=hint) from None
    except (Exception, SystemExit) as error:
        raise UsageError(f"importing it {_told(error)}", where=text) from error
    finally:
        if here:
            sys.path.remove("")


@contextmanager
def blamed(where: str) -> Iterator[None]:
    """What the user's code raises, or ends with, is told as one line about `where`. Raises UsageError."""
    try:
        yield
    except GraphoptError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"it {_told(error)}", where=where, hint="--debug shows where") from error


def _told(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"called sys.exit({'' if error.code is None else repr(error.code)})"
    return f"raised {type(error).__name__}: {error}"
