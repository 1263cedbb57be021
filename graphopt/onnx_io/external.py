"""Tensors of a model file: inside it, or in files beside it.

External data must lie in the model's own folder: a path that leaves it could read any file of the machine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from graphopt.errors import ModelError
from graphopt.ir import DType

LARGEST_TENSOR = 1 << 36
"""Elements; a tensor that claims more is a broken or hostile file."""

LARGEST_SPARSE = 1 << 28
"""Elements of a sparse tensor, which is held as a dense one: a small file could claim any size."""

SMALLEST_MOVED = 1024
"""Bytes; smaller weights stay in the model."""

ALIGNMENT = 4096
"""Of each tensor in a data file, so that it can be mapped."""

HINT = "keep the model and its data files in one folder"


def check_dims(dims: Sequence[int], where: str, largest: int = LARGEST_TENSOR) -> int:
    """The number of elements. Raises ModelError for a negative dimension, or more than `largest` elements."""
    count = 1
    for dim in dims:
        count *= dim
        if dim < 0 or dim > largest or count > largest:
            shown = str(list(dims[:8])) + ("..." if len(dims) > 8 else "")
            raise ModelError(
                f"its shape {shown} is absurd",
                where=where,
                hint="the file is damaged; export the model again",
            )
    return count


def read_tensor(proto: onnx.TensorProto, folder: Path | None) -> np.ndarray:
    """The tensor's data; external data is mapped, not read. Raises ModelError naming the tensor."""
    where = f"tensor '{proto.name}'"
    check_dims(proto.dims, where)
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        return _map_external(proto, folder, where)
    try:
        array = numpy_helper.to_array(proto)
    except Exception as error:  # onnx raises TypeError, ValueError and KeyError alike
        raise ModelError(f"its data does not fit its type and shape: {error}", where=where) from None
    array.flags.writeable = False
    return array


def read_sparse(proto: onnx.SparseTensorProto, folder: Path | None) -> np.ndarray:
    """A sparse tensor as a dense array."""
    values = read_tensor(proto.values, folder)
    indices = read_tensor(proto.indices, folder)
    where = f"sparse tensor '{proto.values.name}'"
    check_dims(proto.dims, where, LARGEST_SPARSE)
    dense = np.zeros(tuple(proto.dims), values.dtype)
    positions = indices if indices.ndim == 1 else indices.T
    try:
        if positions.size and positions.min() < 0:
            raise ValueError("one is negative")
        if indices.ndim == 1:
            dense.reshape(-1)[positions] = values
        else:
            dense[tuple(positions)] = values
    except (IndexError, ValueError) as error:
        raise ModelError(f"its indices do not fit its shape: {error}", where=where) from None
    dense.flags.writeable = False
    return dense


def _map_external(proto: onnx.TensorProto, folder: Path | None, where: str) -> np.ndarray:
    """External data as a map of its file; nothing is read before it is used."""
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ModelError(f"its data is in '{location}', but the model has no folder", where=where, hint=HINT)
    path = _beside(location, folder, where)
    try:
        dtype = DType.of(proto.data_type)
        offset = int(entries.get("offset") or "0")
        length = int(entries.get("length") or "-1")
    except (KeyError, ValueError):
        raise ModelError("its external data is described wrongly", where=where) from None
    count = math.prod(proto.dims)
    needed = (count * dtype.bits + 7) // 8
    if dtype is DType.string:
        raise ModelError("texts cannot be external data", where=where)
    if offset < 0:
        raise ModelError(f"its external data begins at byte {offset}", where=where)
    if length not in (-1, needed):
        raise ModelError(
            f"its external data has {length} bytes at {offset}, its shape needs {needed}", where=where
        )
    size = path.stat().st_size
    if offset + needed > size:
        raise ModelError(
            f"'{location}' ends at byte {size}, before its data ({needed} bytes at {offset})",
            where=where,
            hint="the file is cut short; copy it again",
        )
    if not needed:
        return np.zeros(tuple(proto.dims), dtype.numpy)
    raw = np.memmap(path, np.uint8, "r", offset, (needed,))
    if dtype.bits < 8:
        inline = onnx.TensorProto(data_type=proto.data_type, dims=proto.dims, raw_data=raw.tobytes())
        return numpy_helper.to_array(inline)
    return raw.view(dtype.numpy).reshape(tuple(proto.dims))


def _beside(location: str, folder: Path, where: str) -> Path:
    """The file `location` in `folder`. Raises ModelError when it lies elsewhere, by its path or by a link."""
    try:
        path = (folder / location).resolve()
        inside = path.is_relative_to(folder.resolve())
        exists = inside and path.is_file()
    except (OSError, ValueError, RuntimeError):  # a NUL byte, a name too long, a circle of links
        raise ModelError(f"its data path {location[:80]!r} is no path", where=where, hint=HINT) from None
    if not location or Path(location).is_absolute() or not inside:
        raise ModelError(f"its data path '{location}' leaves the model's folder", where=where, hint=HINT)
    if not exists:
        raise ModelError(f"its data file '{location}' is missing", where=where, hint=HINT)
    return path


def move_weights(model: onnx.ModelProto, path: Path, location: str) -> None:
    """Write the data of the model's larger weights to the file `path`, which the model shall know as `location`."""
    with path.open("wb") as file:
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < SMALLEST_MOVED:
                continue
            offset = -(-file.tell() // ALIGNMENT) * ALIGNMENT
            file.seek(offset)
            length = file.write(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", location), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))


@contextmanager
def finished(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, which takes its place when the block ends without an error."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
