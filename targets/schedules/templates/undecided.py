"""What templates have in common that leave nothing to decide: no choices, and no weights to pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


class Undecided:
    """The part of `Template` that speaks of decisions and constants."""

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {}

    def defaults(self, like: Mapping[str, int] | None = None) -> Mapping[str, int]:
        return {}

    def pack(self, decision: Mapping[str, int], constants: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        return {}
