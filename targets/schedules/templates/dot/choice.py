"""Which instruction multiplies bytes, from what a target's processor has and what the operands are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from graphopt.targets.device import Target
from graphopt.targets.llvm import features_of
from graphopt.targets.schedules.templates.dot import by_lane
from graphopt.targets.schedules.templates.dot.amx import AmxDot
from graphopt.targets.schedules.templates.dot.base import Dot
from graphopt.targets.schedules.templates.dot.by_lane import LaneDot
from graphopt.targets.schedules.templates.dot.pairs import PairDot
from graphopt.targets.schedules.templates.dot.portable import PortableDot
from graphopt.targets.schedules.templates.dot.sdot import ElementDot
from graphopt.targets.schedules.templates.dot.smlal import A32, WideningDot
from graphopt.targets.schedules.templates.dot.smmla import MatrixDot
from graphopt.targets.schedules.templates.dot.split import SplitDot, fits_halves, halves
from graphopt.targets.schedules.templates.dot.vnni import QuadDot

LOWEST = -128
"""The weight that some instructions have no room for."""

BYTES = ("int8", "uint8")
SHORT = ("int16",)
ANY = (*BYTES, *SHORT)

PLAIN_DEPTH = 4
"""Inputs of a step in plain arithmetic."""


@dataclass(frozen=True)
class _Offer:
    """An instruction: the features it needs, what it multiplies, how deep its steps may be, from what width on."""

    features: frozenset[str]
    inputs: tuple[str, ...]
    depths: tuple[int, ...]
    make: Callable[[int, int], Dot]
    bits: int = 128
    short: bool = False
    lowest: bool = True

    def fits(self, features: frozenset[str], bits: int, dtype: str, weights: np.ndarray) -> bool:
        if not self.features <= features or bits < self.bits or dtype not in self.inputs:
            return False
        return self.lowest or not (weights == LOWEST).any()

    def dot(self, bits: int, depth: int, weights: np.ndarray) -> Dot:
        """What multiplies these weights, of 16 bits in two halves unless it takes them as they are."""
        dot = self.make(bits, depth)
        return SplitDot.of(dot) if weights.dtype == np.int16 and not self.short else dot


def _offer(features: str, *rest: object, **options: object) -> _Offer:
    return _Offer(frozenset(features.split()), *rest, **options)  # type: ignore[arg-type]


OFFERS = (
    _offer("amx-int8", BYTES, (64,), lambda bits, depth: AmxDot(16, depth), bits=512),
    _offer("avx512vnni", ("uint8",), (4,), lambda bits, depth: QuadDot(bits // 32, depth), bits=256),
    _offer("avxvnni", ("uint8",), (4,), lambda bits, depth: QuadDot(8, depth), bits=256),
    _offer("avx512bw", ANY, (2, 4), lambda bits, depth: PairDot(16, depth), bits=512, short=True),
    _offer("avx2", ANY, (2, 4), lambda bits, depth: PairDot(8, depth), bits=256, short=True),
    _offer("sse4.1", ANY, (2, 4), lambda bits, depth: PairDot(4, depth), short=True),
    _offer("aarch64 i8mm", BYTES, (8, 16), lambda bits, depth: MatrixDot(4, depth)),
    _offer("aarch64 dotprod", ("int8",), (4, 8, 16), lambda bits, depth: ElementDot(4, depth)),
    _offer("aarch64 neon", ("int8",), (16,), lambda bits, depth: WideningDot(4, depth), lowest=False),
    _offer("aarch64 neon", ("int8",), (8,), lambda bits, depth: WideningDot(4, depth)),
    _offer("aarch64 neon", SHORT, (4, 8), lambda bits, depth: LaneDot(4, depth), short=True),
    _offer("arm neon", ("int8",), (16,), lambda bits, depth: WideningDot(4, depth, A32), lowest=False),
    _offer("arm neon", ("int8",), (8,), lambda bits, depth: WideningDot(4, depth, A32)),
    _offer("arm neon", SHORT, (4, 8), lambda bits, depth: LaneDot(4, depth, by_lane.A32), short=True),
)
"""The better ones first."""


def fitting_dots(target: Target, dtype: str, weights: np.ndarray, depth: int) -> list[Dot]:
    """All ways to multiply inputs of type `dtype` with `weights` on `target`, plain arithmetic the last of them.

    Inputs come in runs of `depth` channels; a step takes all of one, or a part that divides it.
    """
    features = features_of(target) | {_architecture(target)}
    split = np.concatenate(halves(weights)) if fits_halves(weights) else None
    found: list[Dot] = []
    for offer in OFFERS:
        depths = [d for d in offer.depths if depth % d == 0]
        parts = weights if offer.short or weights.dtype == np.int8 else split
        if depths and parts is not None and offer.fits(features, target.vector_bits, dtype, parts):
            found.append(offer.dot(target.vector_bits, depths[-1], weights))
    return [*found, PortableDot(max(target.vector_bits // 32, 1), math.gcd(depth, PLAIN_DEPTH))]


def choose_dot(target: Target, dtype: str, weights: np.ndarray, depth: int, columns: int = 2) -> Dot:
    """The best of `fitting_dots` where there are `columns` outputs beside each other."""
    dots = fitting_dots(target, dtype, weights, depth)
    return next(dot for dot in dots if columns > 1 or not isinstance(dot, MatrixDot))


def _architecture(target: Target) -> str:
    """LLVM's name, without the version."""
    name = target.triple.split("-")[0]
    return "arm" if name.startswith("arm") else name
