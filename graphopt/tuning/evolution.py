"""Evolutionary search over decisions: from the default and its neighbours on, by mutation and crossover.

Candidates are proposed in batches. None is proposed twice, and none that was measured before. Source: Real et al.,
"Regularized evolution for image classifier architecture search", 2019, without ageing: a measurement stays true.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

from graphopt.targets.schedules.templates import Choice, Decision, Template
from graphopt.targets.tuning.advice import is_valid

PARENTS = 3
"""The best so far, from which others descend."""

FRESH = 0.15
"""The share of candidates that descend from nothing."""

TRIES = 200
"""Candidates in a row that are known already, after which the space counts as searched."""


ANYTHING = 0.3
"""The share of changes that are no small steps."""

Settings = tuple[str, tuple[tuple[str, int], ...]]


class Evolution:
    """Proposes candidates for one task."""

    def __init__(
        self, templates: Sequence[Template], seeds: Iterable[Choice], generator: random.Random
    ) -> None:
        self._templates = templates
        self._random = generator
        self._seen: set[Settings] = set()
        self._seeds = [seed for seed in seeds if is_valid(seed.template, seed.decision)]
        self._costs: list[tuple[float, Choice]] = []

    def tell(self, choice: Choice, cost: float) -> None:
        """What came of a candidate; an infinite cost if nothing did."""
        self._seen.add(settings_of(choice))
        self._costs.append((cost, choice))
        self._costs.sort(key=lambda pair: pair[0])

    def propose(self, count: int) -> list[Choice]:
        """At most `count` new candidates; none when everything seems to be known."""
        found: list[Choice] = []
        for choice in self._candidates():
            if len(found) == count:
                break
            if settings_of(choice) not in self._seen:
                self._seen.add(settings_of(choice))
                found.append(choice)
        return found

    def _candidates(self) -> Iterator[Choice]:
        yield from self._seeds
        parents = [choice for cost, choice in self._costs[:PARENTS] if cost < float("inf")]
        if parents:
            yield from self._shuffled(list(neighbours(parents[0])))
        parents = parents or self._seeds
        for _ in range(TRIES):
            if not parents or self._random.random() < FRESH:
                yield self._any(self._random.choice(self._templates))
            else:
                yield self._child(parents)
        yield from self._rest()

    def _rest(self) -> Iterator[Choice]:
        """Everything, for what chance has missed, where that is little."""
        for template in self._templates:
            space = template.decisions()
            whole: list[Decision] = [{}]
            for name, choices in space.items():
                whole = [{**part, name: choice} for part in whole for choice in choices]
                if len(whole) > TRIES * TRIES:
                    return
            yield from self._shuffled([Choice(template, decision) for decision in whole])

    def _shuffled(self, choices: list[Choice]) -> list[Choice]:
        self._random.shuffle(choices)
        return choices

    def _any(self, template: Template) -> Choice:
        space = template.decisions()
        return Choice(template, {name: self._random.choice(choices) for name, choices in space.items()})

    def _child(self, parents: Sequence[Choice]) -> Choice:
        """A parent crossed with another of its template, or with a decision or two changed."""
        parent = self._random.choice(parents)
        space = parent.template.decisions()
        decision = dict(parent.decision)
        others = [p for p in parents if p.template.name == parent.template.name and p is not parent]
        if others and self._random.random() < 0.5:
            other = self._random.choice(others)
            decision = {name: self._random.choice((decision[name], other.decision[name])) for name in space}
        for _ in range(self._random.choice((1, 1, 2))):
            free = [name for name, choices in space.items() if len(choices) > 1]
            if free:
                name = self._random.choice(free)
                decision[name] = self._changed(decision[name], space[name])
        return Choice(parent.template, decision)

    def _changed(self, value: int, choices: Sequence[int]) -> int:
        """A step or two away, or anything."""
        if self._random.random() < ANYTHING:
            return self._random.choice(choices)
        place = list(choices).index(value) + self._random.choice((-2, -1, 1, 2))
        return choices[min(max(place, 0), len(choices) - 1)]


def settings_of(choice: Choice) -> Settings:
    """The template and its decision, to look up."""
    return choice.template.name, tuple(sorted(choice.decision.items()))


def neighbours(choice: Choice) -> Iterator[Choice]:
    """All that differ by one step in one decision."""
    for name, choices in choice.template.decisions().items():
        place = list(choices).index(choice.decision[name])
        for other in (place - 1, place + 1):
            if 0 <= other < len(choices):
                yield Choice(choice.template, {**choice.decision, name: choices[other]})
