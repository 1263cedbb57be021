"""The constants of a kernel for Helium: they all become one array of words, in the place of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir import Graph, Node, Value
from graphopt.targets.schedules.templates.helium.packing import fits_bytes
from graphopt.targets.schedules.templates.helium.requantization import Blend, Tail

NOTHING = 1
"""Elements that are left of a constant that is packed with the weights."""


@dataclass(frozen=True)
class Operands:
    """Of the convolution or product of a body; the inputs with the numbers `packed_too` go into the weights' array."""

    body: Graph
    x: Value
    weights: Value
    bias: Value | None
    packed_too: tuple[int, ...]

    @classmethod
    def of(
        cls, body: Graph, anchor: Node, tail: Tail | Blend | None, known: Mapping[Value, np.ndarray]
    ) -> Operands | None:
        """None where weights or bias are not constant, or weights are no bytes. Without a tail what follows the sums
        keeps its constants."""
        x, weights, bias = anchor.input(0), anchor.input(1), anchor.input(2)
        if x is None or weights is None or weights not in known or (bias is not None and bias not in known):
            return None
        if not fits_bytes(known[weights]):
            return None
        packed = [bias] if tail is None else [v for v in known if v is not weights]
        others = tuple(n for n, v in enumerate(body.inputs) if v in packed)
        return cls(body, x, weights, bias, others)

    def read(self, known: Mapping[Value, np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights and bias."""
        return known[self.weights].astype(np.int8), None if self.bias is None else known[self.bias].reshape(
            -1
        )

    def multipliers(self, tail: Tail | None, channels: int) -> np.ndarray:
        """One for each channel; without a tail nobody reads them."""
        return np.zeros(channels, np.int32) if tail is None else tail.multipliers(channels)

    def packed(self, words: np.ndarray) -> dict[int, np.ndarray]:
        """The constants as the kernel takes them, by number."""
        nothing = {number: np.zeros(NOTHING, np.int32) for number in self.packed_too}
        return {**nothing, self.body.inputs.index(self.weights): words}

    def declared(self, words: int) -> tuple[dict[int, int], dict[int, str]]:
        """Elements and types of those parameters."""
        number = self.body.inputs.index(self.weights)
        sizes = {**dict.fromkeys(self.packed_too, NOTHING), number: words}
        return sizes, dict.fromkeys(sizes, "int32")
