"""In how many bands of rows to compute which of the first layers, so that a microcontroller's arena is smaller.

What is alive at once is estimated layer by layer for each place to stop and several numbers of bands; the most
promising are compiled, and what the planner makes of them counts. `passes/patch_rows.py` does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt.ir import DType, Graph, Node, Value
from graphopt.passes.patch_rows import ROWS, Cut, PatchRows, bands_of, cuts_of, rows_needed
from graphopt.pipeline import Pipeline
from graphopt.targets.firmware.budget import OverBudget, limits
from graphopt.targets.firmware.options import FirmwareOptions

if TYPE_CHECKING:
    from graphopt.targets.device import Target
    from graphopt.targets.firmware.compile import CompiledFirmware
    from graphopt.targets.firmware.layer_checks import Check

BANDS = (2, 3, 4, 6, 8, 12, 16, 24)

NEAR = 1.03
"""Peaks within this factor of the least are as good; the one with the fewest multiplications is taken."""

MOST_TRIED = 3
"""Graphs that are compiled."""


@dataclass(frozen=True)
class Patch:
    """The layers up to `until` in so many bands: bytes that are alive at once, by estimate, and multiplications that
    are done again, as a share of the model's."""

    until: str
    bands: int
    peak: int
    more: float

    def apply(self, graph: Graph) -> Graph:
        """A copy of the legalised `graph`."""
        copy = graph.clone()
        Pipeline((PatchRows(self.until, self.bands),)).run(copy)
        return copy


def promising(graph: Graph, most: int | None = None) -> Iterator[Patch]:
    """Patches of a legalised graph, the best first: those that fit `most` bytes by their cost, or the smallest ones.
    None where nothing gets smaller."""
    sizes = _Sizes(graph)
    whole = sizes.unpatched()
    everything = sum(_macs(node) * node.output.static_shape[ROWS] for node in graph.nodes if _macs(node))
    found = []
    for cut in cuts_of(graph):
        if sizes.of(cut.value) == 0:
            continue
        for bands in BANDS:
            if bands <= cut.value.static_shape[ROWS]:
                peak = max(sizes.in_bands(cut, bands), sizes.behind(cut))
                if peak < whole:
                    found.append(Patch(cut.value.name, bands, peak, _more(cut, bands) / max(everything, 1)))
    fitting = [patch for patch in found if most is not None and patch.peak <= most]
    if fitting:
        yield from sorted(fitting, key=lambda patch: patch.more)[:MOST_TRIED]
    elif found:
        least = min(patch.peak for patch in found)
        near = [patch for patch in found if patch.peak <= NEAR * least]
        yield from sorted(near, key=lambda patch: (patch.more, patch.peak))[:MOST_TRIED]


Made = tuple["CompiledFirmware", "Mapping[Value, Check]", dict[str, bytes]]
"""Firmware, what its self-test knows of each layer, and its files."""


@dataclass(frozen=True)
class Patched:
    """What was compiled, its files, and how its first layers are computed: None for as a whole. `arena_without` are
    the bytes of the arena that it would have then."""

    compiled: CompiledFirmware
    checks: Mapping[Value, Check]
    files: Mapping[str, bytes]
    patch: Patch | None
    arena_without: int

    def told(self) -> dict[str, Any]:
        """For the report."""
        if self.patch is None:
            return {}
        return {
            "patched": {
                "until": self.patch.until,
                "bands": self.patch.bands,
                "macs_more": round(self.patch.more, 4),
                "arena_bytes_without": self.arena_without,
            }
        }


def compile_patched(
    ready: Graph,
    make: Callable[[Graph], Made],
    target: Target,
    options: FirmwareOptions,
) -> Patched:
    """Compile the legalised graph by `make`, in bands of rows where `options` want it, or where it does not fit
    otherwise: code, stack and what the caller passes count, as far as `make` knows them. Raises OverBudget."""
    refused: OverBudget | None = None
    whole: Patched | None = None
    try:
        made = make(ready)
        without = made[0].program.plan.size
        whole = Patched(*made, None, without)
        if not options.patch:
            return whole
    except OverBudget as error:
        refused, without = error, error.program.plan.size
        if options.patch is False or not error.of_ram:
            raise
    limit = limits(target, options).get("ram") if refused else None
    found = [whole] if whole else []
    beside = refused.beside if refused else 0
    for patch in promising(ready, limit.bytes - beside if limit else None):
        try:
            found.append(Patched(*make(patch.apply(ready)), patch, without))
        except OverBudget as error:
            refused = refused or error
            continue
        if not options.patch:
            break
    if not found:
        assert refused is not None
        raise refused
    return min(found, key=lambda one: one.compiled.program.plan.size)


