"""A compiled model that returns inner values: what calibration and comparisons look at.

Fusion hides values, so the chosen ones become outputs of a copy of the graph before it is compiled: whatever is not
chosen fuses as ever, and the graph's names stay good. A run takes one sample and holds the chosen values of that one
only. Where this machine's target cannot compile the graph, the numpy reference runs it.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
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

KEPT_AT_MOST = 4
"""Compiled models that are kept for the next call."""


class TappedModel:
    """`graph`, ready to run on this machine. `note` tells why it is not compiled; empty where it is.

    Raises UsageError for a value that is not there, or is a constant.
    """

    def __init__(self, graph: Graph, values: Iterable[str], *, progress: Progress | None = None) -> None:
        known = {value.name: value for value in graph.values()}
        chosen = [_known(name, known) for name in dict.fromkeys(values)]
        self._inputs = tuple(value.name for value in chosen if value.is_input)
        self._graph = graph.clone()
        copies = {value.name: value for value in self._graph.values()}
        self._outputs: dict[str, str] = {}
        for value in chosen:
            if value.producer is not None:
                output = f"tap {len(self._outputs)}"
                self._outputs[output] = value.name
                self._graph.add_output(copies[value.name], output)
        self.note = ""
        self._module: Module | None = None
        try:
            self._module = _compiled(self._graph, progress)
            if sum(value.type.nbytes for value in chosen if value.type) < SMALL:
                self._module.set_num_threads(1)
        except UnsupportedError as error:
            self.note = f"the numpy reference runs it: {error}"

    def __call__(self, sample: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The chosen values by name, for one sample of the model's inputs. Arrays may be read, not kept: inputs are
        the caller's own. Raises UsageError for inputs that do not fit.
        """
        run = self._module or (lambda inputs: reference.run(self._graph, inputs))
        results = run(sample)
        values = {name: sample[name] for name in self._inputs}
        values.update((name, results[output]) for output, name in self._outputs.items())
        return values


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
