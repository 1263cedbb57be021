"""ONNX to IR: the file, its checks, type inference, specialisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import defs, shape_inference

from graphopt.errors import GraphoptError, ModelError, UnsupportedError, UsageError
from graphopt.ir import Graph, TensorType, verify
from graphopt.onnx_io.construct import Construction
from graphopt.onnx_io.external import LARGEST_TENSOR
from graphopt.onnx_io.infer import infer_graph
from graphopt.onnx_io.protos import type_from_proto
from graphopt.onnx_io.upgrade import CANONICAL_OPSET, OLDEST_OPSET

SMALL_TENSOR = 1024
"""Elements; larger weights are hidden from type inference, which needs their types only."""

INPUT_HINT = "is this an ONNX file? `python -m onnx.bin.checker FILE` may tell more"


def read_model(
    source: str | Path | bytes | onnx.ModelProto, *, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> Graph:
    """The graph of a model file, of its bytes, or of a ModelProto.

    `input_shapes` fixes the shapes of inputs by name; symbols they share with other values are fixed too.
    Raises ModelError for what is not valid ONNX, UnsupportedError for what the IR cannot hold, UsageError for
    shapes that do not fit the model.
    """
    folder = Path(source).parent if isinstance(source, str | Path) else None
    name = Path(source).name if isinstance(source, str | Path) else ""
    try:
        model = source if isinstance(source, onnx.ModelProto) else _parse(source)
        return _read(model, folder, input_shapes or {})
    except GraphoptError as error:
        if name and not str(error).startswith(name):
            error.args = (f"{name}: {error}",)
        raise
    except (RecursionError, MemoryError) as error:
        raise ModelError(
            f"it is nested too deeply or too large ({type(error).__name__})", where=name
        ) from None


def declared_versions(source: str | Path | bytes) -> tuple[int, dict[str, int]]:
    """The standard opset that a model file declares, and its versions of other domains."""
    return _versions(_parse(source))


def _parse(source: str | Path | bytes) -> onnx.ModelProto:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", hint="check the path") from None
    if not data:
        raise ModelError("the file is empty", hint=INPUT_HINT)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError) as error:
        raise ModelError(f"not an ONNX model, or cut short ({error})", hint=INPUT_HINT) from None
    return model


def _read(model: onnx.ModelProto, folder: Path | None, shapes: Mapping[str, Sequence[int]]) -> Graph:
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ModelError("the file holds no graph", hint=INPUT_HINT)
    opset, domains = _versions(model)
    if model.functions:
        model = _inline_functions(model)
    light = _light_copy(model)
    weights = {t.name for t in model.graph.initializer} | {
        t.values.name for t in model.graph.sparse_initializer
    }
    if shapes:
        _specialise(light.graph, shapes, weights)
    types = _infer(light)
    graph = Graph(model.graph.name or "main", opset=max(opset, CANONICAL_OPSET))
    graph.domains = domains
    graph.metadata = {entry.key: entry.value for entry in model.metadata_props}
    Construction(graph, opset, folder, types).fill(model.graph, light.graph)
    infer_graph(graph)
    verify(graph)
    return graph


def _versions(model: onnx.ModelProto) -> tuple[int, dict[str, int]]:
    """The standard opset, and the versions of other domains."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if "ai.onnx" in versions:
        versions.setdefault("", versions.pop("ai.onnx"))
    opset = versions.pop("", 1 if not versions else CANONICAL_OPSET)
    newest = defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        hint = f"supported are {OLDEST_OPSET} to {newest}; convert it, or install a newer onnx"
        raise UnsupportedError(f"the model uses opset {opset}", hint=hint)
    return opset, versions


def _inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model, convert_version=True)
    except Exception as error:  # raised by C++ without a type of its own
        reason = str(error).split("\n")[0]
        raise ModelError(f"its local functions cannot be inlined: {reason}") from None


def _light_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the data of large weights, which become inputs: type inference needs no more."""
    light = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name or "main"
    graph.node.extend(model.graph.node)
    weights = set()
    for tensor in model.graph.initializer:
        weights.add(tensor.name)
        size = 1
        for dim in tensor.dims:
            size *= dim
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        if size > LARGEST_TENSOR:
            raise ModelError(f"its shape {list(tensor.dims)} is absurd", where=f"tensor '{tensor.name}'")
        if size <= SMALL_TENSOR and not external:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    graph.input.extend(value for value in model.graph.input if value.name not in weights)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    return light


def _specialise(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]], weights: set[str]) -> None:
    """Write the given shapes into the inputs, and the numbers of their symbols everywhere."""
    inputs = {value.name: value for value in graph.input if value.name not in weights}
    symbols: dict[str, int] = {}
    for name, shape in shapes.items():
        where = f"input '{name}'"
        if name not in inputs:
            raise UsageError(f"the model has no input '{name}'", hint=f"its inputs: {', '.join(inputs)}")
        tensor = inputs[name].type.tensor_type
        if tensor.HasField("shape") and len(tensor.shape.dim) != len(shape):
            raise UsageError(
                f"{len(shape)} dimensions given, the model has {len(tensor.shape.dim)}", where=where
            )
        for index, size in enumerate(shape):
            if size < 0:
                raise UsageError(f"dimension {index} is {size}", where=where)
            if tensor.HasField("shape"):
                _bind(tensor.shape.dim[index], size, symbols, f"dimension {index} of {where}")
        del tensor.shape.dim[:]
        for size in shape:
            tensor.shape.dim.add().dim_value = int(size)
        if not shape:
            tensor.shape.SetInParent()
    for value in (*graph.input, *graph.value_info, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]


def _bind(dim: onnx.TensorShapeProto.Dimension, size: int, symbols: dict[str, int], where: str) -> None:
    if dim.HasField("dim_value") and dim.dim_value > 0 and dim.dim_value != size:
        raise UsageError(f"{size} given, the model has {dim.dim_value}", where=where)
    if dim.dim_param and dim.dim_param != "?":
        known = symbols.setdefault(dim.dim_param, size)
        if known != size:
            raise UsageError(f"'{dim.dim_param}' is {known} elsewhere, {size} here", where=where)


def _infer(light: onnx.ModelProto) -> dict[str, TensorType]:
    """Types of all values that ONNX's inference can tell."""
    known = {v.name for v in (*light.graph.input, *light.graph.value_info)}
    try:
        inferred = shape_inference.infer_shapes(light, data_prop=True)
    except Exception as error:  # raised by C++ without a type of its own
        reason = " ".join(str(error).split())
        raise ModelError(f"its types contradict each other: {reason}") from None
    types: dict[str, TensorType] = {}
    for value in (*inferred.graph.output, *inferred.graph.value_info, *inferred.graph.input):
        is_declared = value.name in known
        try:
            found = type_from_proto(value.type, f"value '{value.name}'")
        except UnsupportedError:
            if is_declared and value in inferred.graph.input:
                raise
            continue
        if found is not None:
            types[value.name] = found
    return types
