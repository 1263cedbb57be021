"""A compiled model that returns inner values: what calibration and comparisons look at.

Fusion hides values, so the chosen ones become the outputs of a copy of the graph before it is compiled: whatever is not
chosen fuses as ever, and the graph's names stay good. A run takes one sample and holds the chosen values of that one
only. Where these take much memory there are several compiled models, each for a part of the values and no more than the
nodes in front of them: two parts at most are held at once, and a part is one value if that is large. Where this
machine's target cannot compile the graph, the numpy reference runs it.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from graphopt.analysis.ranges import model_digest
from graphopt.api import Progress, compile
from graphopt.errors import UnsupportedError, UsageError, did_you_mean
from graphopt.ir import Graph, Value
from graphopt.runtime import reference
from graphopt.runtime.module import Module

SMALL = 1 << 22
"""Bytes of all chosen values below which a run is over before threads have met."""

PART_BYTES = 1 << 27
"""Of values that are made by one compiled model, where one value is not larger."""

KEPT_AT_MOST = 2
"""Compiled models that are kept for the next call."""


class TappedModel:
    """`graph`, ready to run on this machine. `note` tells why it is not compiled; empty where it is.

    Values of `part_bytes` together are made by one run. Raises UsageError for a value that is not there, or is a
    constant.
    """

    def __init__(
        self,
        graph: Graph,
        values: Iterable[str],
        *,
        part_bytes: int = PART_BYTES,
        progress: Progress | None = None,
    ) -> None:
        known = {value.name: value for value in graph.values()}
        chosen = [_known(name, known) for name in dict.fromkeys(values)]
        self._inputs = tuple(value.name for value in chosen if value.is_input)
        made = [value for value in chosen if not value.is_input]
        self._parts = [_Part(graph, part, progress) for part in _parts(graph, made, part_bytes)]
        self.note = next((part.note for part in self._parts if part.note), "")

    def parts(self, sample: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """The chosen values by name, for one sample of the model's inputs, some at a time.

        Arrays may be read, not kept: inputs are the caller's own. Raises UsageError for inputs that do not fit.
        """
        if self._inputs:
            yield {name: sample[name] for name in self._inputs}
        for part in self._parts:
            yield part.run(sample)

    def __call__(self, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All chosen values by name, for one sample."""
        return {name: array for part in self.parts(sample) for name, array in part.items()}


class _Part:
    """As much of the graph as makes some of its values, compiled so that it returns them."""

    def __init__(self, graph: Graph, values: Sequence[Value], progress: Progress | None) -> None:
        self._graph = graph.clone()
        self._names = {f"tap {number}": value.name for number, value in enumerate(values)}
        copies = {value.name: value for value in self._graph.values()}
        self._graph.clear_outputs()
        for output, name in self._names.items():
            self._graph.add_output(copies[name], output)
        self.note = ""
        self._module: Module | None = None
        try:
            self._module = _compiled(self._graph, progress)
            if sum(map(_nbytes, values)) < SMALL:
                self._module.set_num_threads(1)
        except UnsupportedError as error:
            self.note = f"the numpy reference runs it: {error}"

    def run(self, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        results = self._module(sample) if self._module else reference.run(self._graph, sample)
        return {name: results[output] for output, name in self._names.items()}


def _parts(graph: Graph, values: Sequence[Value], part_bytes: int) -> list[list[Value]]:
    """The values in the order in which they are computed, as many together as `part_bytes` hold."""
    wanted = set(values)
    parts: list[list[Value]] = []
    held = 0
    for value in graph.values():
        if value not in wanted:
            continue
        if not parts or held + _nbytes(value) > part_bytes:
            parts.append([])
            held = 0
        parts[-1].append(value)
        held += _nbytes(value)
    return parts


def _nbytes(value: Value) -> int:
    return value.type.nbytes if value.type and value.is_static else 0


def tapped(graph: Graph, values: Iterable[str], *, progress: Progress | None = None) -> TappedModel:
    """`TappedModel(graph, values)`; the last few are kept, and not compiled again for an equal graph."""
    key = (model_digest(graph), tuple(dict.fromkeys(values)))
    if key not in _kept:
        _kept[key] = TappedModel(graph, key[1], progress=progress)
        while len(_kept) > KEPT_AT_MOST:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


_kept: OrderedDict[tuple[str, tuple[str, ...]], TappedModel] = OrderedDict()


def _known(name: str, known: Mapping[str, Value]) -> Value:
    if name not in known:
        hint = did_you_mean(name, known, "names are those of the graph that is run")
        raise UsageError(f"the graph has no value '{name}'", hint=hint)
    if known[name].is_constant:
        raise UsageError("it is a constant, there is nothing to observe", where=f"value '{name}'")
    return known[name]


def _compiled(graph: Graph, progress: Progress | None) -> Module:
    """Loaded from a folder that is gone afterwards: the library stays in memory."""
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        bundle = compile(graph, pipeline="", out=Path(folder, "taps"), name="taps", progress=progress)
        return Module(bundle.path)
