"""Samples for a model: arrays by input name, checked, in the model's batches, one at a time.

`open_samples` takes the data in any of these forms:

- a `.npz` file with an array for each input; of a single input the only array, or `FILE.npz:ARRAY`;
- a `.npy` file, for a single input;
- a folder with a `.npy` file for each sample; for several inputs a folder of them for each, named like it;
- an array, or {name: array}, with the samples along the first axis;
- an iterable of samples, each an array or {name: array}, with or without the axis of the batch;
- a function without arguments that returns one of those, or the text `module:function` that names it.

Data in other shapes or types is turned into the model's by `preprocess`, a function or `module:function`: it gets one
sample as it is stored (an array; {name: array} for several inputs) and returns what the model takes. For images that
are kept as bytes, with the channels last:

    def prepare(image):  # uint8 [32, 32, 3] -> float32 [3, 32, 32]
        return (image.astype(np.float32) / 255 - MEAN).transpose(2, 0, 1) / STD[:, None, None]
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphopt.data.fit import Batches, by_name
from graphopt.data.functions import blamed, function_named
from graphopt.data.sources import Piece, Source, source_of
from graphopt.errors import UsageError
from graphopt.ir import Graph
from graphopt.runtime.manifest import Tensor

Preprocess = Callable[[Piece], Piece]


@dataclass(frozen=True)
class Samples:
    """What `open_samples` returns: iterate over it, as often as the source allows.

    Nothing is kept: a sample is read, prepared and checked when its turn comes. Rows that do not fill the model's last
    batch are left out. Iteration raises UsageError, naming data, sample and input, for whatever does not fit, and
    when there is no sample at all.
    """

    source: Source
    inputs: tuple[Tensor, ...]
    preprocess: Preprocess | None = None
    preprocess_name: str = ""
    limit: int | None = None
    convert: bool = False

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return itertools.islice(self._all(), self.limit)

    @property
    def count(self) -> int | None:
        """How many samples there are; None where it is not known before they are read."""
        pieces = self.source.count
        if not pieces:
            return pieces
        with_rows = self._batches()
        self._feed(with_rows, 0, next(iter(self.source)))
        if any(batches.rows > batches.batch for batches in with_rows):  # the next may hold more, or fewer
            return None
        samples = min(batches.rows * pieces // batches.batch for batches in with_rows)
        return samples if self.limit is None else min(samples, self.limit)

    @property
    def name(self) -> str:
        return self.source.name

    def fingerprint(self) -> str:
        """Equal for equal samples; empty where that cannot be known."""
        data = self.source.fingerprint()
        if not data or (self.preprocess and not self.preprocess_name):
            return ""
        prepared = ""
        if self.preprocess:
            file = inspect.getsourcefile(self.preprocess)
            if file is None:
                return ""
            prepared = f"{self.preprocess_name} {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
        return hashlib.sha256(f"{data} {prepared} {self.limit}".encode()).hexdigest()

    def _all(self) -> Iterator[dict[str, np.ndarray]]:
        inputs = self._batches()
        given = 0
        number = -1
        for number, piece in enumerate(self.source):
            self._feed(inputs, number, piece)
            while all(batches.is_full for batches in inputs):
                yield {batches.spec.name: batches.take() for batches in inputs}
                given += 1
            self._check_even(inputs, number)
        if not given:
            raise UsageError(self._why_none(inputs), where=self.name, hint="give at least one sample")

    def _batches(self) -> list[Batches]:
        return [Batches(spec, convert=self.convert) for spec in self.inputs]

    def _feed(self, inputs: list[Batches], number: int, piece: Piece) -> None:
        where = f"{self.name}, sample {number}"
        if self.preprocess:
            if isinstance(piece, dict) and len(piece) == 1 == len(self.inputs):
                piece = next(iter(piece.values()))
            with blamed(f"{self.preprocess_name or 'preprocess'} of {where}"):
                piece = self.preprocess(piece)
        parts = by_name(piece, self.inputs, where)
        for batches in inputs:
            name = batches.spec.name
            batches.add(parts[name], f"{where}, input '{name}'")

    def _check_even(self, inputs: list[Batches], number: int) -> None:
        """No input runs ahead of another."""
        full = [batches.spec.name for batches in inputs if batches.is_full]
        if full:
            short = next(batches.spec.name for batches in inputs if not batches.is_full)
            what = f"input '{full[0]}' has more samples than input '{short}'"
            raise UsageError(what, where=f"{self.name}, sample {number}", hint="give each input as many")

    def _why_none(self, inputs: list[Batches]) -> str:
        for batches in inputs:
            if batches.rows:
                return f"{batches.rows} samples do not fill the model's batch of {batches.batch}"
        return "there are no samples"


def open_samples(
    data: object,
    inputs: Graph | tuple[Tensor, ...],
    *,
    preprocess: Preprocess | str | None = None,
    limit: int | None = None,
    convert: bool = False,
) -> Samples:
    """The samples in `data` for a model's inputs; this module tells the forms that data may have.

    `limit` takes the first so many. An element type other than the input's is converted where that changes no value,
    or whatever it changes with `convert`. Raises UsageError for data that is not there, or of no such form.
    """
    if isinstance(data, Samples):
        return data
    if limit is not None and limit < 1:
        raise UsageError(f"{limit} samples are none", hint="give 1 or more")
    specs = input_specs(inputs) if isinstance(inputs, Graph) else inputs
    shapes = {spec.name: spec.shape for spec in specs}
    name = preprocess if isinstance(preprocess, str) else ""
    prepare = function_named(preprocess) if isinstance(preprocess, str) else preprocess
    source = source_of(data, shapes, rows=prepare is not None)
    return Samples(source, specs, prepare, name, limit, convert)


def input_specs(graph: Graph) -> tuple[Tensor, ...]:
    """The inputs of a graph. Raises UsageError where a dimension is a symbol."""
    specs = []
    for value in graph.inputs:
        if not value.is_static:
            hint = f"give its shape with --input-shape {value.name}=..."
            raise UsageError(
                f"shapes must be fixed: it is {value.type}", where=f"input '{value.name}'", hint=hint
            )
        specs.append(Tensor(value.name, value.dtype, value.static_shape))
    if not specs:
        raise UsageError("the model has no inputs, so no data can be given to it")
    return tuple(specs)
