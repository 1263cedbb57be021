"""Ranges as JSON, to be kept, read and edited by hand.

    {
     "format": "graphopt ranges 1",
     "model": "sha256:...",
     "observer": "min-max",
     "samples": 400,
     "values": {
      "relu1": {"low": 0.0, "high": 6.25},
      "conv2": {"axis": 1, "low": [-1.5, -0.25], "high": [2.0, 0.5]}
     }
    }

Numbers are written so that they read back the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.analysis.ranges import Range, Ranges
from graphopt.errors import UsageError
from graphopt.runtime.files import written_beside

FORMAT = "graphopt ranges 1"
"""What is written, and all that is read."""


def save_ranges(ranges: Ranges, path: str | Path) -> None:
    """Write a file, whole or not at all. Raises UsageError when it cannot be written."""
    with written_beside(Path(path)) as beside:
        beside.write_text(ranges_to_json(ranges), encoding="utf-8")


def load_ranges(path: str | Path) -> Ranges:
    """The ranges in a file. Raises UsageError, naming the value, for what cannot be one."""
    where = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"cannot be read: {reason}", where=where, hint="check the path") from None
    except UnicodeDecodeError:
        raise UsageError("it is no text", where=where, hint="give a file that calibration wrote") from None
    return ranges_from_json(text, where)


def ranges_to_json(ranges: Ranges) -> str:
    head = {
        "format": FORMAT,
        "model": ranges.model,
        "data": ranges.data,
        "observer": ranges.observer,
        "samples": ranges.samples,
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items() if value != ""]
    if ranges.left_out:
        lines.append(f' "left_out": {json.dumps(dict(ranges.left_out))},')
    entries = [f"  {json.dumps(name)}: {json.dumps(_entry(range))}" for name, range in ranges.items()]
    return "\n".join(["{", *lines, ' "values": {', ",\n".join(entries), " }", "}"]) + "\n"


def ranges_from_json(text: str, where: str = "ranges") -> Ranges:
    """The opposite of `ranges_to_json`. Raises UsageError."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"it is no JSON: {error}", where=where, hint="mend it, or calibrate again") from None
    told = data.get("format") if isinstance(data, dict) else None
    if told != FORMAT:
        hint = "give a file that calibration wrote"
        raise UsageError(f"its format is '{told}', not '{FORMAT}'", where=where, hint=hint)
    values = data.get("values")
    if not isinstance(values, dict):
        raise UsageError("it has no 'values'", where=where, hint="calibrate again")
    ranges = {name: _range(entry, f"{where}, value '{name}'") for name, entry in values.items()}
    try:
        kept = str(data.get("observer", "")), int(data.get("samples", 0)), str(data.get("model", ""))
    except (TypeError, ValueError):
        raise UsageError("'samples' is no number", where=where, hint="write 0 when it is not known") from None
    left_out = data.get("left_out", {})
    if not isinstance(left_out, dict):
        raise UsageError("'left_out' is no object", where=where, hint="write names with reasons, or nothing")
    reasons = {name: str(why) for name, why in left_out.items() if name not in ranges}
    return Ranges(ranges, *kept, data=str(data.get("data", "")), left_out=reasons)


def _entry(range: Range) -> dict[str, Any]:
    axis = {} if range.axis is None else {"axis": range.axis}
    return {**axis, "low": range.low.tolist(), "high": range.high.tolist()}


def _range(entry: object, where: str) -> Range:
    hint = 'write {"low": -1.0, "high": 1.0}, or {"axis": 1, "low": [...], "high": [...]}'
    if not isinstance(entry, dict) or set(entry) - {"axis"} != {"low", "high"}:
        raise UsageError("it is no range", where=where, hint=hint)
    low, high = (_numbers(entry[side], side, where, hint) for side in ("low", "high"))
    axis = entry.get("axis")
    if axis is not None and (type(axis) is not int or axis < 0):
        raise UsageError(f"'axis' is {json.dumps(axis)}, not a number from 0 on", where=where, hint=hint)
    if low.shape != high.shape or low.ndim != (axis is not None):
        differ = low.ndim == high.ndim == 1 and low.shape != high.shape
        what = "'low' and 'high' differ in length" if differ else "it is no range"
        raise UsageError(what, where=where, hint=hint)
    above = np.flatnonzero(low > high)
    if above.size:
        which = f" of channel {above[0]}" if axis is not None else ""
        pair = f"{low.reshape(-1)[above[0]]:g} is above {high.reshape(-1)[above[0]]:g}"
        raise UsageError(f"'low'{which} is above 'high': {pair}", where=where, hint="exchange them")
    return Range(low, high, axis)


def _numbers(given: object, side: str, where: str, hint: str) -> np.ndarray:
    items = given if isinstance(given, list) else [given]
    if not items or not all(type(item) in (int, float) for item in items):
        raise UsageError(f"'{side}' is neither a number nor a list of numbers", where=where, hint=hint)
    array = np.array(given, np.float64)
    if not np.isfinite(array).all():
        raise UsageError(f"'{side}' is not finite", where=where, hint="write a number")
    return array