class _Sizes:
    """What is alive between layers; sums that never leave registers take nothing."""

    def __init__(self, graph: Graph) -> None:
        self._nodes = list(graph.nodes)
        self._inputs = graph.inputs
        stored = {value.dtype for node in self._nodes for value in node.outputs}
        self._is_quantised = bool(stored & {DType.int8, DType.uint8})

    def of(self, value: Value, rows: int | None = None) -> int:
        """Bytes of so many of its rows."""
        if self._is_quantised and value.dtype is DType.int32:
            return 0
        size = value.size * value.dtype.numpy.itemsize
        return size if rows is None else size // value.static_shape[ROWS] * rows

    def unpatched(self) -> int:
        return self._peak(0)

    def behind(self, cut: Cut) -> int:
        """From the cut's value on."""
        return self._peak(len(cut.nodes))

    def _peak(self, start: int) -> int:
        order = {node: number for number, node in enumerate(self._nodes)}
        last = {
            value: max((order[user] for user in value.users if user in order), default=len(order))
            if not value.is_graph_output
            else len(order)
            for value in (*self._inputs, *(v for node in self._nodes for v in node.outputs))
        }
        peak = sum(self.of(value) for value in self._inputs) if start == 0 else 0
        made = list(self._inputs)
        for number, node in enumerate(self._nodes):
            made = [value for value in (*made, *node.outputs) if last[value] > number]
            if number >= start - 1:
                peak = max(peak, sum(self.of(value) for value in made))
        return peak

    def in_bands(self, cut: Cut, bands: int) -> int:
        """While the bands are computed: rows of the source that are left, bands that are done, and a band's images."""
        spans = bands_of(cut.value.static_shape[ROWS], bands)
        needed = [rows_needed(cut, span) for span in spans]
        height, whole = _height(cut), self.of(cut.source)
        peak = whole
        for number, own in enumerate(needed):
            left = height - own[cut.source][0]
            following = height - needed[number + 1][cut.source][0] if number + 1 < bands else 0
            done = self.of(cut.value, spans[number][0])
            peak = max(
                peak, done + self._in_band(cut, own, whole * left // height, whole * following // height)
            )
        return peak

    def _in_band(self, cut: Cut, needed: dict, left: int, following: int) -> int:
        peak, alive = 0, {}
        order = {node: number for number, node in enumerate(cut.nodes)}
        readers = max(order[user] for user in cut.source.users)
        readers = max(
            [readers, *(order[u] for n in cut.nodes[:1] if n.is_op("Transpose") for u in n.output.users)]
        )
        for number, node in enumerate(cut.nodes):
            low, high = needed[node.output]
            is_view = node.is_op("Transpose")
            alive[node.output] = 0 if is_view else self.of(node.output, high - low)
            for value in list(alive):
                if value is not cut.value and all(order[user] <= number for user in value.users):
                    del alive[value]
            peak = max(peak, sum(alive.values()) + (left if number < readers else following))
        return peak


def _height(cut: Cut) -> int:
    return cut.source.static_shape[1 if cut.nodes[0].is_op("Transpose") else ROWS]


def _macs(node: Node) -> int:
    """Multiplications for a row of a convolution's result; 0 for anything else."""
    if node.op_type != "Conv" or len(node.output.static_shape) != 4 or node.inputs[1] is None:
        return 0
    _, channels, _, width = node.output.static_shape
    return channels * width * math.prod(node.inputs[1].static_shape[1:])


def _more(cut: Cut, bands: int) -> int:
    """Multiplications that are done again."""
    spans = bands_of(cut.value.static_shape[ROWS], bands)
    rows = {node: -node.output.static_shape[ROWS] for node in cut.nodes}
    for span in spans:
        needed = rows_needed(cut, span)
        for node in cut.nodes:
            low, high = needed.get(node.output, (0, 0))
            rows[node] += high - low
    return sum(_macs(node) * again for node, again in rows.items())
