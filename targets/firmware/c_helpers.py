"""The small functions that printed kernels call: only those that are called are written."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.targets.firmware import helium, words
from graphopt.targets.firmware.c_copies import copies
from graphopt.targets.firmware.c_dual_products import DSP
from graphopt.targets.firmware.c_expressions import C_TYPES
from graphopt.targets.firmware.c_fixed_point import fixed_point
from graphopt.targets.firmware.c_preamble import HAS_DSP, PREAMBLE
from graphopt.targets.firmware.c_products import products
from graphopt.targets.firmware.c_sparse import sparse_products

NEEDS_DSP = ("dual_", "widen_")
"""How names of functions begin that are written with the instructions of `DSP` where there are such."""

FAMILIES = (helium, words)
"""Those whose functions are files."""

WORDS = ("load_int32", "store_int32")
"""What those functions call."""


def helper(name: str) -> str:
    """The definition of a helper by its name, such as `max_int32`, `int32_of_float32`, `load_int32`."""
    for family in FAMILIES:
        if family.is_routine(name):
            return family.routine_text(name)
    written = products(name) or sparse_products(name) or copies(name) or fixed_point(name)
    if written is not None:
        return written
    first, _, rest = name.partition("_")
    if first in ("max", "min"):
        return _choice(name, C_TYPES[rest], ">" if first == "max" else "<")
    if first in ("load", "store"):
        return _access(name, first, C_TYPES[rest])
    made, given = name.split("_of_")
    return _bits(name, C_TYPES[made], C_TYPES[given])


def helpers_text(names: Iterable[str]) -> list[str]:
    """Definitions of all, each behind those that it calls."""
    wanted = set(names)
    first = sorted(wanted.intersection(WORDS))
    text = list(map(helper, first))
    if any(name.startswith(NEEDS_DSP) for name in wanted):
        others = [helper(name) for name in WORDS if name not in wanted]
        text = [PREAMBLE, *text, f"#if defined({HAS_DSP})", *others, DSP, "#endif"]
    elif any("products_" in name for name in wanted):
        text = [PREAMBLE, *text]
    for family in FAMILIES:
        text += family.in_front_of(wanted)
    return [*text, *(helper(name) for name in sorted(wanted.difference(first)))]


def _choice(name: str, kind: str, symbol: str) -> str:
    return (
        f"static inline {kind} {name}({kind} a, {kind} b) {{\n"
        f"    return ({kind})(a {symbol} b ? a : b);\n"
        "}\n"
    )


def _bits(name: str, made: str, given: str) -> str:
    """The bits of one type as another: what a union would do, which C++ and some rules forbid."""
    return (
        f"static inline {made} {name}({given} value) {{\n"
        f"    {made} bits;\n"
        "    memcpy(&bits, &value, sizeof bits);\n"
        "    return bits;\n"
        "}\n"
    )


def _access(name: str, way: str, kind: str) -> str:
    """Words in memory that has elements of another type."""
    if way == "load":
        return (
            f"static inline {kind} {name}(const void *from) {{\n"
            f"    {kind} value;\n"
            "    memcpy(&value, from, sizeof value);\n"
            "    return value;\n"
            "}\n"
        )
    return (
        f"static inline void {name}(void *to, {kind} value) {{\n    memcpy(to, &value, sizeof value);\n}}\n"
    )
