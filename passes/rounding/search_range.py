"""The range of an activation, narrowed where the layers that read it lose less by it.

Clipping cuts a few large values, and leaves smaller steps for all others. Which is worse the layers decide: errors that
a layer sums with one sign add up, those of rounding cancel out. What counts is therefore what the errors do behind the
layers, layer(q(x)) - layer(x). Before a maximum over an image, which picks large results, clipping costs far more than
in the mean: there f(layer(q(x))) - f(layer(x)) counts, with f all that is made of the results before anything else is
read (`readers.py`). Behind activations alone it is a worse judge than the sums.

Source: the search by output error of Nagel et al. 2021, A White Paper on Neural Network Quantization, 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir import DType, Node, Value
from graphopt.passes.rounding.readers import Reader, readers_of
from graphopt.runtime.stacked import Operand

SHARES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4)
"""Of the range, at both ends, at the upper one, at the lower one."""

LOOKED_AT = 1 << 22
"""Numbers of a stack, of 32 samples at least. Small values need all samples: a few hold no extremes."""

FEWEST = 32

FIRST_LOOK = 1 << 20
"""Numbers on which all ranges are tried; what promises nothing there is not tried on more."""

FEWEST_AT_FIRST = 4

CHUNK = 1 << 18
"""Numbers that are quantised at once, so that they stay in caches."""

PROMISING = 0.9
"""What a range may lose at the first look, of what the whole range loses. Few samples hold fewer extremes, so that
clipping looks better there than it is: little is overlooked.
"""

WORTHWHILE = 0.6
"""A narrower range must lose so much less. Clipping hits the same values in layer after layer, where rounding errors
cancel out, and what these samples lack may be larger: a small gain in one layer is a loss for the model.
"""

CAUTION = 3
"""Standard errors of the mean that are added to what a narrower range loses. Where a few samples lose nearly all of it,
others will lose more: nine times in ten the true mean is lower than this, whatever the distribution (Cantelli's
inequality, 1 / (1 + 3^2)).
"""


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    limits: tuple[int, int]

    @property
    def scale(self) -> np.float32:
        return np.float32((self.high - self.low) / (self.limits[1] - self.limits[0]))

    @property
    def zero_point(self) -> int:
        return int(np.clip(np.rint(self.limits[0] - self.low / float(self.scale)), *self.limits))

    def error(self, x: np.ndarray) -> np.ndarray:
        """What quantisation does to x."""
        zero = np.float32(self.zero_point)
        made = np.rint(x / self.scale)
        made += zero
        np.clip(made, *self.limits, out=made)
        made -= zero
        made *= self.scale
        made -= x
        return made


def search_range(quantize: Node, operand: Operand) -> bool:
    """Narrow the range of a QuantizeLinear of bytes, in place, if all that reads them are layers; whether it was."""
    scale, zero = quantize.inputs[1], quantize.inputs[2] if len(quantize.inputs) > 2 else None
    layers = readers_of(quantize.output)
    if not layers or scale is None or zero is None or not operand.is_stack:
        return False
    step, origin = scale.scalar(), zero.scalar()
    if step is None or origin is None or zero.dtype.bits != 8:
        return False
    if sum(1 for user in scale.users if user.is_op("QuantizeLinear")) != 1:
        return False
    least_integer = 0 if zero.dtype is DType.uint8 else -128
    limits = least_integer, least_integer + 255
    low, high = (float(step) * (end - float(origin)) for end in limits)
    first = _Range(low, high, limits)
    x = operand.data[: max(FEWEST, LOOKED_AT // max(operand.data[0].size, 1))]
    promising = _promising(layers, first, x, is_symmetric=least_integer < 0)
    if not promising:
        return False
    whole, *others = _lost(layers, [first, *promising], x)
    best, least = first, WORTHWHILE * float(whole.mean())
    for tried, lost in zip(promising, map(_expected, others), strict=True):
        if lost < least:
            best, least = tried, lost
    if best is first:
        return False
    _replace(scale, np.asarray(best.scale))
    _replace(zero, np.asarray(best.zero_point, zero.dtype.numpy))
    return True


def _promising(layers: list[Reader], first: _Range, x: np.ndarray, *, is_symmetric: bool) -> list[_Range]:
    """The narrower ranges that may turn out better, after a look at few of the samples where these are large."""
    ranges = _narrowed(first, is_symmetric=is_symmetric)
    few = x[: max(FEWEST_AT_FIRST, FIRST_LOOK // max(x[0].size, 1))]
    if len(few) == len(x):
        return ranges
    whole, *others = _lost(layers, [first, *ranges], few).mean(axis=1)
    return [tried for tried, lost in zip(ranges, others, strict=True) if lost < PROMISING * whole]


def _narrowed(range: _Range, *, is_symmetric: bool) -> list[_Range]:
    low, high, limits = range.low, range.high, range.limits
    both = [_Range(share * low, share * high, limits) for share in SHARES]
    if is_symmetric or low == 0:
        return both
    upper = [_Range(low, share * high, limits) for share in SHARES]
    return both + upper + [_Range(share * low, high, limits) for share in SHARES]


def _lost(readers: list[Reader], tried: Sequence[_Range], x: np.ndarray) -> np.ndarray:
    """The energy of what each range does behind the layers that read x, (ranges, samples)."""
    lost, step = np.zeros((len(tried), len(x))), max(1, CHUNK // max(x[0].size, 1))
    for start in range(0, len(x), step):
        part = x[start : start + step]
        for reader in readers:
            errors = reader.errors((one.error(part) for one in tried), part)
            for row, made in zip(lost, errors, strict=True):
                squares = np.square(made, dtype=np.float64)
                row[start : start + step] += squares.reshape(len(squares), -1).sum(axis=1)
    return lost


def _expected(lost: np.ndarray) -> float:
    """What a sample loses in the mean, at the worst that these samples let one expect."""
    error = float(lost.std(ddof=1)) / math.sqrt(len(lost)) if len(lost) > 1 else 0.0
    return float(lost.mean()) + CAUTION * error


def _replace(old: Value, data: np.ndarray) -> None:
    assert old.graph is not None
    old.replace_uses(old.graph.add_constant(data, old.name))
