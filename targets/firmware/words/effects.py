"""What the routines read and write, for those who ask whether tensors may share memory."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.targets.firmware.helium import PREFIX as HELIUM
from graphopt.targets.firmware.helium.effects import Effect, Effects
from graphopt.targets.firmware.helium.effects import effects as effects_for_helium
from graphopt.targets.firmware.words import PREFIX


def effects(name: str, arguments: Sequence[int]) -> Effects:
    """Of a call of a routine with these numbers; pointers are any number."""
    if name.endswith("pool"):
        return effects_for_helium(name.replace(PREFIX, HELIUM), arguments)
    *_, rows, line, made, made_line = arguments
    return 1, (
        Effect(0, 0, made * made_line, late=0, is_store=True),
        Effect(1, 0, rows * line),
        Effect(2, 0, 1),
    )
