"""Structured pruning: from a model and samples to an ordinary smaller one.

    result = graphopt.prune("model.onnx", "samples.npz:images", macs=0.5)
    write_model(result.graph, "model.small.onnx")

Channels that have to go together are found (`graphopt.analysis.groups`), ranked, and taken out until the model costs
what is wanted. Then each layer is fitted anew to what the whole model returned (`graphopt.passes.pruning.refit`).
Neither labels nor training code are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis.groups.find import Group, channel_groups
from graphopt.api import Progress, load, optimize
from graphopt.block_pruning import Removed, chosen_blocks, without_blocks
from graphopt.compression import Change, change, samples_of
from graphopt.errors import UsageError, did_you_mean
from graphopt.evaluate import Judge
from graphopt.ir import Graph
from graphopt.passes import PRUNABLE
from graphopt.passes.prune_channels import BY_WEIGHTS, check_kinds, check_multiple, one_aim, prunable, removed
from graphopt.passes.pruning.choose import without
from graphopt.passes.pruning.importance import Ranking, by_weights
from graphopt.passes.pruning.kept import Kept
from graphopt.passes.pruning.observed import by_activation, by_reconstruction, observe
from graphopt.passes.pruning.refit import Fit, refit
from graphopt.passes.pruning.shrink import removed_indices
from graphopt.quality import labels_of
from graphopt.quantization import refuse_quantised
from graphopt.runtime.stacked import Environment
from graphopt.sensitivity import Task
from graphopt.targets.device import Target, load_target

if TYPE_CHECKING:
    import onnx

BY_SAMPLES = ("activation", "reconstruction")
IMPORTANCE = (*BY_WEIGHTS, *BY_SAMPLES)

RECOVERY = ("refit", "bias", "none")

SAMPLES = 512
"""Looked at, at most."""

FLOATS = 32
"""Bits of an element of a vector."""


@dataclass(frozen=True)
class Width:
    """A group's channels before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class PruneResult:
    """The smaller graph, what each group lost, and what that changed.

    `fits` tell what fitting did to each layer, `blocks` which went, where whole ones were asked for. `notes` are what
    to know of it.
    """

    graph: Graph
    widths: tuple[Width, ...]
    change: Change
    importance: str
    fits: tuple[Fit, ...] = ()
    blocks: tuple[Removed, ...] = ()
    notes: tuple[str, ...] = ()


