"""Names, numbers and tensors as text, so that reading the text gives the very bits back."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir.types import DType

INLINE_ELEMENTS = 8
"""Tensors up to this size are written out; bigger ones are named by their digest."""

BARE = re.compile(r"[\w./$-]+(?::+[\w./$-]+)*", re.ASCII)
WORD = re.compile(r"[A-Za-z_?][\w./$?-]*(?::+[\w./$-]+)*", re.ASCII)
NUMBER = re.compile(r"-?(?:inf|nan|\d+(?:\.\d*)?(?:e[+-]?\d+)?)(?![\w./$?:-])|bits:0x[0-9a-f]+", re.ASCII)


def word(text: str) -> str:
    """`text` as it stands when it reads as one word, else quoted."""
    return text if WORD.fullmatch(text) and not NUMBER.fullmatch(text) else quoted(text)


def bare(text: str) -> str:
    """`text` as it stands when it can follow `%` or `@`, else quoted."""
    return text if BARE.fullmatch(text) else quoted(text)


def quoted(text: str) -> str:
    return json.dumps(text)


def unquoted(text: str) -> str:
    """Raises ValueError for an escape that JSON does not know."""
    return str(json.loads(text))


def quoted_bytes(data: bytes) -> str:
    shown = (chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in data)
    return f'b"{"".join(shown)}"'


def unquoted_bytes(text: str) -> bytes:
    """Raises ValueError for an escape other than `\\xNN`."""
    body = text[2:-1]
    if re.search(r"\\(?!x[0-9a-f]{2})", body):
        raise ValueError("bytes know the escape \\xNN only")
    return re.sub(r"\\x(..)", lambda m: chr(int(m[1], 16)), body).encode("latin-1")


def float_text(number: float) -> str:
    """A Python float; unusual NaNs by their bits."""
    text = repr(float(number))
    if struct.pack("<d", float(text)) == struct.pack("<d", number):
        return text
    return f"bits:0x{int.from_bytes(struct.pack('<d', number), 'little'):016x}"


def float_number(text: str) -> float:
    if text.startswith("bits:"):
        return struct.unpack("<d", int(text[5:], 16).to_bytes(8, "little"))[0]
    return float(text)


def elements(array: np.ndarray) -> list[str]:
    """Every element in row-major order; a complex one as two."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.kind == "c":
        flat = flat.view(np.float32 if flat.dtype.itemsize == 8 else np.float64)
    return [_element(item) for item in flat]


def array_from(texts: Sequence[str], dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor whose `elements` these are. Raises ValueError when their number or one of them is wrong."""
    of = dtype.numpy
    if of.kind == "c":
        parts = array_from(texts, DType.of(np.float32 if of.itemsize == 8 else np.float64), (len(texts),))
        return parts.view(of).reshape(shape)
    array = np.empty(len(texts), of)
    for index, text in enumerate(texts):
        array[index] = _parsed(text, dtype)
    return array.reshape(shape)


def raw_bytes(array: np.ndarray) -> bytes:
    """What the digest is taken of and base64 carries; strings as JSON.

    An element smaller than a byte has one of its own; what the bits above it hold does not count.
    """
    if array.dtype == object:
        return json.dumps(elements(array)).encode()
    data = array.tobytes()
    bits = DType.of(array.dtype).bits
    return data if bits >= 8 else (np.frombuffer(data, np.uint8) & ((1 << bits) - 1)).tobytes()


def array_from_bytes(data: bytes, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `raw_bytes`. Raises ValueError when `data` has another size."""
    if dtype is DType.string:
        return array_from(json.loads(data), dtype, shape)
    return np.frombuffer(data, dtype.numpy).reshape(shape)


def digest(array: np.ndarray) -> str:
    """`sha256:` and 16 hexadecimal digits of the raw bytes."""
    return f"sha256:{hashlib.sha256(raw_bytes(array)).hexdigest()[:16]}"


def _element(item: object) -> str:
    if isinstance(item, str):
        return quoted(item)
    if isinstance(item, bytes):
        return quoted_bytes(item)
    assert isinstance(item, np.generic)
    dtype = DType.of(item.dtype)
    if dtype is DType.bool:
        return "true" if item else "false"
    if dtype.is_integer:
        return str(int(item))
    text = str(item) if dtype in (DType.float16, DType.float32) else repr(float(item))
    for candidate in (text, repr(float(item))):
        if _parsed(candidate, dtype).tobytes() == item.tobytes():  # type: ignore[attr-defined]
            return candidate
    return f"bits:0x{int.from_bytes(item.tobytes(), 'little'):0{item.dtype.itemsize * 2}x}"


def _parsed(text: str, dtype: DType) -> Any:
    """One element. Raises ValueError when `text` is not a value of `dtype`."""
    if dtype is DType.string:
        return unquoted_bytes(text) if text.startswith("b") else unquoted(text)
    if dtype is DType.bool:
        if text not in ("true", "false"):
            raise ValueError(f"'{text}' is neither true nor false")
        return text == "true"
    if text.startswith("bits:"):
        raw = int(text[5:], 16).to_bytes(dtype.numpy.itemsize, "little")
        return np.frombuffer(raw, dtype.numpy)[0]
    if dtype.is_integer:
        number = int(text)
        stored = np.array(number, np.int64 if number < 0 else np.uint64).astype(dtype.numpy)[()]
        if int(stored) != number:
            raise ValueError(f"{text} is out of range for {dtype}")
        return stored
    return np.array(float(text)).astype(dtype.numpy)[()]
