"""The memory of a board: regions of RAM and flash, each at its address.

In a target's file a region is a table:

    [[regions]]
    name = "sram"
    kind = "ram"
    start = 0x2000_0000
    bytes = 0x4_0000
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from graphopt.errors import UsageError, did_you_mean

KINDS = ("flash", "ram")

ADDRESSES = 1 << 32
"""What a pointer of 32 bits reaches."""

KEYS = {"name": str, "kind": str, "start": int, "bytes": int}
"""Key of a region's table -> the type of its value."""

EXAMPLE = 'write [[regions]], then name = "sram", kind = "ram", start = 0x2000_0000 and bytes = 0x4_0000'


@dataclass(frozen=True)
class Region:
    """`bytes` bytes of memory from the address `start` on. `kind` is "flash" or "ram"."""

    name: str
    kind: str
    start: int
    bytes: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.start + self.bytes

    def __str__(self) -> str:
        return f"{self.name} {self.bytes // 1024} KiB at {self.start:#010x}"


def regions_of(value: Any, where: str) -> tuple[Region, ...]:
    """The regions that a target's file lists, by address. Raises UsageError for what is no memory map."""
    if not isinstance(value, list | tuple) or not all(isinstance(v, Mapping) for v in value):
        raise UsageError("regions is not a list of tables", where=where, hint=EXAMPLE)
    regions = sorted((_region(fields, where) for fields in value), key=lambda r: (r.start, r.name))
    _check_apart(regions, where)
    return tuple(regions)


def _region(fields: Mapping[str, Any], where: str) -> Region:
    place = f"{where}: region '{fields.get('name', '?')}'"
    for key, value in fields.items():
        if key not in KEYS:
            raise UsageError(f"unknown key '{key}'", where=place, hint=did_you_mean(key, KEYS, EXAMPLE))
        if type(value) is not KEYS[key]:
            kind = "a text" if KEYS[key] is str else "a whole number"
            raise UsageError(f"{key} = {value!r} is not {kind}", where=place, hint=EXAMPLE)
    missing = [key for key in KEYS if key not in fields]
    if missing:
        raise UsageError(f"missing keys {', '.join(missing)}", where=place, hint=EXAMPLE)
    region = Region(**fields)
    if not region.name.replace("-", "_").isidentifier():
        raise UsageError(f"name = '{region.name}' is no name", where=place, hint='write name = "sram"')
    if region.kind not in KINDS:
        raise UsageError(f"kind = '{region.kind}' is unknown", where=place, hint='write "ram" or "flash"')
    if region.bytes <= 0 or region.start < 0 or region.end > ADDRESSES:
        hint = "start and bytes are numbers of bytes below 2^32"
        raise UsageError("it is not within the 32 bits of an address", where=place, hint=hint)
    return region


def _check_apart(regions: Sequence[Region], where: str) -> None:
    """Raise UsageError for two that share a name or an address; they come by address."""
    names = [region.name for region in regions]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two regions are called '{name}'", where=where, hint="give each its own name")
    for a, b in pairwise(regions):
        if b.start < a.end:
            raise UsageError(
                f"regions overlap: {a}; {b}",
                where=where,
                hint="list each byte once; of several addresses of one memory name one",
            )
