"""The constants of a firmware bundle: as C arrays, and as an assembly file that takes them in by `.incbin`.

Both define the same symbols, one for each array; a build takes either.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from graphopt.targets.abi import FIRMWARE_ALIGNMENT
from graphopt.targets.firmware.c_arrays import definition, element_type, length
from graphopt.targets.weights import Weights


@dataclass(frozen=True)
class WeightArrays:
    """The arrays of `weights` as C knows them: `<model>_weights_<number>`."""

    name: str
    weights: Weights

    def symbol(self, number: int) -> str:
        return f"{self.name}_weights_{number}"

    def at(self, offset: int) -> tuple[str, str, int]:
        """Symbol and C type of the array that holds a byte of the blob, and the bytes before it in the array."""
        offsets = list(self.weights.arrays)
        number = bisect_right(offsets, offset) - 1
        return self.symbol(number), self._kind(number), offset - offsets[number]

    def declarations(self) -> list[str]:
        """`extern` for each array."""
        return [
            f"extern const {self._kind(number)} {self.symbol(number)}[{length(array)}];"
            for number, array in enumerate(self.weights.arrays.values())
        ]

    def c_text(self) -> str:
        """The arrays as C99."""
        lines = [f'#include "{self.name}_internal.h"', ""]
        for number, array in enumerate(self.weights.arrays.values()):
            head = f"const {self._kind(number)} {self.symbol(number)}[{length(array)}]"
            lines += definition(f"{head} {self.name.upper()}_ALIGNED", array)
        return "\n".join(lines)

    def assembly(self) -> str:
        """The same symbols, whose bytes are in `<model>_weights.bin`."""
        lines = ["/* The model's constants: raw bytes, read-only. */"]
        for number, (offset, array) in enumerate(self.weights.arrays.items()):
            symbol = self.symbol(number)
            lines += [
                f'    .section .rodata.{symbol}, "a", %progbits',
                f"    .balign {FIRMWARE_ALIGNMENT}",
                f"    .global {symbol}",
                f"    .type {symbol}, %object",
                f"    .size {symbol}, {array.nbytes}",
                f"{symbol}:",
                f'    .incbin "{self.name}_weights.bin", {offset}, {array.nbytes}',
            ]
        return "\n".join([*lines, ""])

    def _kind(self, number: int) -> str:
        return element_type(list(self.weights.arrays.values())[number])
