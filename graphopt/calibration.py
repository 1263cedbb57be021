"""Calibration: the range of every value, seen on samples.

The float model runs compiled, sample by sample, and observers look at its inner values (`graphopt.taps`,
`graphopt.runtime.observers`). Memory holds the values of one sample and what observers keep, however many samples
there are.

    graph = graphopt.optimize(graphopt.load("model.onnx"), passes.QUANTIZABLE)
    ranges = calibrate(graph, "calibration.npz")
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from graphopt.analysis.channels import channel_axes
from graphopt.analysis.liveness import fixed_values
from graphopt.analysis.ranges import Ranges, model_digest
from graphopt.analysis.ranges_file import load_ranges, save_ranges
from graphopt.api import Progress
from graphopt.data import Samples, open_samples
from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import DType, Graph, Value
from graphopt.runtime.observers import Constant, MinMax, Observer, Watch, observer_named
from graphopt.taps import tapped

FLOATS = (DType.float32, DType.float16, DType.bfloat16, DType.float64)

IMAGE = 4
"""Axes of an image: of an input that is one, each channel must vary."""

LISTED_AT_MOST = 3
"""Constant tensors in one error line."""

Axes = Mapping[str, int | None]
"""Value name -> the axis of its channels; None: one range for the whole tensor."""


def calibrate(
    graph: Graph,
    data: object,
    *,
    observer: str | Observer = "min-max",
    per_channel: bool | Mapping[str, int] = False,
    values: Iterable[str] | None = None,
    allow_constant: bool = False,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Ranges:
    """The ranges of `values` of `graph` on `data` (see `graphopt.data.open_samples`).

    Without `values` every float that depends on an input. `per_channel` asks for a range of each channel wherever a
    value has them (`graphopt.analysis.channels`), or of those values alone that it names, along its axis.

    A tensor that has one number throughout all samples has no range, unless `allow_constant`: it would clip whatever
    else comes. Nor has one that is infinite, such as a mask. Of inputs, images' channels, and `values` that were asked
    for, that is an error; others are left out, with the reason (`Ranges.left_out`).

    `cache` names a file: ranges in it are taken where they are of the same graph, observer and data files, else they
    are written to it. Raises UsageError, naming the tensor, also for data that do not fit the model, for NaN, and when
    there is no sample. Nothing is written then.
    """
    samples = open_samples(data, graph)
    observing = observer_named(observer)
    axes = _axes(graph, _chosen(graph, values), per_channel)
    head = Ranges({}, str(observing), 0, model_digest(graph), samples.fingerprint())
    kept = _cached(cache, head, axes)
    if kept is not None:
        return kept
    inputs = {value.name for value in graph.inputs}
    optional = axes.keys() - inputs if values is None else frozenset[str]()
    watch, images = Watch(observing, axes, optional), Watch(MinMax(), _image_axes(graph, axes))
    count = _run(graph, list(axes), samples, [watch, images], progress)
    left_out = _left_out(watch, images, optional, allow_constant, samples.name)
    found = {name: range for name, range in watch.ranges().items() if name not in left_out}
    ranges = replace(head, by_name=found, samples=count, left_out=left_out)
    if cache is not None:
        save_ranges(ranges, cache)
    return ranges


def _run(
    graph: Graph, values: list[str], samples: Samples, watches: list[Watch], progress: Progress | None
) -> int:
    """Show every sample to the watches; returns how many there are. Nothing is compiled for bad data."""
    given = iter(samples)
    first = next(given)
    model = tapped(graph, values, progress=progress)
    total = (samples.count or 0) if progress else 0
    count = 0
    for count, sample in enumerate(itertools.chain([first], given), 1):
        if progress:
            progress("calibrating", count - 1, max(total, count))
        for arrays in model.parts(sample):
            for watch in watches:
                watch.look(arrays, f"{samples.name}, sample {count - 1}")
    return count


def _left_out(
    watch: Watch, images: Watch, optional: Collection[str], allow_constant: bool, where: str
) -> dict[str, str]:
    """The values without a range, and why. Raises UsageError where that may not be."""
    left_out = {name: f"it is infinite in {place}" for name, place in watch.infinite.items()}
    if allow_constant:
        return left_out
    constants = watch.constants()
    wrong = [constant for constant in constants if constant.name not in optional]
    _refuse_constants([*wrong, *images.constants(channels=True)], where)
    return {**left_out, **{c.name: f"it is {c.number:g} in all samples" for c in constants}}


def _refuse_constants(found: list[Constant], where: str) -> None:
    """Raise UsageError naming what had one number throughout."""
    distinct = list(dict.fromkeys(found))
    if not distinct:
        return
    more = f", and {len(distinct) - LISTED_AT_MOST} more" if len(distinct) > LISTED_AT_MOST else ""
    what = f"{', '.join(map(str, distinct[:LISTED_AT_MOST]))} in all samples{more}, so its range has no width"
    hint = (
        "give samples in which it varies; if it never does, --allow-constant or allow_constant=True takes it"
    )
    raise UsageError(what, where=where, hint=hint)


def _chosen(graph: Graph, values: Iterable[str] | None) -> list[Value]:
    if values is None:
        fixed = fixed_values(graph)
        return [v for v in graph.values() if v not in fixed and v.is_static and v.dtype in FLOATS]
    known = {value.name: value for value in graph.values()}
    chosen = []
    for name in dict.fromkeys(values):
        if name not in known:
            hint = did_you_mean(name, known, "names are those of the graph that is calibrated")
            raise UsageError(f"the graph has no value '{name}'", hint=hint)
        if known[name].dtype not in FLOATS:
            what = f"it is {known[name].dtype}; only floats have ranges"
            raise UsageError(what, where=f"value '{name}'", hint="leave it out")
        chosen.append(known[name])
    return chosen


def _axes(graph: Graph, chosen: list[Value], per_channel: bool | Mapping[str, int]) -> Axes:
    if isinstance(per_channel, Mapping):
        names = [value.name for value in chosen]
        for name in per_channel:
            if name not in names:
                hint = did_you_mean(name, names, "per_channel names values that are calibrated")
                raise UsageError(f"'{name}' is not calibrated", where="per_channel", hint=hint)
        return {name: per_channel.get(name) for name in names}
    channels = channel_axes(graph) if per_channel else {}
    return {value.name: channels.get(value) for value in chosen}


def _image_axes(graph: Graph, axes: Axes) -> Axes:
    """Of inputs that are images with several channels."""
    channels = channel_axes(graph)
    images = [v for v in graph.inputs if v.name in axes and v.rank == IMAGE and v in channels]
    return {v.name: channels[v] for v in images if v.static_shape[channels[v]] > 1}


def _cached(cache: str | Path | None, head: Ranges, axes: Axes) -> Ranges | None:
    """The ranges in the file, where they are what would be found again."""
    if cache is None or not head.data or not Path(cache).exists():
        return None
    kept = load_ranges(cache)
    same = all(getattr(kept, key) == getattr(head, key) for key in ("model", "observer", "data"))
    return (
        kept
        if same and all(name in kept and kept[name].axis == axis for name, axis in axes.items())
        else None
    )
