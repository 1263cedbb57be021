"""The order of calls with the least memory alive at once.

Where a graph has branches its calls can be ordered in several ways. What is alive behind a set of calls does not depend
on their order, so the best way to each set is all that has to be kept: dynamic programming over sets, of which a few
branches have few hundred. Ways that are no better than the given order are dropped; a chain has one way.

Source: Liberis, Lane, "Neural networks on microcontrollers: saving memory at inference via operator reordering", 2019.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from graphopt.analysis.storage import Storage
from graphopt.ir import Value
from graphopt.targets.arena import Work, storage_bytes

MOST_WAYS = 20_000
"""Sets of calls that are looked at; where there are more, the given order stays."""

Way = tuple[int, int, tuple[int, ...]]
"""The peak so far, the bytes alive now, and the calls in order."""


def least_peak_order(
    calls: Sequence[Work],
    storage: Storage,
    elsewhere: Collection[Value],
    *,
    inputs: Sequence[Value] = (),
    outputs: Sequence[Value] = (),
) -> list[int]:
    """The numbers of the calls in the order that keeps the fewest bytes of the arena alive; the given one if none is
    better. See `plan_arena` for the parameters.
    """
    graph = _Calls(calls, storage, elsewhere, outputs)
    given = list(range(len(calls)))
    bound = graph.peak(given, inputs)
    ways: dict[int, Way] = {0: (0, graph.bytes_of(inputs), ())}
    looked_at = 0
    for _ in calls:
        further: dict[int, Way] = {}
        for done, (peak, alive, order) in ways.items():
            for number in graph.ready(done):
                looked_at += 1
                during, after = graph.behind(number, done, alive)
                way = max(peak, during), after, (*order, number)
                known = further.get(done | 1 << number)
                if way[0] < bound and (known is None or way[0] < known[0]):
                    further[done | 1 << number] = way
        ways = further
        if not ways or looked_at > MOST_WAYS:
            return given
    ((_, _, best),) = ways.values()
    return list(best)


class _Calls:
    """What calls need and leave; a set of calls is the bits of an int."""

    def __init__(
        self, calls: Sequence[Work], storage: Storage, elsewhere: Collection[Value], outputs: Sequence[Value]
    ) -> None:
        self._calls = calls
        self._kept = {value for output in outputs for value in storage.made_in(output)}
        numbers = {value: number for number, call in enumerate(calls) for value in call.node.outputs}
        self._reads: list[list[list[Value]]] = []
        self._readers: dict[Value, int] = {}
        self._needs: list[int] = []
        self._sizes: dict[Value, int] = {}
        for number, call in enumerate(calls):
            operands = [v for v in call.node.inputs if v is not None]
            read = [[] if v.is_constant else storage.made_in(v) for v in operands]
            self._reads.append(read)
            needed = 0
            for value in (v for made in read for v in made):
                self._readers[value] = self._readers.get(value, 0) | 1 << number
                needed |= 1 << numbers[value] if value in numbers else 0
            self._needs.append(needed)
        for value in {*numbers, *self._readers, *self._kept}:
            self._sizes[value] = 0 if storage.of(value).root in elsewhere else storage_bytes(value)

    def bytes_of(self, values: Sequence[Value]) -> int:
        return sum(self._sizes.get(value, 0) for value in values)

    def ready(self, done: int) -> list[int]:
        """Calls that have all they read, and have not run."""
        return [n for n, needed in enumerate(self._needs) if not needed & ~done and not done >> n & 1]

    def behind(self, number: int, done: int, alive: int) -> tuple[int, int]:
        """Bytes alive while a call runs behind those that are `done`, and when it has run."""
        call, done = self._calls[number], done | 1 << number
        made = self.bytes_of(call.node.outputs)
        shared = 0
        freed: set[Value] = set()
        for operand, values in enumerate(self._reads[number]):
            for value in values:
                if self._is_free(value, done):
                    freed.add(value)
                    shared += self._shared(number, operand, value)
        during = alive + made + sum(call.workspaces) - min(shared, made)
        freed.update(value for value in call.node.outputs if self._is_free(value, done))
        return during, alive + made - sum(self._sizes.get(value, 0) for value in freed)

    def peak(self, order: Sequence[int], inputs: Sequence[Value]) -> int:
        done, alive, peak = 0, self.bytes_of(inputs), 0
        for number in order:
            during, alive = self.behind(number, done, alive)
            done, peak = done | 1 << number, max(peak, during)
        return peak

    def _is_free(self, value: Value, done: int) -> bool:
        return value not in self._kept and not self._readers.get(value, 0) & ~done

    def _shared(self, number: int, operand: int, value: Value) -> int:
        """Bytes of an operand that the call's first result may lie in."""
        call = self._calls[number]
        overlap = (call.overlaps or {}).get((operand, len(self._reads[number])))
        return overlap.most(self._sizes[value], self.bytes_of(call.node.outputs[:1])) if overlap else 0
