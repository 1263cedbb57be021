"""Choosing decisions by a tuning database while a model is compiled: exact hits, else near shapes, else defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphopt.ir import Graph
from graphopt.targets.device import Target
from graphopt.targets.schedules.templates import Choice, Decision, Template, fitting_templates
from graphopt.targets.tuning.database import Contents
from graphopt.targets.tuning.record import Record, Workload, fingerprint

EXACT, NEAREST, DEFAULT = ORIGINS = "exact", "nearest", "default"

NOISE = 0.98
"""A decision replaces the default where it takes at most this share of its time."""

FARTHEST = 2.0
"""Of shapes that one may learn from: the sum of all dimensions' ratios, in powers of two."""


def distance(one: Workload, other: Workload) -> float:
    """Between shapes of one family, the sum of |log2| of their dimensions' ratios; infinite for other families."""
    if one.family != other.family or len(one.dims) != len(other.dims):
        return math.inf
    return sum(abs(math.log2(max(a, 1) / max(b, 1))) for a, b in zip(one.dims, other.dims, strict=True))


def is_valid(template: Template, decision: Decision) -> bool:
    """Whether the decision is one of the template's space."""
    space = template.decisions()
    return space.keys() == decision.keys() and all(decision[name] in space[name] for name in space)


def fitted(template: Template, decision: Decision) -> Decision | None:
    """A decision for another shape, each of its values brought to the nearest choice; None for other decisions."""
    space = template.decisions()
    if space.keys() != decision.keys():
        return None
    return {name: min(choices, key=lambda c: abs(c - decision[name])) for name, choices in space.items()}


@dataclass
class Advice:
    """What a database says of a target; `origins` tells afterwards where each workload's decision came from."""

    contents: Contents
    target: Target
    winograd: bool = True
    half: bool = False
    origins: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        defaults = self.contents.defaults()
        machine = fingerprint(self.target)
        self._better: dict[str, list[Record]] = {}
        self._known: list[Record] = []
        for place, record in self.contents.best().items():
            if record.target != machine:
                continue
            margin = NOISE if record.unit == "s" else 1.0
            default = defaults.get(place)
            if default is None:  # it was not measured, or failed here: nothing is known to be better
                continue
            wins = record.cost < margin * default.cost
            chosen = record if wins else default
            self._better.setdefault(record.workload.key, []).append(chosen)
            if wins:
                self._known.append(chosen)

    def choose(
        self, body: Graph, constants: Mapping[int, np.ndarray], target: Target, default: Choice
    ) -> Choice:
        """The choice for a group; `target` is the machine as its templates see it."""
        workload = Workload.of(body)
        templates = fitting_templates(body, constants, target, winograd=self.winograd, half=self.half)
        found = self._exact(workload, templates)
        origin = EXACT
        if found is None:
            found, origin = self._nearest(workload, templates), NEAREST
        if found is None:
            found, origin = default, DEFAULT
        self.origins[workload.key] = origin
        return found

    def summary(self) -> dict[str, int]:
        """How many workloads had their decision from where."""
        return {origin: list(self.origins.values()).count(origin) for origin in ORIGINS}

    def _exact(self, workload: Workload, templates: Sequence[Template]) -> Choice | None:
        """Of several runners a time is worth more than a count."""
        for record in sorted(self._better.get(workload.key, []), key=lambda r: (r.unit != "s", r.runner)):
            for template in templates:
                if template.name == record.template and is_valid(template, record.decision):
                    return Choice(template, {name: record.decision[name] for name in template.decisions()})
        return None

    def _nearest(self, workload: Workload, templates: Sequence[Template]) -> Choice | None:
        for record in nearest(workload, self._known):
            for template in templates:
                if template.name == record.template:
                    decision = fitted(template, record.decision)
                    if decision is not None:
                        return Choice(template, decision)
        return None


def nearest(workload: Workload, records: Sequence[Record]) -> list[Record]:
    """Those of shapes that are near enough, the nearest first."""
    near = [(distance(workload, record.workload), record) for record in records]
    return [record for far, record in sorted(near, key=lambda pair: pair[0]) if far <= FARTHEST]
