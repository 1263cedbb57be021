"""Routines for cores without vectors: C functions that printed kernels call, one to a file.

Bytes go by words, in the instructions of Arm's DSP extension, where the compiler is told that the core has them; in
plain C with the same results anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources

PREFIX = "words_"

COMMON = "common"
"""What stands in front of all of them."""

LANES = {"int16": 2, "int8": 1}
"""How many elements of a plane of this type lie side by side."""


def is_routine(name: str) -> bool:
    """Whether `name` is that of a routine, such as `words_depthwise_int16`, or of a function in its text."""
    return name.startswith(PREFIX)


@cache
def routine_text(name: str) -> str:
    """The definition of a routine, and of what it calls; of `COMMON`."""
    stem, _, kind = name.removeprefix(PREFIX).partition("_")
    if stem != "depthwise":
        return _file(name.removeprefix(PREFIX))
    lanes = LANES[kind]
    three = _file("depthwise_three")
    if lanes > 1:
        three = f"#if WORDS_DSP\n{_file('depthwise_pairs')}#else\n{three}#endif\n"
    parts = [_file("depthwise"), three, _file("depthwise_layer")]
    return "\n".join(parts).replace("KIND", kind).replace("LANES", str(lanes))


def in_front_of(names: Iterable[str]) -> list[str]:
    """The text that routines with these names, if there are any, want in front of them."""
    return [routine_text(COMMON)] if any(map(is_routine, names)) else []


def _file(stem: str) -> str:
    return resources.files(__name__).joinpath(f"{stem}.c").read_text(encoding="utf-8")
