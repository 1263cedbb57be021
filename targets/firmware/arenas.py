"""The arenas of a firmware model in C: one, or one for each region of RAM that it takes something of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.targets.abi import ModelAbi, identifier
from graphopt.targets.device import Target
from graphopt.targets.firmware.options import FirmwareOptions
from graphopt.targets.several_arenas import Room

FIRST_ERROR = 4
"""The number of the first error that only models with several arenas have."""


@dataclass(frozen=True)
class CArena:
    """`suffix` is empty where there is one. It begins `start` bytes behind the first one's start in the memory plan,
    which takes arenas for one behind the other."""

    model: str
    suffix: str
    bytes: int
    start: int
    region: str = ""

    @property
    def name(self) -> str:
        """Of the parameter."""
        return f"arena{self.suffix}"

    @property
    def base(self) -> str:
        """Of the pointer to its bytes."""
        return f"base{self.suffix}"

    @property
    def names(self) -> tuple[str, ...]:
        """All that the C text calls after it."""
        return self.name, f"{self.name}_bytes", self.base

    @property
    def macro(self) -> str:
        return f"{self.model}_ARENA{self.suffix}".upper()

    @property
    def error(self) -> str:
        """The constant for one that is too small."""
        return f"{self.model}_ERROR_ARENA{self.suffix}".upper()


def rooms_of(target: Target, options: FirmwareOptions) -> list[Room]:
    """The regions of RAM that arenas may lie in, by address, where there are several: tightly coupled memory has the
    lowest ones. What begins at address 0 is left out, for a pointer to it is a null pointer."""
    regions = [region for region in target.regions if region.kind == "ram" and region.start]
    if len(regions) < 2:
        return []
    most = options.ram
    return [Room(r.name, (r.bytes if most is None else min(r.bytes, most)) // 16 * 16) for r in regions]


def arenas_of(abi: ModelAbi) -> list[CArena]:
    """One, or several."""
    if not abi.arenas:
        return [CArena(abi.name, "", abi.workspace_bytes, 0)]
    found: list[CArena] = []
    start = 0
    for region, size in abi.arenas:
        suffix = f"_{identifier(region, 'region')}"
        if any(arena.suffix == suffix for arena in found):
            suffix = f"{suffix}_{len(found)}"
        found.append(CArena(abi.name, suffix, size, start, region))
        start += size
    return found


def holding(abi: ModelAbi, offset: int) -> CArena:
    """The arena that a place in the memory plan is in."""
    return next(arena for arena in reversed(arenas_of(abi)) if arena.start <= offset)


def declared(abi: ModelAbi) -> list[str]:
    """The parameters of a function that is given them."""
    return [
        text for arena in arenas_of(abi) for text in (f"void *{arena.name}", f"size_t {arena.name}_bytes")
    ]


def given(abi: ModelAbi) -> list[str]:
    """The arguments where they are arrays."""
    return [text for arena in arenas_of(abi) for text in (arena.name, f"sizeof {arena.name}")]


def definitions(abi: ModelAbi, spare: int = 0) -> list[str]:
    """Arrays for them, with so many bytes more."""
    more = f" + {spare}" if spare else ""
    return [
        f"static unsigned char {arena.name}[{arena.macro}_BYTES{more}] {abi.macro}_ALIGNED;"
        for arena in arenas_of(abi)
    ]


def pointers(abi: ModelAbi) -> list[str]:
    """Statements that make pointers to bytes of the parameters."""
    return [f"    unsigned char *const {arena.base} = {arena.name};" for arena in arenas_of(abi)]


def sizes_text(abi: ModelAbi) -> str:
    """The constants of the header."""
    return "\n".join(
        f"#define {arena.macro}_BYTES {arena.bytes}"
        + (f" /* planned for region {arena.region} */" if arena.region else "")
        for arena in arenas_of(abi)
    )


def errors_of(abi: ModelAbi, errors: Mapping[int, tuple[str, str]]) -> dict[int, tuple[str, str]]:
    """The error codes of a run; several arenas have one each for being too small."""
    if not abi.arenas:
        return dict(errors)
    found = {code: told for code, told in errors.items() if told[0] != "ARENA"}
    for number, arena in enumerate(arenas_of(abi), FIRST_ERROR):
        found[number] = f"ARENA{arena.suffix}".upper(), f"{arena.name} is too small"
    return found


def input_call(abi: ModelAbi, number: int) -> str:
    """The expression for the place of an input."""
    return f"{abi.name}_input_{number}({holding(abi, abi.inputs_at[number]).name})"


def output_call(abi: ModelAbi, number: int) -> str:
    """The expression for the place of an output."""
    return f"{abi.name}_output_{number}({holding(abi, abi.outputs_at[number]).name})"
