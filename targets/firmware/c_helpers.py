"""The small functions that printed kernels call: only those that are called are written."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.targets.firmware.c_expressions import C_TYPES
from graphopt.targets.firmware.helium import COMMON, is_routine, routine_text


def helper(name: str) -> str:
    """The definition of a helper by its name, such as `max_int32`, `int32_of_float32`, `load_int32`."""
    if is_routine(name):
        return routine_text(name)
    first, _, rest = name.partition("_")
    if first in ("max", "min"):
        return _choice(name, C_TYPES[rest], ">" if first == "max" else "<")
    if first in ("load", "store"):
        return _access(name, first, C_TYPES[rest])
    made, given = name.split("_of_")
    return _bits(name, C_TYPES[made], C_TYPES[given])


def helpers_text(names: Iterable[str]) -> list[str]:
    """Definitions of all, in one order."""
    ordered = sorted(names)
    common = [routine_text(COMMON)] if any(map(is_routine, ordered)) else []
    return [*common, *map(helper, ordered)]


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
