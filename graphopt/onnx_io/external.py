"""Tensors of a model file: inside it, or in files beside it.

External data must lie in the model's own folder: a path that leaves it could read any file of the machine.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from graphopt.errors import ModelError
from graphopt.ir import DType

LARGEST_TENSOR = 1 << 36
"""Elements; a tensor that claims more is a broken or hostile file."""


def read_tensor(proto: onnx.TensorProto, folder: Path | None) -> np.ndarray:
    """The tensor's data; external data is mapped, not read. Raises ModelError naming the tensor."""
    where = f"tensor '{proto.name}'"
    if any(d < 0 for d in proto.dims) or math.prod(proto.dims) > LARGEST_TENSOR:
        raise ModelError(f"its shape {list(proto.dims)} is absurd", where=where)
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
    if math.prod(proto.dims) > LARGEST_TENSOR or any(d < 0 for d in proto.dims):
        raise ModelError(f"its shape {list(proto.dims)} is absurd", where=where)
    dense = np.zeros(tuple(proto.dims), values.dtype)
    try:
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
    except (IndexError, ValueError) as error:
        raise ModelError(f"its indices do not fit its shape: {error}", where=where) from None
    return dense


def _map_external(proto: onnx.TensorProto, folder: Path | None, where: str) -> np.ndarray:
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    hint = "keep the model and its data files in one folder"
    if folder is None:
        raise ModelError(f"its data is in '{location}', but the model has no folder", where=where, hint=hint)
    path = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not path.is_relative_to(folder.resolve()):
        raise ModelError(f"its data path '{location}' leaves the model's folder", where=where, hint=hint)
    if not path.is_file():
        raise ModelError(f"its data file '{location}' is missing", where=where, hint=hint)
    try:
        dtype = DType.of(proto.data_type)
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", "-1"))
    except (KeyError, ValueError):
        raise ModelError("its external data is described wrongly", where=where) from None
    count = math.prod(proto.dims)
    needed = (count * dtype.bits + 7) // 8
    if dtype is DType.string or offset < 0 or offset + needed > path.stat().st_size or -1 < length < needed:
        raise ModelError(f"'{location}' does not hold {needed} bytes at {offset}", where=where)
    if not needed:
        return np.zeros(tuple(proto.dims), dtype.numpy)
    raw = np.memmap(path, np.uint8, "r", offset, (needed,))
    if dtype.bits < 8:
        inline = onnx.TensorProto(data_type=proto.data_type, dims=proto.dims, raw_data=raw.tobytes())
        return numpy_helper.to_array(inline)
    return raw.view(dtype.numpy).reshape(tuple(proto.dims))
