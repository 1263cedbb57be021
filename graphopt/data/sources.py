"""Where data comes from: files, a folder, arrays, an iterable, a function.

A source gives pieces: one array for the only input, or arrays by name. A piece is a row of what is stored, or
what an iterable gives: a sample, with or without the axis of the batch, or a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from graphopt.data.files import NpyRows, is_npz, open_npz, read_array, sha256_of
from graphopt.data.fit import array_of
from graphopt.data.functions import blamed, function_named, is_function_name
from graphopt.errors import UsageError, did_you_mean

Piece = Any
"""An array, or a mapping from names to arrays; checked when it is used."""

Shapes = Mapping[str, tuple[int, ...]]
"""Of a model's inputs."""

FORMS = "give a .npz or .npy file, FILE.npz:ARRAY, a folder of .npy files, or module:function"

READABLE_AGAIN = "give a list, or a function that returns a new iterator each time"


class Source(Protocol):
    """Pieces of data, as often as asked."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def count(self) -> int | None:
        """Of pieces, where it is known before."""

    def fingerprint(self) -> str:
        """Equal for equal data; empty where that cannot be known."""

    def __iter__(self) -> Iterator[Piece]: ...


@dataclass(frozen=True)
class Stack:
    """Arrays in memory; their rows lie along the first axis."""

    arrays: Mapping[str, np.ndarray]
    name: str = "data"

    @property
    def count(self) -> int:
        counts = {name: len(array) for name, array in self.arrays.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"'{name}' has {count}" for name, count in counts.items())
            hint = "give each input as many, along a first axis"
            raise UsageError(
                f"inputs have different numbers of samples: {listed}", where=self.name, hint=hint
            )
        return next(iter(counts.values()), 0)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for row in range(self.count):
            yield {name: array[row] for name, array in self.arrays.items()}

    def fingerprint(self) -> str:
        return ""


@dataclass(frozen=True)
class Folder:
    """A sample in each `.npy` file; of several inputs, in the files of one name in a folder for each input."""

    path: Path
    inputs: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def count(self) -> int:
        return len(self._files())

    def __iter__(self) -> Iterator[Piece]:
        for files in self._files():
            if len(files) == 1 and "" in files:
                yield read_array(files[""])
            else:
                yield {name: read_array(file) for name, file in files.items()}

    def fingerprint(self) -> str:
        total = hashlib.sha256()
        for files in self._files():
            for name, file in files.items():
                total.update(f"{name} {file.name} {sha256_of(file)}\n".encode())
        return total.hexdigest()

    def _files(self) -> list[dict[str, Path]]:
        """Of each sample by input; the name is empty where the files lie in the folder itself."""
        plain = sorted(self.path.glob("*.npy"))
        folders = {name: self.path / name for name in self.inputs if (self.path / name).is_dir()}
        if plain and not folders and len(self.inputs) == 1:
            return [{"": file} for file in plain]
        if plain and folders:
            raise UsageError(
                "it holds .npy files beside folders of them", where=self.name, hint="keep one kind"
            )
        missing = [name for name in self.inputs if name not in folders]
        if missing:
            hint = "a folder of .npy files for each input, of its name"
            raise UsageError(f"it has no folder for input '{missing[0]}'", where=self.name, hint=hint)
        files = {name: {f.name: f for f in sorted(folder.glob("*.npy"))} for name, folder in folders.items()}
        everywhere = sorted(set().union(*files.values()))
        for name, found in files.items():
            lacking = [file for file in everywhere if file not in found]
            if lacking:
                what = f"{lacking[0]} is missing, which other inputs have"
                raise UsageError(what, where=str(folders[name]), hint="files of one sample have one name")
        return [{name: found[file] for name, found in files.items()} for file in everywhere]


@dataclass
class Elements:
    """What an iterable gives. An iterator can be read once only."""

    elements: Iterable[Piece]
    name: str = "data"
    is_spent: bool = False

    @property
    def count(self) -> int | None:
        return len(self.elements) if isinstance(self.elements, Sized) else None

    def __iter__(self) -> Iterator[Piece]:
        if self.is_spent:
            what = "it has been read already, and cannot be read again"
            raise UsageError(what, where=self.name, hint=READABLE_AGAIN)
        with blamed(self.name):
            found = iter(self.elements)
            self.is_spent = found is self.elements
            yield from found

    def fingerprint(self) -> str:
        return ""


@dataclass(frozen=True)
class Call:
    """What a function returns: anything that is data itself. It is called anew each time the data is read."""

    function: Callable[[], object]
    shapes: Shapes
    rows: bool
    name: str = "data"

    @property
    def count(self) -> None:
        return None

    def __iter__(self) -> Iterator[Piece]:
        with blamed(self.name):
            returned = self.function()
        if callable(returned) or isinstance(returned, str | Path | None):
            what = f"it returned {type(returned).__name__}, not arrays"
            raise UsageError(
                what, where=self.name, hint="return an array, {name: array}, or an iterable of these"
            )
        yield from source_of(returned, self.shapes, rows=self.rows, name=self.name)

    def fingerprint(self) -> str:
        return ""


def source_of(data: object, shapes: Shapes, *, rows: bool, name: str = "data") -> Source:
    """The source that `data` stands for, of a model with inputs of `shapes`.

    With `rows` the first axis of stored arrays always is that of the samples; else arrays that have the shapes of
    the inputs are one sample. Raises UsageError.
    """
    if isinstance(data, str | Path):
        return _at(str(data), shapes, rows)
    if isinstance(data, np.ndarray):
        if len(shapes) != 1:
            hint = f"give {{name: array}} for {', '.join(shapes)}"
            raise UsageError(f"it is one array, the model has {len(shapes)} inputs", where=name, hint=hint)
        data = {next(iter(shapes)): data}
    if isinstance(data, Mapping):
        arrays = {str(key): array_of(value, f"{name}, array '{key}'") for key, value in data.items()}
        whole = not rows and all(a.shape == shapes.get(n) for n, a in arrays.items())
        if whole or not all(array.ndim for array in arrays.values()):
            return Elements([arrays], name)
        return Stack(arrays, name)
    if callable(data):
        return Call(data, shapes, rows, name if name != "data" else f"function {_title(data)}")
    if (isinstance(data, Iterable) or hasattr(data, "__getitem__")) and not isinstance(data, bytes):
        return Elements(data, name)  # type: ignore[arg-type]
    raise UsageError(f"{type(data).__name__} is no data", where=name, hint=FORMS)


def _at(text: str, shapes: Shapes, rows: bool) -> Source:
    """A file, a folder or a function by its name."""
    path = Path(text)
    if path.is_dir():
        return Folder(path, tuple(shapes))
    if path.exists():
        if is_npz(path):
            return open_npz(path, shapes, rows=rows)
        if len(shapes) != 1:
            hint = f"use a .npz file with arrays {', '.join(shapes)}"
            raise UsageError(f"it is one array, the model has {len(shapes)} inputs", where=text, hint=hint)
        return NpyRows(path)
    file, _, key = text.rpartition(":")
    if file and Path(file).is_file() and is_npz(Path(file)):
        return open_npz(Path(file), shapes, key, rows=rows)
    if is_function_name(text):
        return Call(function_named(text), shapes, rows, text)
    hint = did_you_mean(path.name, _beside(path), FORMS)
    raise UsageError("there is no such file", where=text, hint=hint)


def _beside(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []


def _title(function: Callable[..., object]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)
