"""Element types and tensor types.

A dimension is an `int` or a symbol. A symbol is a `str`: two dimensions with the same symbol are equal,
whatever their value turns out to be. A dimension nobody named gets a symbol of its own that starts with
`?`, so that it equals no other.
"""

from __future__ import annotations

import builtins
import enum
import itertools
import math
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np

Dim = int | str
Shape = tuple[Dim, ...]


class DType(enum.Enum):
    """An element type, by its common name; `onnx_code` is the value of onnx.TensorProto.DataType."""

    float32 = ("float32", 1, np.float32)
    uint8 = ("uint8", 2, np.uint8)
    int8 = ("int8", 3, np.int8)
    uint16 = ("uint16", 4, np.uint16)
    int16 = ("int16", 5, np.int16)
    int32 = ("int32", 6, np.int32)
    int64 = ("int64", 7, np.int64)
    string = ("string", 8, np.object_)
    bool = ("bool", 9, np.bool_)
    float16 = ("float16", 10, np.float16)
    float64 = ("float64", 11, np.float64)
    uint32 = ("uint32", 12, np.uint32)
    uint64 = ("uint64", 13, np.uint64)
    complex64 = ("complex64", 14, np.complex64)
    complex128 = ("complex128", 15, np.complex128)
    bfloat16 = ("bfloat16", 16, ml_dtypes.bfloat16)
    float8e4m3fn = ("float8e4m3fn", 17, ml_dtypes.float8_e4m3fn)
    float8e4m3fnuz = ("float8e4m3fnuz", 18, ml_dtypes.float8_e4m3fnuz)
    float8e5m2 = ("float8e5m2", 19, ml_dtypes.float8_e5m2)
    float8e5m2fnuz = ("float8e5m2fnuz", 20, ml_dtypes.float8_e5m2fnuz)
    uint4 = ("uint4", 21, ml_dtypes.uint4)
    int4 = ("int4", 22, ml_dtypes.int4)
    float4e2m1 = ("float4e2m1", 23, ml_dtypes.float4_e2m1fn)
    float8e8m0 = ("float8e8m0", 24, ml_dtypes.float8_e8m0fnu)
    uint2 = ("uint2", 25, ml_dtypes.uint2)
    int2 = ("int2", 26, ml_dtypes.int2)

    def __init__(self, label: str, onnx_code: int, numpy_type: type) -> None:
        self.label = label
        self.onnx_code = onnx_code
        self.numpy = np.dtype(numpy_type)

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        return f"DType.{self.label}"

    @property
    def bits(self) -> int:
        """Bits of one element in storage: 4 for int4, 8 for bool."""
        if self in _SUB_BYTE:
            return _SUB_BYTE[self]
        return self.numpy.itemsize * 8

    @property
    def is_float(self) -> builtins.bool:
        return self.label.startswith(("float", "bfloat"))

    @property
    def is_integer(self) -> builtins.bool:
        return self.label.startswith(("int", "uint"))

    @classmethod
    def of(cls, source: np.dtype | type | str | int | DType) -> DType:
        """The DType of a numpy dtype, a label such as `"float32"`, or an ONNX code.

        Raises KeyError for anything else.
        """
        if isinstance(source, DType):
            return source
        if isinstance(source, int):
            return _BY_CODE[source]
        if isinstance(source, str) and source in cls.__members__:
            return cls[source]
        return _BY_NUMPY[np.dtype(source)]


_SUB_BYTE = {DType.uint4: 4, DType.int4: 4, DType.float4e2m1: 4, DType.uint2: 2, DType.int2: 2}
_BY_CODE = {d.onnx_code: d for d in DType}
_BY_NUMPY = {d.numpy: d for d in DType}

_fresh = itertools.count()


def fresh_dim() -> str:
    """A symbol that equals no other: for a dimension that nobody named."""
    return f"?{next(_fresh)}"


def is_unnamed(dim: Dim) -> bool:
    """Whether the dimension is a symbol that nobody named."""
    return isinstance(dim, str) and dim.startswith("?")


@dataclass(frozen=True)
class TensorType:
    """What is known of a value: `dtype`; `shape` (None: the rank is unknown); `layout` such as `NCHW16c`.

    `layout` is None for a plain tensor, whose axes mean what its ONNX operator says.
    """

    dtype: DType
    shape: Shape | None = None
    layout: str | None = None

    @property
    def rank(self) -> int | None:
        return None if self.shape is None else len(self.shape)

    @property
    def is_static(self) -> bool:
        """Every dimension is a number."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as ints. Raises ValueError when a dimension is a symbol or the rank is unknown."""
        if self.shape is None:
            raise ValueError(f"the rank of {self} is unknown")
        dims = tuple(d for d in self.shape if isinstance(d, int))
        if len(dims) != len(self.shape):
            raise ValueError(f"{self} has symbolic dimensions")
        return dims

    @property
    def size(self) -> int:
        """Number of elements of a static type."""
        return math.prod(self.static_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of a static type; sub-byte elements are packed, as ONNX stores them."""
        return (self.size * self.dtype.bits + 7) // 8

    def with_shape(self, shape: Shape | None) -> TensorType:
        return replace(self, shape=shape)

    def accepts(self, other: TensorType) -> bool:
        """True unless `other` contradicts this type: another dtype, rank, or fixed dimension."""
        if self.dtype is not other.dtype:
            return False
        if self.shape is None or other.shape is None:
            return True
        return len(self.shape) == len(other.shape) and all(
            a == b or isinstance(a, str) or isinstance(b, str)
            for a, b in zip(self.shape, other.shape, strict=True)
        )

    def __str__(self) -> str:
        dims = "[*]" if self.shape is None else f"[{', '.join(str(d) for d in self.shape)}]"
        return f"{self.dtype}{dims}" + (f"@{self.layout}" if self.layout else "")
