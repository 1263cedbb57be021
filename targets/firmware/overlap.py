"""How near the inputs of a kernel may lie to its outputs, in memory that they share.

A kernel that reads the beginning of an input before it writes much needs little more than the larger one of both:

    output   [y0 y1 y2 y3 y4 y5 y6 y7]
    input          [x0 x1 x2 x3 x4 x5]         x begins `d` bytes behind y

That is right as long as no byte is read after another one was written over it: where a store ends at byte `w` of the
output, and byte `r` of the input is read later, r + d >= w has to hold. Convolutions get by with a few rows. Where the
element at the same place is the only one that is read of an operand, d may be 0 whatever the order: a residual addition
writes over its operand. Reads count in the order in which the C text does them (`accesses.py`); what is not known is
read last.

The C text has one thread and no `restrict`, so all of this holds there and nowhere else: machine code of LLVM takes for
granted that parameters share nothing. C lets a compiler exchange accesses to different types; so the elements of both
have the same size and kind, or one of both are bytes.

Source: Blacker, Bridges, Hadfield, "Diagonal Memory Optimisation for Machine Learning on Micro-controllers", 2020.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from graphopt.targets.firmware.accesses import Access, Parameters, Unknown, accesses
from graphopt.targets.firmware.intervals import Array
from graphopt.targets.plan_memory import Overlap

KernelOverlaps = dict[tuple[int, int], Overlap]
"""(parameter that is read, parameter that is written) -> what they may share; nothing where it is not listed."""


def overlaps(function: tirx.PrimFunc, operands: Collection[int]) -> KernelOverlaps:
    """What those parameters of a function lowered for C text that `operands` numbers may share with those it writes."""
    try:
        parameters = Parameters.of(function)
        read = {number: _Read.nothing(parameters, number) for number in set(operands) - parameters.written}
        written = {number: _Written.nothing(parameters, number) for number in parameters.written}
        for access in accesses(function, parameters):
            if access.is_store:
                written[access.number].note(access)
            elif access.number in read:
                read[access.number].note(access)
    except Unknown:
        return {}
    return {
        (operand, output): _overlap(read[operand], written[output])
        for operand in sorted(read)
        for output in sorted(written)
        if _may_alias(parameters.kinds[operand], parameters.kinds[output])
    }


@dataclass
class _Seen:
    """What is known of a parameter of `size` bytes: of each moment, and of each element where its accesses are known
    exactly."""

    size: int
    element_bytes: int
    moments: Array
    elements: Array | None

    def places(self, access: Access) -> tuple[Array, Array]:
        """Times and elements; without those beyond the tensor, which a condition keeps from being accessed."""
        times, places = access.reached(access.index.low)
        kept = (places >= 0) & (places < self.size // self.element_bytes)
        return times[kept], places[kept]

    def clipped(self, byte: Array) -> Array:
        return np.clip(byte, 0, self.size)


class _Read(_Seen):
    """The first byte that is read at each moment; when each element is read last."""

    @classmethod
    def nothing(cls, parameters: Parameters, number: int) -> _Read:
        size, width = parameters.bytes[number], parameters.element_bytes(number)
        moments = np.full(parameters.stores + 1, size, np.int64)
        return cls(size, width, moments, np.full(size // width, -1, np.int64))

    def note(self, access: Access) -> None:
        start = self.clipped(access.index.low * self.element_bytes)
        np.minimum.at(self.moments, *access.reached(start))
        if not access.index.is_exact:
            self.elements = None
        elif self.elements is not None:
            times, places = self.places(access)
            np.maximum.at(self.elements, places, times)


class _Written(_Seen):
    """The end of what each store writes; when each element is written first."""

    @classmethod
    def nothing(cls, parameters: Parameters, number: int) -> _Written:
        size, width = parameters.bytes[number], parameters.element_bytes(number)
        moments = np.full(parameters.stores, -1, np.int64)
        return cls(size, width, moments, np.full(size // width, parameters.stores, np.int64))

    def note(self, access: Access) -> None:
        end = self.clipped((access.index.high + 1) * self.element_bytes)
        np.maximum.at(self.moments, *access.reached(end))
        if not access.index.is_exact:
            self.elements = None
        elif self.elements is not None:
            times, places = self.places(access)
            np.minimum.at(self.elements, places, times)


def _overlap(read: _Read, written: _Written) -> Overlap:
    later = np.minimum.accumulate(read.moments[::-1])[::-1][1:]
    matters = (written.moments >= 0) & (later < read.size)
    least = int((written.moments - later)[matters].max(initial=-read.size))
    return Overlap(least, _is_in_place(read, written))


def _is_in_place(read: _Read, written: _Written) -> bool:
    """No element is read after the one at its place was written, as far as both go."""
    if read.element_bytes != written.element_bytes:
        return False
    if read.elements is None or written.elements is None:
        return False
    common = min(read.elements.size, written.elements.size)
    return bool((read.elements[:common] <= written.elements[:common]).all())


def _may_alias(a: str, b: str) -> bool:
    """C allows both types to be used on the same memory, in the order of the text."""
    return a.removeprefix("u") == b.removeprefix("u") or any(kind in BYTES for kind in (a, b))


BYTES = ("int8", "uint8", "bool")
"""Types whose accesses a C compiler orders with all others: those of characters."""
