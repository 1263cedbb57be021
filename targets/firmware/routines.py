"""Functions that printed kernels call on places in memory: those for Helium, and those for cores without vectors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from graphopt.targets.firmware import helium, words
from graphopt.targets.firmware.c_copies import copies
from graphopt.targets.firmware.c_products import products, products_of
from graphopt.targets.firmware.c_sparse import sparse_tile_of
from graphopt.targets.firmware.helium.effects import Effect, Effects
from graphopt.targets.firmware.helium.effects import effects as effects_for_helium
from graphopt.targets.firmware.words.effects import effects as effects_of_words


def is_routine(name: str) -> bool:
    """Whether `name` is that of a routine, such as `helium_product`, `products_4x2` or `widen_int8`."""
    in_files = helium.is_routine(name) or words.is_routine(name)
    is_sparse = sparse_tile_of(name) is not None
    return in_files or is_sparse or products(name) is not None or copies(name) is not None


def routine_of(name: str) -> str:
    """What functions in the text of one routine have in common: the first two words of their names."""
    return "_".join(name.split("_")[:2])


def written_parameters(name: str, count: int) -> tuple[bool, ...]:
    """For each of `count` parameters of a routine, whether it points to what the routine writes."""
    for family in (helium, words):
        if family.is_routine(name):
            return _written(name, family.routine_text(name))
    return (True, *(False,) * (count - 1))


@cache
def _written(name: str, text: str) -> tuple[bool, ...]:
    found = re.search(rf"^static void {name}\(([^)]*)\)", text, re.MULTILINE)
    assert found is not None, name
    return tuple("*" in parameter and "const" not in parameter for parameter in found[1].split(","))


def effects(name: str, arguments: Sequence[int]) -> Effects:
    """What a call of a routine with these numbers reads and writes; pointers are any number."""
    if helium.is_routine(name):
        return effects_for_helium(name, arguments)
    if words.is_routine(name):
        return effects_of_words(name, arguments)
    tile, function = sparse_tile_of(name), products_of(name)
    if tile is None and function is None:
        *_, elements = arguments
        stored = Effect(0, 0, elements, late=0, is_store=True)
        return 1, (stored,) if name.startswith("fill_") else (stored, Effect(1, 0, elements))
    _, _, step, *_, count = arguments
    run, read = count, 1  # weights are constant: nothing shares their memory
    if function is not None:
        tile, run = (function.pixels, function.channels), count * (2 if function.is_dual else 1)
        read = function.channels * run // (2 if function.in_nibbles else 1)
    assert tile is not None
    pixels, channels = tile
    return 1, (
        Effect(0, 0, pixels * channels, late=0, is_store=True),
        Effect(1, 0, (pixels - 1) * step + run),
        Effect(3, 0, read),
    )
