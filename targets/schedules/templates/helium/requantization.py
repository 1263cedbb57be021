"""What ends a kernel for Helium: one requantisation of sums to int8, and perhaps the addition of another image.

    Requantize(sums, M)
    Requantize(Cast(Requantize(sums, M)) f + Cast(v) g + o, N)                M by channel or single, f, g, o, N single
    Requantize(Requantize(sums, M, shift) + Cast(v) g + o, N)                 the inner one to int32

A routine does the first while it stores; `helium_add` does the second where the first was stored, and `helium_add_sums`
the third of sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir import QUANT, DType, Graph, Node, Value
from graphopt.targets.device import HELIUM, Target
from graphopt.targets.requantize import BYTES


@dataclass(frozen=True)
class Requantization:
    """int32 to int8: `multiplier` has one number, or one per channel; `result` is what it makes."""

    multiplier: np.ndarray
    zero_point: int
    low: int
    high: int
    result: Value

    @classmethod
    def of(cls, node: Node | None, constants: Mapping[Value, np.ndarray]) -> Requantization | None:
        """None for another operator, another type, scales of 1/2 and above, multipliers that are not constant."""
        if node is None or not node.is_op("Requantize", domain=QUANT) or node.output.dtype is not DType.int8:
            return None
        multiplier = known(node.input(1), constants)
        if multiplier is None or node.input(2) is not None:
            return None
        low, high = (
            node.int(name, bound) for name, bound in zip(("low", "high"), BYTES["int8"], strict=True)
        )
        return cls(multiplier.reshape(-1), node.int("zero_point"), low, high, node.output)

    @property
    def cut(self) -> tuple[int, int, int]:
        """What routines take: the zero point and the range."""
        return self.zero_point, self.low, self.high


@dataclass(frozen=True)
class Sum:
    """`factors` times `operands`, two images of bytes, plus an offset, requantised with one multiplier."""

    operands: tuple[Value, Value]
    factors: tuple[int, int]
    offset: int
    end: Requantization

    @classmethod
    def of(cls, value: Value) -> Sum | None:
        """The sum that makes `value`; None where it is another, or has other operands. Its numbers are the body's own,
        for groups with equal bodies share a kernel."""
        end = Requantization.of(value.producer, {})
        if end is None or value.producer is None or end.multiplier.size != 1:
            return None
        terms = terms_of(value.producer.input(0))
        if terms is None:
            return None
        parts, offset = terms
        if any(x.dtype is not DType.int8 for x in parts):
            return None
        shapes = {x.static_shape for x in parts}
        if len(parts) != 2 or shapes != {value.static_shape}:
            return None
        (a, f), (b, g) = parts.items()
        return cls((a, b), (f, g), offset, end)


@dataclass(frozen=True)
class Tail:
    """What follows the anchor of a body: `first` and, with another image, `added`."""

    first: Requantization
    added: Sum | None

    @classmethod
    def of(cls, body: Graph, anchor: Node, constants: Mapping[Value, np.ndarray]) -> Tail | None:
        """None where the body makes anything else of the anchor's sums."""
        users = anchor.output.users
        if len(body.outputs) != 1 or len(users) != 1 or anchor.output.is_graph_output:
            return None
        first = Requantization.of(users[0], constants)
        if first is None or first.multiplier.size not in (1, anchor.output.static_shape[-1]):
            return None
        (output,) = body.outputs
        if output is first.result:
            return cls(first, None) if len(list(body.nodes)) == 2 else None
        added = Sum.of(output)
        if added is None or first.result not in added.operands:
            return None
        others = [x for x in added.operands if x is not first.result]
        if len(others) != 1 or len(first.result.users) != 1:
            return None
        is_computed = others[0].producer is not None or others[0] in constants
        return None if is_computed else cls(first, added)

    def multipliers(self, channels: int) -> np.ndarray:
        """One for each channel."""
        return np.broadcast_to(self.first.multiplier, channels).astype(np.int32)


@dataclass(frozen=True)
class Blend:
    """Sums with a multiplier and a shift for each channel, plus `factor` times an image and an offset; then `end`."""

    multipliers: np.ndarray
    shifts: np.ndarray
    image: Value
    factor: int
    offset: int
    end: Requantization

    @classmethod
    def of(cls, body: Graph, anchor: Node, constants: Mapping[Value, np.ndarray]) -> Blend | None:
        """None where the body makes anything else of the anchor's sums."""
        if len(body.outputs) != 1 or len(anchor.output.users) != 1 or anchor.output.is_graph_output:
            return None
        (output,) = body.outputs
        end, (first,) = Requantization.of(output.producer, {}), anchor.output.users
        if end is None or end.multiplier.size != 1 or output.producer is None or len(first.output.users) != 1:
            return None
        terms = terms_of(output.producer.input(0))
        if terms is None or len(terms[0]) != 2 or terms[0].get(first.output) != 1:
            return None
        (image,) = (x for x in terms[0] if x is not first.output)
        multiplier, shift = known(first.input(1), constants), known(first.input(2), constants)
        if multiplier is None or (first.input(2) is not None and shift is None):
            return None
        channels = anchor.output.static_shape[-1]
        sizes = {a.size for a in (multiplier, shift) if a is not None}
        is_given = image.producer is None and image not in constants and image.dtype is DType.int8
        if not sizes <= {1, channels} or not is_given or image.static_shape != anchor.output.static_shape:
            return None
        shifts = np.zeros(1, np.int32) if shift is None else shift
        multiplier, shifts = (
            np.broadcast_to(a.reshape(-1), channels).astype(np.int32) for a in (multiplier, shifts)
        )
        return cls(multiplier, shifts, image, terms[0][image], terms[1], end)

    def packed(self) -> np.ndarray:
        """As `helium_add_sums` reads them."""
        return np.concatenate([self.multipliers, self.shifts])


def has_helium(target: Target) -> bool:
    """Firmware for a core whose vectors are Helium's."""
    return target.is_firmware and target.triple.startswith(HELIUM)


def values_of(body: Graph, constants: Mapping[int, np.ndarray]) -> dict[Value, np.ndarray]:
    """The constant inputs of a body."""
    return {body.inputs[number]: array for number, array in constants.items()}


def known(value: Value | None, constants: Mapping[Value, np.ndarray]) -> np.ndarray | None:
    """A constant of the body or among its inputs."""
    if value is None:
        return None
    return value.constant if value.constant is not None else constants.get(value)


def terms_of(value: Value | None) -> tuple[dict[Value, int], int] | None:
    """Factors of bytes, and of sums that are requantised to int32, by value; and what is added to them."""
    if value is None:
        return None
    number = value.scalar()
    if number is not None:
        return {}, int(number)
    node = value.producer
    if node is None:
        return None
    if node.is_op("Requantize", domain=QUANT):
        is_plain = (
            node.output.dtype is DType.int32 and not node.int("zero_point") and node.attr("low") is None
        )
        return ({value: 1}, 0) if is_plain else None
    if node.is_op("Cast"):
        x = node.input(0)
        return None if x is None or x.dtype is not DType.int8 else ({x: 1}, 0)
    if not node.is_op("Add", "Mul"):
        return None
    one, other = (terms_of(v) for v in node.inputs)
    if one is None or other is None:
        return None
    if node.is_op("Add"):
        if one[0].keys() & other[0].keys():
            return None
        return {**one[0], **other[0]}, one[1] + other[1]
    scaled, factor = (one, other) if not other[0] else (other, one)
    if factor[0]:
        return None
    return {x: f * factor[1] for x, f in scaled[0].items()}, scaled[1] * factor[1]