def prune(
    model: Graph | str | Path | bytes | onnx.ModelProto,
    data: object = None,
    *,
    ratio: float | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    size: float | None = None,
    importance: str | None = None,
    recovery: str = "refit",
    multiple: int | None = None,
    exclude: Sequence[str] = (),
    coupled: bool = False,
    only: Sequence[str] = (),
    blocks: bool = False,
    labels: object = None,
    metric: str | None = None,
    evaluate: Judge | str | None = None,
    preprocess: str | None = None,
    limit: int | None = None,
    measure: bool = False,
    target: str | Path | Target | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    progress: Progress | None = None,
) -> PruneResult:
    """Take channels out of `model` and make up for them.

    One aim is given: `macs`, `parameters` or `size` (bytes of weights) as the share that is to be left, or the `ratio`
    of each group that goes. `data` may have any form that `graphopt.data.open_samples` takes. `importance` is
    "reconstruction" unless there are no data, then "l2". `recovery` is "refit" (weights and biases), "bias" or "none".
    Widths become multiples of `multiple`, the target's vectors unless given. Channels of nodes that `exclude` names
    stay, `*` standing for any letters. With `coupled`, widths that normalisations run along may shrink too. `only`
    names kinds of groups: "heads" of attention, "inner" widths between dense layers, "channels" of any other.
    With `blocks`, whole residual blocks go instead of channels, those whose absence changes outputs least on `data`; a
    `ratio` is then the share of blocks that goes.

    With `measure`, or labels or anything to judge by, the result runs beside the whole model (`graphopt.compression`).

    Raises UsageError for shares that are none, data that do not fit, and where nothing can be pruned.
    """
    given = {"ratio": ratio, "macs": macs, "parameters": parameters, "size": size}
    aim, share = one_aim({name: value for name, value in given.items() if value is not None})
    task = Task(data, labels, metric or Task.metric, evaluate, preprocess, limit)
    criterion = importance or ("reconstruction" if data is not None else "l2")
    check_kinds(only)
    _check(criterion, recovery, task, data, measure)
    if blocks:
        _check_blocks(data, importance, multiple, coupled, only)
    machine = target if isinstance(target, Target) else load_target(str(target or "host"))
    lanes = max(machine.vector_bits // FLOATS, 1) if multiple is None else multiple
    check_multiple(lanes)
    original = model if isinstance(model, Graph) else load(model, input_shapes=input_shapes)
    refuse_quantised(original)
    if task.labels is not None:
        labels_of(task, task.samples(original))
    if progress:
        progress("finding groups", 0, 1)
    graph = optimize(original, _pipeline(criterion))
    groups = [] if blocks else prunable(channel_groups(graph), exclude, coupled, only)
    stacks, count = samples_of(graph, task, SAMPLES) if data is not None else ({}, 0)
    widths: list[Width] = []
    gone: list[Removed] = []
    if blocks:
        chosen, gone = chosen_blocks(graph, stacks, aim, share, exclude, progress)
        narrow, fits = without_blocks(graph, chosen, stacks, recovery, progress)
    else:
        if progress:
            progress("ranking channels", 0, 1)
        removal = removed(graph, _rankings(graph, groups, criterion, stacks), aim, share, lanes)
        narrow, fits = _narrowed(graph, removal, stacks, recovery, progress)
        widths = [Width(g.name, g.size, g.size - len(units)) for g, units in removal.items()]
    fitted = count if fits or blocks or criterion in BY_SAMPLES else 0
    is_measured = measure or task.has_metric
    changed = change(graph, narrow, task, fitted, machine, measure=is_measured, progress=progress)
    notes = _notes(fits, widths)
    return PruneResult(narrow, tuple(widths), changed, criterion, tuple(fits), tuple(gone), tuple(notes))


def _narrowed(
    graph: Graph,
    removal: Mapping[Group, np.ndarray],
    stacks: Environment,
    recovery: str,
    progress: Progress | None,
) -> tuple[Graph, list[Fit]]:
    """A copy without units, fitted to samples where there are any."""
    narrow = without(graph, removal)
    if not stacks or recovery == "none":
        return narrow, []
    kept = Kept(removed_indices(removal))
    return narrow, refit(narrow, graph, kept, stacks, weights=recovery == "refit", progress=progress)


def _pipeline(criterion: str) -> str:
    """BatchNormalization stays where its scales are looked at."""
    return PRUNABLE.replace("fold-batchnorm,", "") if criterion == "batchnorm" else PRUNABLE


def _check(criterion: str, recovery: str, task: Task, data: object, measure: bool) -> None:
    """Raises UsageError, before any work."""
    for given, known, where in ((criterion, IMPORTANCE, "importance"), (recovery, RECOVERY, "recovery")):
        if given not in known:
            hint = did_you_mean(given, known, f"one of {', '.join(known)}")
            raise UsageError(f"there is no {where} '{given}'", where=where, hint=hint)
    if data is None and (criterion in BY_SAMPLES or measure or task.has_metric):
        what = (
            f"importance '{criterion}' looks at samples"
            if criterion in BY_SAMPLES
            else "nothing to measure on"
        )
        raise UsageError(f"{what}, and there are none", where="data", hint="give --data, or data")
    task.check()


def _check_blocks(
    data: object, importance: str | None, multiple: int | None, coupled: bool, only: Sequence[str]
) -> None:
    """Raises UsageError for options of channels."""
    given = {"importance": importance, "multiple": multiple, "coupled": coupled, "only": only}
    for name, value in given.items():
        if value:
            hint = "leave out one of the two"
            raise UsageError("it is about channels, and whole blocks are to go", where=name, hint=hint)
    if data is None:
        told = "what a block is worth is measured on samples, and there are none"
        raise UsageError(told, where="data", hint="give --data, or data")


def _rankings(graph: Graph, groups: Sequence[Group], criterion: str, stacks: Environment) -> list[Ranking]:
    if criterion in BY_WEIGHTS:
        return by_weights(groups, criterion)
    observed = observe(graph, dict(stacks), groups)
    return (by_activation if criterion == "activation" else by_reconstruction)(groups, observed)


def _notes(fits: Sequence[Fit], widths: Sequence[Width]) -> list[str]:
    notes = [
        f"layer '{fit.layer}' has more weights for an output than samples: they are held to what they were"
        for fit in fits
        if fit.few
    ]
    if widths and all(width.before == width.after for width in widths):
        notes.append("no width changed: the next that kernels like is too far; give a smaller --multiple")
    return notes
