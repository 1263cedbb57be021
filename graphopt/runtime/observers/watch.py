"""Watching many values at once, sample by sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.ranges import Range
from graphopt.errors import UsageError
from graphopt.runtime.observers.base import Observer, as_channels
from graphopt.runtime.observers.min_max import MinMax

SINGLE = 4
"""Bytes of a float32; what is narrower is widened, since numpy is slow with it."""


@dataclass(frozen=True)
class Constant:
    """A tensor, or one channel of it, that had one number throughout."""

    name: str
    channel: int | None
    number: float

    def __str__(self) -> str:
        which = "" if self.channel is None else f"channel {self.channel} of "
        return f"{which}'{self.name}' is {self.number:g}"


class Watch:
    """Observes values by name; `axes` has the channels' axis of each, None for a range of the whole tensor.

    A value that becomes infinite is an error, unless it is `optional`: that one is no longer observed, and stands in
    `infinite` with the place where it was.
    """

    def __init__(
        self, observer: Observer, axes: Mapping[str, int | None], optional: Collection[str] = ()
    ) -> None:
        self.infinite: dict[str, str] = {}
        self._axes = dict(axes)
        self._optional = optional
        self._observations = {name: observer.start() for name in axes}
        self._extremes = {name: MinMax().start() for name in axes}

    def look(self, arrays: Mapping[str, np.ndarray], where: str) -> None:
        """Take one sample, or some of its values; others than those that are observed are passed over.

        Raises UsageError, naming the value, for a number that is not finite.
        """
        for name in [name for name in self._axes if name in arrays]:
            self._look(name, arrays[name], where)

    def _look(self, name: str, array: np.ndarray, where: str) -> None:
        place = f"{where}, value '{name}'"
        if array.size == 0:
            raise UsageError("it has no elements", where=place)
        wide = array if array.dtype.itemsize >= SINGLE else array.astype(np.float32)
        channels = as_channels(wide, self._axes[name])
        low, high = channels.min(axis=1), channels.max(axis=1)
        if np.isnan(low).any():
            raise UsageError("the model makes it NaN", where=place, hint="leave the sample out")
        if np.isfinite(low).all() and np.isfinite(high).all():
            self._extremes[name].add(channels, low, high)
            self._observations[name].add(channels, low, high)
        elif name in self._optional:
            self.infinite[name] = where
            del self._axes[name]
        else:
            hint = "leave the sample out, or the value if that is its nature"
            raise UsageError("the model makes it infinite", where=place, hint=hint)

    def ranges(self) -> dict[str, Range]:
        """What the observer found."""
        return {name: _range(*self._observations[name].bounds(), axis) for name, axis in self._axes.items()}

    def constants(self, *, channels: bool = False) -> list[Constant]:
        """Tensors with one number throughout; with `channels` also single channels of the others."""
        found = []
        for name in self._axes:
            low, high = self._extremes[name].bounds()
            if low.min() == high.max():
                found.append(Constant(name, None, float(low.min())))
            elif channels:
                found += [Constant(name, int(c), float(low[c])) for c in np.flatnonzero(low == high)]
        return found


def _range(low: np.ndarray, high: np.ndarray, axis: int | None) -> Range:
    return Range(low.reshape(()), high.reshape(())) if axis is None else Range(low, high, axis)
