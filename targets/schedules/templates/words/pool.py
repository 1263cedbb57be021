"""Pools of int8, channels-last, by `words_sum_pool` and `words_max_pool`, which are called as Helium's are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.targets.device import Target
from graphopt.targets.schedules.templates.helium.pool import HeliumPool
from graphopt.targets.schedules.templates.words.core import is_without_vectors


@dataclass(frozen=True)
class WordsPool(HeliumPool):
    """Four channels at once with the DSP extension."""

    family: ClassVar[str] = "words"

    @classmethod
    def serves(cls, target: Target) -> bool:
        return is_without_vectors(target)
