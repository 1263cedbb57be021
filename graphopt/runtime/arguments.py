"""Checking the arrays that a caller gives a compiled model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphopt.errors import UsageError, did_you_mean
from graphopt.runtime.manifest import Tensor


def fitting(inputs: Mapping[str, np.ndarray], specs: Sequence[Tensor]) -> list[np.ndarray]:
    """The arrays in the model's order, dense and aligned.

    Raises UsageError, naming the input, for a name, an element type or a shape that does not fit.
    """
    if type(inputs) is dict and len(inputs) == len(specs):
        found = [inputs.get(spec.name) for spec in specs]
        if all(map(_fits, specs, found)):
            return found  # type: ignore[return-value]
    by_name = {spec.name: spec for spec in specs}
    listed = ", ".join(map(str, specs)) or "none"
    if not isinstance(inputs, Mapping):
        raise UsageError(
            f"inputs are given as {{name: array}}, not as {type(inputs).__name__}", hint=f"inputs: {listed}"
        )
    for name in inputs:
        if name not in by_name:
            hint = did_you_mean(str(name), by_name, f"inputs: {listed}")
            raise UsageError(f"the model has no input '{name}'", hint=hint)
    missing = [spec for name, spec in by_name.items() if name not in inputs]
    if missing:
        raise UsageError(f"missing input {', '.join(map(str, missing))}", hint="give every input by name")
    return [_fitting(spec, inputs[name]) for name, spec in by_name.items()]


def _fits(spec: Tensor, given: object) -> bool:
    """It is what `_fitting` would return. Most calls go this way: a small model takes microseconds."""
    if type(given) is not np.ndarray or given.dtype is not spec.dtype.numpy or given.shape != spec.shape:
        return False
    flags = given.flags
    return bool(flags.c_contiguous and flags.aligned)


def _fitting(spec: Tensor, given: object) -> np.ndarray:
    where = f"input '{spec.name}'"
    try:
        array = np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise UsageError(f"it is no array: {error}", where=where) from None
    if array.dtype != spec.dtype.numpy:
        raise UsageError(
            f"it is {array.dtype}, the model wants {spec.dtype}",
            where=where,
            hint=f"convert it: array.astype('{spec.dtype}')",
        )
    if array.shape != spec.shape:
        raise UsageError(f"its shape is {list(array.shape)}, the model wants {list(spec.shape)}", where=where)
    return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"])
