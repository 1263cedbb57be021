"""Quantising by trial: what a layer costs alone, and the cheapest schemes within a bound on the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphopt.analysis.ranges import Ranges
from graphopt.api import Progress
from graphopt.ir import Graph, Node
from graphopt.metrics import Score
from graphopt.mixed_precision import Assignment, after, cheapest_within, ladder, lowered
from graphopt.passes.quantization.scheme import Scheme
from graphopt.passes.quantize import bounds_of, insert_quantization
from graphopt.passes.rounding.effect import Effect
from graphopt.refinement import Refinement
from graphopt.runnable import Runnable, runnable
from graphopt.sensitivity import Harm, Task, Trials, first_of, noise_share
from graphopt.targets.device import Target

VERIFIED_AT_MOST = 6
"""Quantised models that are compiled to verify an assignment, before all layers stay float."""


@dataclass(frozen=True)
class Quantiser:
    """A float graph, its ranges, and how weights are refined."""

    graph: Graph
    ranges: Ranges
    progress: Progress | None = None
    refinement: Refinement | None = None

    @cached_property
    def bounds(self) -> dict[str, tuple[float, float]]:
        return bounds_of(self.ranges)

    def quantised(self, layers: Mapping[Node, Scheme]) -> Graph:
        """A copy of the graph with `layers`, which are nodes of it, quantised and refined."""
        return self.refined(layers)[0]

    def refined(self, layers: Mapping[Node, Scheme]) -> tuple[Graph, list[Effect]]:
        """The same, and what the refinement did to each layer."""
        if self.progress:
            self.progress("quantising", 0, 1)
        copy = self.graph.clone()
        nodes = {node.name: node for node in copy.nodes}
        chosen = {nodes[n.name]: scheme for n, scheme in layers.items()}
        originals = insert_quantization(copy, chosen, self.bounds, self.ranges.left_out)
        if self.refinement is None:
            return copy, []
        return copy, self.refinement.refine(self.graph, copy, originals, self.progress)


@dataclass(frozen=True)
class Search:
    """Trials of `layers` on the task's data, with `scheme` as the cheapest.

    Tables are no layers to be tried: all of `tables` are quantised with whatever else is.
    """

    quantiser: Quantiser
    task: Task
    scheme: Scheme
    layers: list[Node]
    tables: Assignment
    target: Target | None = None

    def harms(self) -> list[Harm]:
        """What the scheme does to each layer alone."""
        return self._trials.harms(self.scheme, self.task, self.quantiser.progress)

    def noises(self) -> list[Harm]:
        """The same without the task."""
        return self._trials.harms(self.scheme, progress=self.quantiser.progress)

    def within(self, max_loss: float) -> tuple[Assignment, float]:
        """The cheapest assignment that loses no more, and its loss, measured on the quantised model itself."""
        assignment: Assignment = dict.fromkeys(self.layers, self.scheme)
        loss = self.loss(assignment)
        if loss <= max_loss:
            return assignment | self.tables, loss
        target, progress = self.target, self.quantiser.progress
        steps, count = cheapest_within(self._trials, self._is_allowed(max_loss), target, progress)
        for attempt in range(VERIFIED_AT_MOST):
            assignment = after(steps, count, self.layers, self.scheme)
            if not attempt:
                allowed = self._is_allowed(max_loss)
                assignment = lowered(assignment, self._trials, allowed, target, progress)
            loss = self.loss(assignment)
            if loss <= max_loss:
                return assignment | self.tables, loss
            if attempt:
                count = min(count + max(len(steps) >> (VERIFIED_AT_MOST - attempt), 1), len(steps))
        return {}, 0.0

    def _is_allowed(self, max_loss: float) -> Callable[[Assignment], bool]:
        return lambda assignment: self._loss(self._trials.model(assignment)) <= max_loss

    def loss(self, assignment: Assignment) -> float:
        """Of the quantised model."""
        if not assignment:
            return 0.0
        return self._loss(
            runnable(self.quantiser.quantised(assignment | self.tables), self.quantiser.progress)
        )

    def _loss(self, model: Runnable) -> float:
        if self.task.has_metric:
            return self.task.score(model).worse_by(self._reference)
        return math.sqrt(noise_share(self._answers(self._float), self._answers(model)))

    def _answers(self, model: Runnable) -> list[list[np.ndarray]]:
        return [list(model.run(sample).values()) for sample in self._samples]

    @cached_property
    def _float(self) -> Runnable:
        return runnable(self.quantiser.graph, self.quantiser.progress)

    @cached_property
    def _reference(self) -> Score:
        return self.task.score(self._float)

    @cached_property
    def _samples(self) -> list[dict[str, np.ndarray]]:
        return first_of(iter(self.task.samples(self.quantiser.graph)))

    @cached_property
    def _trials(self) -> Trials:
        return Trials(
            self.quantiser.graph,
            self.layers,
            ladder(self.scheme),
            self.quantiser.bounds,
            self._samples,
            progress=self.quantiser.progress,
        )
