"""Routines for Helium: C functions that printed kernels call, one to a file.

Each has its loops in Helium's own instructions where the compiler is told that the core has them, and in plain C with
the same results anywhere else. Only those that a model's kernels call are written into its sources.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import resources

PREFIX = "helium_"
COMMON = "common"

NEEDED = {
    "product": ("tile", "tiles"),
    "sums": ("tile", "tiles"),
    "nibble_product": ("tile", "nibble_tiles"),
    "nibble_sums": ("tile", "nibble_tiles"),
    "depthwise": ("windows",),
    "depthwise_sums": ("windows",),
}
"""Files of routines whose functions others call."""

ORDER = ("tile", "tiles", "nibble_tiles", "windows")
"""The order of those."""

NIBBLE = "nibble_"
"""How names begin of what takes weights of 4 bits; its text is that for bytes."""

OWN_FRAMES = {
    f"{PREFIX}{kind}{pixels}": 324
    for kind in ("", NIBBLE)
    for pixels in ("one_pixel", "two_pixels", "three_pixels")
}
"""Bytes of stack of what is written in assembly, which the compiler does not know."""


def is_routine(name: str) -> bool:
    """Whether `name` is that of a routine, such as `helium_product`."""
    return name.startswith(PREFIX)


@cache
def routine_text(name: str) -> str:
    """The definition of a routine."""
    stem = name.removeprefix(PREFIX)
    kind = NIBBLE if stem.startswith(NIBBLE) else ""
    file = resources.files(__name__).joinpath(f"{stem.removeprefix(NIBBLE)}.c")
    text = file.read_text(encoding="utf-8").replace("HELIUM_KIND_", f"HELIUM_{(kind or 'byte_').upper()}")
    return text.replace("KIND_", kind)


def in_front_of(names: Iterable[str]) -> list[str]:
    """The text that routines with these names, if there are any, want in front of them."""
    routines = [name.removeprefix(PREFIX) for name in names if is_routine(name)]
    needed = sorted({file for name in routines for file in NEEDED.get(name, ())}, key=ORDER.index)
    return [routine_text(file) for file in ([COMMON, *needed] if routines else [])]
