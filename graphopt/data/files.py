"""Arrays in `.npy` and `.npz` files, read row by row: a file larger than memory is fine.

A row is what lies along the first axis. Only an array in Fortran's order is read whole, in the type it is
stored in, for its rows are not contiguous. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from graphopt.errors import GraphoptError, UsageError, did_you_mean

NPY, NPZ = b"\x93NUMPY", (b"PK\x03\x04", b"PK\x05\x06")
"""How the files begin; an empty .npz has the last."""

SAVE_HINT = "write it with numpy.save(FILE, array), or numpy.savez(FILE, NAME=array)"


@dataclass(frozen=True)
class Header:
    """What stands in front of an array's data."""

    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype

    @property
    def rows(self) -> int:
        """A number alone is one row."""
        return self.shape[0] if self.shape else 1


def is_npz(path: Path) -> bool:
    """Whether the file is an archive of arrays rather than one array. Raises UsageError when it is neither."""
    with reading(path), path.open("rb") as file:
        begins = file.read(len(NPY))
    if begins.startswith(NPY):
        return False
    if begins.startswith(NPZ):
        return True
    raise UsageError("it is neither .npy nor .npz", where=str(path), hint=SAVE_HINT)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell of a file that cannot be read by its name. Raises UsageError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot be read: {reason}", where=str(path), hint="check the path") from None
    except GraphoptError:
        raise
    except Exception as error:  # zipfile, the decompressors, numpy and tokenize raise what they like
        reason = str(error) or type(error).__name__
        raise UsageError(f"it is damaged: {reason}", where=str(path), hint="write it again") from None


def read_array(path: Path) -> np.ndarray:
    """The one array of a `.npy` file. Raises UsageError."""
    if is_npz(path):
        raise UsageError("it is an archive, not one array", where=str(path), hint="save it with numpy.save")
    with reading(path), path.open("rb") as file:
        _header(file, path)
        file.seek(0)
        return np.load(file, allow_pickle=False)


@dataclass(frozen=True)
class NpyRows:
    """The rows of one `.npy` file, for the only input of a model."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @cached_property
    def count(self) -> int:
        with reading(self.path), self.path.open("rb") as file:
            return _header(file, self.path).rows

    def __iter__(self) -> Iterator[np.ndarray]:
        with reading(self.path), self.path.open("rb") as file:
            yield from _rows(file, self.path)

    def fingerprint(self) -> str:
        return sha256_of(self.path)


@dataclass(frozen=True)
class NpzRows:
    """The rows of arrays in a `.npz` file side by side.

    `keys` tells the array of each input. Where every array has its input's shape, of `shapes`, they are one sample.
    """

    path: Path
    keys: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def name(self) -> str:
        return str(self.path)

    @cached_property
    def count(self) -> int:
        """Of rows. Raises UsageError when the arrays differ in it."""
        headers = self._headers
        if self._is_one_sample:
            return 1
        counts = {key: header.rows for key, header in headers.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"'{key}' has {count}" for key, count in counts.items())
            hint = "give each input as many, along a first axis"
            what = f"its arrays have different numbers of samples: {listed}"
            raise UsageError(what, where=self.name, hint=hint)
        return next(iter(counts.values()))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        count = self.count
        with reading(self.path), zipfile.ZipFile(self.path) as archive, ExitStack() as stack:
            files = [stack.enter_context(archive.open(f"{key}.npy")) for key in self.keys.values()]
            if self._is_one_sample and count:
                arrays = [np.lib.format.read_array(file, allow_pickle=False) for file in files]
                yield dict(zip(self.keys, arrays, strict=True))
                return
            rows = [_rows(file, self.path, key) for file, key in zip(files, self.keys.values(), strict=True)]
            for row in zip(*rows, strict=True):
                yield dict(zip(self.keys, row, strict=True))

    def fingerprint(self) -> str:
        return " ".join([sha256_of(self.path), *(f"{name}={key}" for name, key in self.keys.items())])

    @cached_property
    def _headers(self) -> dict[str, Header]:
        with reading(self.path), zipfile.ZipFile(self.path) as archive:
            found = {}
            for key in self.keys.values():
                with archive.open(f"{key}.npy") as file:
                    found[key] = _header(file, self.path, key)
            return found

    @property
    def _is_one_sample(self) -> bool:
        return bool(self.shapes) and all(
            self._headers[key].shape == self.shapes[name] for name, key in self.keys.items()
        )


def open_npz(
    path: Path, shapes: Mapping[str, tuple[int, ...]], key: str = "", *, rows: bool = False
) -> NpzRows:
    """The arrays of a `.npz` file for inputs of `shapes`: by name, or the only one, or the one called `key`.

    With `rows` the first axis always is that of the samples. Raises UsageError where the file has not what the
    model wants.
    """
    with reading(path), zipfile.ZipFile(path) as archive:
        known = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    where, listed, inputs = str(path), ", ".join(known) or "none", list(shapes)
    told = {} if rows else shapes
    if key:
        if key not in known:
            hint = did_you_mean(key, known, f"its arrays: {listed}")
            raise UsageError(f"it has no array '{key}'", where=where, hint=hint)
        if len(inputs) != 1:
            what = f"'{key}' is one array, the model has {len(inputs)} inputs"
            hint = f"leave ':{key}' out, and name the arrays {', '.join(inputs)}"
            raise UsageError(what, where=where, hint=hint)
        return NpzRows(path, {inputs[0]: key}, told)
    missing = [name for name in inputs if name not in known]
    if not missing:
        return NpzRows(path, {name: name for name in inputs}, told)
    if len(inputs) == len(known) == 1:
        return NpzRows(path, {inputs[0]: known[0]}, told)
    one_of_many = len(inputs) == 1 and bool(known)
    hint = (
        f"say which one it is, such as {path.name}:{known[0]}" if one_of_many else "name arrays like inputs"
    )
    what = f"it has no array for input '{missing[0]}'; its arrays: {listed}"
    raise UsageError(what, where=where, hint=hint)


def _header(file: IO[bytes], path: Path, key: str = "") -> Header:
    """Reads what is in front of the data. Raises UsageError for objects."""
    where = f"{path}, array '{key}'" if key else str(path)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        hint = "save array.astype('float32') or the like"
        raise UsageError("it holds Python objects, not numbers", where=where, hint=hint)
    return Header(shape, is_fortran, dtype)


def _rows(file: IO[bytes], path: Path, key: str = "") -> Iterator[np.ndarray]:
    header = _header(file, path, key)
    row = header.shape[1:]
    if header.is_fortran and row:
        data = file.read(prod(header.shape) * header.dtype.itemsize)
        yield from np.frombuffer(data, header.dtype).reshape(header.shape, order="F")
        return
    size = prod(row) * header.dtype.itemsize
    for _ in range(header.rows):
        data = file.read(size)
        if len(data) != size:
            raise EOFError(f"{'array ' + key if key else 'the array'} ends too early")
        yield np.frombuffer(data, header.dtype).reshape(row)


def sha256_of(path: Path) -> str:
    """Of a file's bytes. Raises UsageError."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
