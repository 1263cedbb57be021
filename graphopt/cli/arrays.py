"""Arrays from files and into files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graphopt.cli.files import written_beside
from graphopt.errors import UsageError


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name. Raises UsageError."""
    loaded = _load(path)
    if isinstance(loaded, np.ndarray):
        raise UsageError(
            "it holds one array without a name", where=str(path), hint="use --input NAME=FILE.npy"
        )
    return loaded


def read_inputs(pairs: Sequence[str]) -> dict[str, np.ndarray]:
    """`["x=x.npy"]` as arrays by name. Raises UsageError."""
    arrays = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        while equals and not Path(file).exists() and "=" in file:  # a name may hold `=` too
            more, _, file = file.partition("=")
            name = f"{name}={more}"
        if not equals or not name or not file:
            raise UsageError(f"'{pair}' is not NAME=FILE.npy", where="--input")
        loaded = _load(Path(file))
        if not isinstance(loaded, np.ndarray):
            raise UsageError("it holds several arrays", where=file, hint="use --inputs FILE.npz")
        arrays[name] = loaded
    return arrays


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a .npz file, whole or not at all. Raises UsageError."""
    with written_beside(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        for name, array in arrays.items():  # np.savez takes names as keywords: `file` would clash
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array)


def _load(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        if error.strerror is None:  # numpy's word for a file of unknown kind
            raise UsageError("it is neither .npy nor .npz", where=str(path)) from None
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"it is not a file of arrays: {error}", where=str(path)) from None
