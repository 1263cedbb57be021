"""Numbers in place of symbolic dimensions: the shapes a user gives for inputs, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import TensorType
from graphopt.onnx_io.external import LARGEST_TENSOR
from graphopt.onnx_io.protos import weight_names


@dataclass
class Specialisation:
    """Shapes of inputs, by name, and the numbers of symbols, which stand for one number everywhere."""

    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)

    def of_input(self, name: str, type: TensorType) -> TensorType:
        return type.with_shape(self.inputs[name]) if name in self.inputs else self.of(type)

    def of(self, type: TensorType) -> TensorType:
        if type.shape is None:
            return type
        return type.with_shape(tuple(self.symbols.get(d, d) if isinstance(d, str) else d for d in type.shape))


def specialise(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]]) -> Specialisation:
    """What the given shapes mean for a model.

    Raises UsageError for an input the model does not have, a weight among them, and for a shape that does not fit
    the model's or another one given.
    """
    weights = weight_names(graph)
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    result = Specialisation()
    for name, shape in shapes.items():
        if name not in inputs:
            hint = did_you_mean(name, inputs, f"its inputs: {', '.join(inputs) or 'none'}")
            raise UsageError(f"the model has no input '{name}'", where=_given(name, shape), hint=hint)
        _specialise_input(inputs[name], shape, result)
    return result


def _given(name: str, shape: Sequence[int]) -> str:
    return f"input shape {name}={','.join(map(str, shape))}"


def _specialise_input(value: onnx.ValueInfoProto, shape: Sequence[int], result: Specialisation) -> None:
    where = _given(value.name, shape)
    tensor = value.type.tensor_type
    known = tensor.HasField("shape")
    if known and len(tensor.shape.dim) != len(shape):
        dims = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim]
        symbols = ", ".join(dict.fromkeys(d for d in dims if not d.isdigit()))
        hint = f"write {value.name}={','.join(dims)}" + (f" with numbers for {symbols}" if symbols else "")
        reason = f"{len(shape)} dimensions given, the model's '{value.name}' has {len(dims)}"
        raise UsageError(reason, where=where, hint=hint)
    for index, size in enumerate(shape):
        if int(size) != size or size < 0:
            raise UsageError(f"dimension {index} is {size}", where=where, hint="give whole numbers from 0 on")
        if known:
            _bind(tensor.shape.dim[index], int(size), result.symbols, where, index)
    if math.prod(map(int, shape)) > LARGEST_TENSOR:
        raise UsageError("no machine holds so many elements", where=where, hint="give smaller dimensions")
    result.inputs[value.name] = tuple(int(size) for size in shape)


def _bind(
    dim: onnx.TensorShapeProto.Dimension, size: int, symbols: dict[str, int], where: str, index: int
) -> None:
    if dim.HasField("dim_value") and dim.dim_value >= 0 and dim.dim_value != size:
        raise UsageError(
            f"dimension {index} is {size}, the model's is {dim.dim_value}",
            where=where,
            hint=f"write {dim.dim_value}: only open dimensions can be chosen",
        )
    if dim.dim_param and dim.dim_param != "?":
        known = symbols.setdefault(dim.dim_param, size)
        if known != size:
            raise UsageError(
                f"dimension {index}, '{dim.dim_param}', is {known} elsewhere and {size} here",
                where=where,
                hint="give it the same number everywhere",
            )
