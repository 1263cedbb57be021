"""From a piece of data to arrays that an input takes: its name, shape and element type, and numbers throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphopt.errors import UsageError, did_you_mean
from graphopt.runtime.manifest import Tensor

PREPROCESS_HINT = "convert the data before, or with --preprocess (preprocess=) module:function"


class Batches:
    """Gathers rows of one input until they fill the model's batch, which is its first axis."""

    def __init__(self, spec: Tensor, *, convert: bool) -> None:
        self.spec = spec
        self.batch = spec.shape[0] if spec.shape else 1
        self._row = spec.shape[1:]
        self._convert = convert
        self._waiting: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return 0 if self._waiting is None else len(self._waiting)

    @property
    def is_full(self) -> bool:
        return self.rows >= self.batch

    def add(self, piece: object, where: str) -> None:
        """Take one sample, without or with the axis of the batch, or several. Raises UsageError."""
        rows = _finite(
            _converted(self._rows_of(array_of(piece, where), where), self.spec, self._convert, where), where
        )
        self._waiting = rows if not self.rows else np.concatenate([self._waiting, rows])  # type: ignore[list-item]

    def take(self) -> np.ndarray:
        """The next batch, of the input's shape."""
        assert self._waiting is not None
        batch, self._waiting = self._waiting[: self.batch], self._waiting[self.batch :]
        return np.require(batch.reshape(self.spec.shape), requirements="C")

    def _rows_of(self, array: np.ndarray, where: str) -> np.ndarray:
        shape = self.spec.shape
        if array.shape == self._row or not shape:
            return array.reshape(-1, *self._row)
        if array.shape[1:] == self._row:
            return array
        if array.shape[1:] == shape:
            return array.reshape(-1, *self._row)
        what = f"its shape is {list(array.shape)}, the model wants {list(shape)}"
        raise UsageError(what, where=where, hint=PREPROCESS_HINT)


def by_name(piece: object, specs: Sequence[Tensor], where: str) -> Mapping[str, object]:
    """The parts of a piece by input. Raises UsageError for other names, and for what is neither array nor mapping."""
    names = [spec.name for spec in specs]
    listed = ", ".join(map(str, specs))
    if not isinstance(piece, Mapping):
        if len(names) == 1:
            return {names[0]: piece}
        what = f"it is {type(piece).__name__}, the model has {len(names)} inputs"
        raise UsageError(what, where=where, hint=f"give {{name: array}}: {listed}")
    for name in piece:
        if name not in names:
            hint = did_you_mean(str(name), names, f"inputs: {listed}")
            raise UsageError(f"the model has no input '{name}'", where=where, hint=hint)
    missing = [spec for spec in specs if spec.name not in piece]
    if missing:
        raise UsageError(
            f"missing input {', '.join(map(str, missing))}", where=where, hint="give every input"
        )
    return piece


def array_of(piece: object, where: str) -> np.ndarray:
    """What is an array already, of numbers. Raises UsageError for anything else."""
    if not hasattr(piece, "__array__"):
        what = f"it is {type(piece).__name__}, not an array"
        raise UsageError(what, where=where, hint="give numpy arrays, or {name: array}, without labels")
    array = np.asarray(piece)
    if array.dtype.hasobject or array.dtype.kind in "USmMc" or array.dtype.type is np.void:
        what = f"it holds {'Python objects' if array.dtype.hasobject else array.dtype}, not real numbers"
        raise UsageError(what, where=where, hint="convert it: array.astype('float32') or the like")
    return array


def _converted(array: np.ndarray, spec: Tensor, convert: bool, where: str) -> np.ndarray:
    """In the input's element type, where that changes no value or `convert` allows it."""
    wanted = spec.dtype.numpy
    if array.dtype == wanted:
        return array
    with np.errstate(all="ignore"):
        made = array.astype(wanted)
    if convert or np.can_cast(array.dtype, wanted, "safe") or np.array_equal(made, array, equal_nan=True):
        return made
    what = f"it is {array.dtype}, the model wants {spec.dtype}, which cannot hold its values exactly"
    hint = f"convert it: array.astype('{spec.dtype}')"
    raise UsageError(what, where=where, hint=hint)


def _finite(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind in "iub":
        return array
    if not np.isfinite(array).all():
        kind = "NaN" if np.isnan(array).any() else "infinity"
        raise UsageError(f"it holds {kind}", where=where, hint="leave the sample out, or mend it")
    return array
