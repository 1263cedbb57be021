"""Checking the arrays that a caller gives a compiled model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphopt.errors import UsageError, did_you_mean
from graphopt.runtime.manifest import Signature, Tensor


def fitting(inputs: Mapping[str, np.ndarray], shapes: Sequence[Signature]) -> tuple[int, list[np.ndarray]]:
    """The number of the shape that the arrays have, and the arrays in the model's order, dense and aligned.

    `shapes` differ in the dimensions of inputs only. Raises UsageError, naming the input, for a name, an element
    type or a shape that does not fit.
    """
    specs = shapes[0].inputs
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
    arrays = [_fitting(spec, inputs[name]) for name, spec in by_name.items()]
    return _number_of(arrays, shapes), arrays


def shape_of(inputs: Mapping[str, np.ndarray], shapes: Sequence[Signature]) -> int | None:
    """The number of the shape that the arrays have; None where they have none of them."""
    for number, signature in enumerate(shapes):
        if all(s.name in inputs and inputs[s.name].shape == s.shape for s in signature.inputs):
            return number
    return None


def _number_of(arrays: Sequence[np.ndarray], shapes: Sequence[Signature]) -> int:
    specs = shapes[0].inputs
    found = shape_of({spec.name: array for spec, array in zip(specs, arrays, strict=True)}, shapes)
    if found is not None:
        return found
    for index, (spec, array) in enumerate(zip(specs, arrays, strict=True)):
        wanted = dict.fromkeys(signature.inputs[index].shape for signature in shapes)
        if array.shape not in wanted:
            listed = " or ".join(str(list(shape)) for shape in wanted)
            raise UsageError(
                f"its shape is {list(array.shape)}, the model wants {listed}", where=f"input '{spec.name}'"
            )
    listed = "; ".join(", ".join(map(str, signature.inputs)) for signature in shapes)
    given = ", ".join(f"'{s.name}' is {list(a.shape)}" for s, a in zip(specs, arrays, strict=True))
    raise UsageError(f"no shape of the model is this one: {given}", hint=f"its shapes: {listed}")


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
    return np.require(array, requirements=["C_CONTIGUOUS", "ALIGNED"])
