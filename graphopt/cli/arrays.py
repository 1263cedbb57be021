"""Arrays from files and into files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from graphopt.errors import UsageError, did_you_mean
from graphopt.runtime.files import written_beside

MAGIC = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")
"""How .npy and .npz files begin; an empty .npz has the last."""


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name; of FILE.npz:ARRAY the one, for a model with a single input of `names`.

    Raises UsageError.
    """
    file = file_of(path)
    loaded = _load(file)
    if isinstance(loaded, np.ndarray):
        raise UsageError(
            "it holds one array without a name", where=str(path), hint="use --input NAME=FILE.npy"
        )
    if file == path:
        return loaded
    key = str(path)[len(str(file)) + 1 :]
    if key not in loaded:
        hint = did_you_mean(key, loaded, f"its arrays: {', '.join(loaded) or 'none'}")
        raise UsageError(f"it has no array '{key}'", where=str(file), hint=hint)
    if len(names) != 1:
        hint = f"give FILE.npz with arrays {', '.join(names)}"
        raise UsageError(f"it is one array, the model has {len(names)} inputs", where=str(path), hint=hint)
    return {names[0]: loaded[key]}


def file_of(path: Path) -> Path:
    """The file of FILE.npz:ARRAY; `path` itself where it is no such text."""
    file, _, _ = str(path).rpartition(":")
    return Path(file) if file and not path.exists() and Path(file).is_file() else path


def read_inputs(pairs: Sequence[str], names: Iterable[str]) -> dict[str, np.ndarray]:
    """`["x=x.npy"]` as arrays by name, of a model with the inputs `names`. Raises UsageError."""
    arrays: dict[str, np.ndarray] = {}
    for pair in pairs:
        name, file = _name_and_file(pair, names)
        if name in arrays:
            raise UsageError(f"'{name}' is given twice", where="--input", hint="give each input once")
        loaded = _load(Path(file))
        if not isinstance(loaded, np.ndarray):
            raise UsageError("it holds several arrays", where=file, hint="use --inputs FILE.npz")
        arrays[name] = loaded
    return arrays


def _name_and_file(pair: str, names: Iterable[str]) -> tuple[str, str]:
    """A name may hold `=` too: the longest that fits is meant."""
    known = sorted(names, key=len, reverse=True)
    name = next((name for name in known if pair.startswith(f"{name}=")), pair.partition("=")[0])
    file = pair[len(name) + 1 :]
    if not name or not file:
        hint = f"write --input {known[0] if known else 'NAME'}=FILE.npy"
        raise UsageError(f"'{pair}' is not NAME=FILE.npy", where="--input", hint=hint)
    if name not in known:
        hint = did_you_mean(name, known, f"its inputs: {', '.join(reversed(known)) or 'none'}")
        raise UsageError(f"the model has no input '{name}'", where="--input", hint=hint)
    return name, file


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a .npz file, whole or not at all. Raises UsageError."""
    with written_beside(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        for name, array in arrays.items():  # np.savez takes names as keywords: `file` would clash
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array)


def _load(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    where = str(path)
    try:
        with path.open("rb") as file:
            begins = file.read(len(MAGIC[0]))
        if not begins.startswith(MAGIC):
            hint = "write it with numpy.save(FILE, array), or numpy.savez(FILE, NAME=array)"
            raise UsageError("it is neither .npy nor .npz", where=where, hint=hint)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot be read: {reason}", where=where, hint="check the path") from None
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise UsageError(
                "it holds Python objects, not numbers",
                where=where,
                hint="save array.astype('float32') or the like",
            ) from None
        raise UsageError(f"it is damaged: {error}", where=where, hint="write it again") from None
