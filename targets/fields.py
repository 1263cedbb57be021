"""What a target's file may say: for each key the type and the range of its value.

What LLVM and zig would refuse later, in words of their own, is refused here by the key that the user wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.errors import UsageError, did_you_mean

FIRMWARE = {
    "thumbv6m": "arm",
    "thumbv7m": "arm",
    "thumbv7em": "arm",
    "thumbv8m.main": "arm",
    "thumbv8.1m.main": "arm",
    "riscv32": "riscv",
}
"""First part of the triple -> family, of the cores of microcontrollers."""

ARCHITECTURES = {"x86_64": "x86", "aarch64": "arm", "armv7": "arm", **FIRMWARE}
"""First part of the triple -> family, of every machine there is code for."""

ZIG_TRIPLES = {
    "x86_64": "x86_64-linux-gnu.2.28",
    "aarch64": "aarch64-linux-gnu.2.31",
    "armv7": "arm-linux-gnueabihf.2.31",
    **{name: "thumb-freestanding-eabi" for name, family in FIRMWARE.items() if family == "arm"},
    "riscv32": "riscv32-freestanding-none",
}
"""What zig calls them, with a glibc where there is one."""

MAY_BE_UNKNOWN = ("clock_mhz", "ram_mb")
"""Numbers that are 0 where nobody knows them."""

LARGEST = {"cores": 1024, "vector_bits": 2048}
"""Of the numbers whose largest value is not `LARGEST_NUMBER`."""

LARGEST_NUMBER = 2**31 - 1
NARROWEST_VECTOR = 32
FLOAT_ABIS = ("", "hard", "soft")
REQUANTIZATIONS = ("fixed", "float")
LAYOUTS = ("blocks", "channels-last")

_WANTED = {
    "str": ("a text", '{key} = "..."'),
    "int": ("a whole number from {low} to {high}", "{key} = {example}"),
    "bool": ("true or false", "{key} = true"),
    "tuple[str, ...]": ("a list of texts", '{key} = ["...", "..."]'),
}
"""Type of a field -> what it is in words, and how it is written."""


def typed(key: str, value: Any, type_name: str, where: str) -> Any:
    """`value` as the field's type, annotated as `type_name`. Raises UsageError naming the key."""
    if type_name == "tuple[str, ...]" and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if type_name in ("str", "bool") and type(value).__name__ == type_name:
        return value
    low, high = int(key not in MAY_BE_UNKNOWN), LARGEST.get(key, LARGEST_NUMBER)
    if type_name == "int" and type(value) is int and low <= value <= high:
        return value
    words, form = (text.format(key=key, low=low, high=high, example=4) for text in _WANTED[type_name])
    raise UsageError(f"{key} = {value!r} is not {words}", where=where, hint=f"write {form}")


def check_fields(values: Mapping[str, Any], where: str) -> None:
    """Raise UsageError for values that are well typed and mean nothing together."""
    architecture = values["triple"].split("-")[0]
    if architecture not in ARCHITECTURES:
        hint = did_you_mean(architecture, ARCHITECTURES, f"there is code for {', '.join(ARCHITECTURES)}")
        raise UsageError(f"triple = '{values['triple']}' is for an unknown machine", where=where, hint=hint)
    family = ARCHITECTURES[architecture]
    if values["family"] != family:
        raise UsageError(
            f"family = '{values['family']}' is not that of {architecture}",
            where=where,
            hint=f'write family = "{family}"',
        )
    zig = ZIG_TRIPLES[architecture]
    if values["zig"].split("-")[0] != zig.split("-")[0]:
        raise UsageError(
            f"zig = '{values['zig']}' is not for {architecture}, the machine of the triple",
            where=where,
            hint=f'write zig = "{zig}"',
        )
    if values.get("float_abi", "") not in FLOAT_ABIS:
        hint = 'write float_abi = "hard" or "soft", or leave it out'
        raise UsageError(f"float_abi = '{values['float_abi']}' is unknown", where=where, hint=hint)
    if values.get("requantization", "float") not in REQUANTIZATIONS:
        hint = 'write requantization = "fixed" or "float", or leave it out'
        raise UsageError(f"requantization = '{values['requantization']}' is unknown", where=where, hint=hint)
    if values.get("layout", "blocks") not in LAYOUTS:
        hint = 'write layout = "blocks" or "channels-last", or leave it out'
        raise UsageError(f"layout = '{values['layout']}' is unknown", where=where, hint=hint)
    bits = values.get("vector_bits", NARROWEST_VECTOR)
    if bits < NARROWEST_VECTOR or bits & (bits - 1):
        hint = "write 128 for NEON or SSE, 256 for AVX2, 512 for AVX-512"
        raise UsageError(f"vector_bits = {bits} is no vector's width", where=where, hint=hint)
    _check_firmware(values, where)


def _check_firmware(values: Mapping[str, Any], where: str) -> None:
    """Raise UsageError for firmware that no compiler is named for, and for Linux with a memory map."""
    triple = values["triple"]
    of_core = triple.split("-")[0] in FIRMWARE
    if of_core != ("none" in triple.split("-")):
        hint = "triples of microcontrollers end in none-eabi, none-eabihf or none-elf, those of Linux do not"
        raise UsageError(f"triple = '{triple}' names no system of that machine", where=where, hint=hint)
    for key in ("gcc", "gcc_flags", "regions", "emulator_board", "emulator_machine"):
        if values.get(key) and not of_core:
            hint = "leave it out, or name the triple of a microcontroller"
            raise UsageError(f"{key} is for firmware, {triple} is not", where=where, hint=hint)
    if of_core and not values.get("gcc"):
        hint = (
            'write gcc = "arm-none-eabi-" or gcc = "riscv64-unknown-elf-", or start from base = "cortex-m4f"'
        )
        raise UsageError("firmware needs a compiler", where=where, hint=hint)
