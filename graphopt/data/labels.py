"""Labels: one entry for each sample, along the first axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from graphopt.data.files import is_npz, read_array, reading
from graphopt.data.functions import blamed, function_named, is_function_name
from graphopt.errors import UsageError, did_you_mean


def read_labels(labels: object, data: object = None) -> np.ndarray:
    """The labels that `labels` stands for: an array, or text.

    Text is the name of an array in the .npz file that `data` is, a .npy file, FILE.npz:ARRAY, or `module:function`,
    which returns an array. Raises UsageError.
    """
    if not isinstance(labels, str | Path):
        return _array(labels, "labels")
    text = str(labels)
    file, _, key = text.rpartition(":")
    if Path(text).is_file():
        return _array(_npz(Path(text), "") if is_npz(Path(text)) else read_array(Path(text)), text)
    if file and Path(file).is_file():
        return _array(_npz(Path(file), key), text)
    beside = _file_of(data)
    if beside is not None and not is_function_name(text):
        return _array(_npz(beside, text), f"{beside}:{text}")
    if is_function_name(text):
        with blamed(text):
            return _array(function_named(text)(), text)
    hint = (
        "give the name of an array in the data's .npz file, FILE.npz:ARRAY, a .npy file, or module:function"
    )
    raise UsageError(f"there are no labels '{text}'", hint=hint)


def _array(found: object, where: str) -> np.ndarray:
    try:
        array = np.asarray(found)
    except ValueError as error:  # rows of different lengths
        raise UsageError(f"labels are no array: {error}", where=where) from None
    if not array.ndim or array.dtype.hasobject:
        raise UsageError("labels are no array", where=where, hint="give one entry for each sample")
    return array


def _file_of(data: object) -> Path | None:
    """The .npz file that data come from, where they do."""
    if not isinstance(data, str | Path):
        return None
    for text in (str(data), str(data).rpartition(":")[0]):
        if text and Path(text).is_file() and is_npz(Path(text)):
            return Path(text)
    return None


def _npz(path: Path, key: str) -> np.ndarray:
    with reading(path), np.load(path, allow_pickle=False) as archive:
        known = list(archive.files)
        name = known[0] if not key and len(known) == 1 else key
        if name not in known:
            hint = did_you_mean(key, known, f"its arrays: {', '.join(known) or 'none'}")
            what = f"it has no array '{key}'" if key else "it has several arrays"
            raise UsageError(what, where=str(path), hint=hint)
        return archive[name]
