"""What making a model smaller changed: sizes, quality and speed, before and after."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphopt.analysis.cost import Cost, cost_of_graph
from graphopt.api import Progress, exported
from graphopt.errors import UsageError
from graphopt.integer_speed import least_seconds
from graphopt.ir import Graph
from graphopt.quality import Quality, measure_quality
from graphopt.refinement import samples_for
from graphopt.runnable import runnable
from graphopt.runtime.stacked import Environment, stacks_of
from graphopt.sensitivity import Task, first_of
from graphopt.targets.device import Target

SECONDS = 0.3
"""How long each of two models is timed."""


@dataclass(frozen=True)
class Size:
    """Of one model; `file_bytes` are those of its ONNX file."""

    cost: Cost
    file_bytes: int

    @staticmethod
    def of(graph: Graph) -> Size:
        return Size(cost_of_graph(graph), len(exported(graph) or b""))


@dataclass(frozen=True)
class Change:
    """The model before and after. `quality` and `seconds` (least of a run, one thread) are there when measured."""

    before: Size
    after: Size
    quality: Quality | None = None
    seconds: tuple[float, float] | None = None


def change(
    before: Graph,
    after: Graph,
    task: Task,
    fitted: int,
    target: Target | None,
    *,
    measure: bool,
    progress: Progress | None = None,
) -> Change:
    """Both models weighed and, with `measure`, run: on samples of `task`, behind the first `fitted` if there are more.

    Of an emulated target no time is told. Raises UsageError where labels or metric do not fit.
    """
    sizes = Size.of(before), Size.of(after)
    if not measure:
        return Change(*sizes)
    is_native = target is None or target.is_native
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        first, second = (
            runnable(model, progress, folder=Path(folder, name), target=target if is_native else None)
            for name, model in (("before", before), ("after", after))
        )
        quality = measure_quality((first, second), task, fitted, progress)
        if not is_native:
            return Change(*sizes, quality)
        sample = next(iter(task.samples(first.inputs)))
        a, b = least_seconds((first, second), sample, 1, SECONDS, progress)
    return Change(*sizes, quality, None if a is None or b is None else (a, b))


def samples_of(graph: Graph, task: Task, most: int) -> tuple[Environment, int]:
    """Stacks of the first samples of a task, as many as memory and time allow, and how many. Raises UsageError."""
    taken: list[Mapping[str, np.ndarray]] = list(
        first_of(iter(task.samples(graph)), samples_for(graph, most))
    )
    if not taken:
        raise UsageError("there is no sample", where="data", hint="give at least a hundred")
    return stacks_of(graph, taken), len(taken)
