"""The search and the advice, on costs that are written down instead of measured."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from graphopt.targets.schedules.templates import Choice
from graphopt.targets.tuning.advice import distance, fitted, nearest
from graphopt.tuning.evolution import Evolution, neighbours
from tests.tuning.records import record


class Tiles:
    """A template with a space to search and nothing to build."""

    name = "tiles"

    def __init__(self, width: int = 16) -> None:
        self.width = width

    def decisions(self) -> Mapping[str, Sequence[int]]:
        return {
            "columns": range(1, self.width + 1),
            "vectors": range(1, 9),
            "hold": (0, 1),
            "parts": (1, 2, 4),
        }

    def start(self) -> Choice:
        return Choice(self, {"columns": 1, "vectors": 1, "hold": 0, "parts": 1})  # type: ignore[arg-type]


def cost(choice: Choice) -> float:
    """A valley that bends, with a cliff behind it: tiles of more than 30 sums spill."""
    d = choice.decision
    sums = d["columns"] * d["vectors"] * d["parts"]
    return (
        1 / min(sums, 30)
        + 0.01 * abs(d["columns"] - 2 * d["vectors"])
        + 0.1 * (sums > 30)
        + 0.02 * (1 - d["hold"])
    )


def searched(trials: int, seed: int) -> float:
    template = Tiles()
    search = Evolution([template], [template.start()], random.Random(seed))  # type: ignore[list-item]
    best = math.inf
    while trials > 0:
        for choice in search.propose(min(8, trials)):
            best = min(best, cost(choice))
            search.tell(choice, cost(choice))
            trials -= 1
    return best


def test_sixty_four_trials_find_nearly_the_best_of_768() -> None:
    template = Tiles()
    space = [
        Choice(template, {"columns": c, "vectors": v, "hold": h, "parts": p})  # type: ignore[arg-type]
        for c in range(1, 17)
        for v in range(1, 9)
        for h in (0, 1)
        for p in (1, 2, 4)
    ]
    optimum = min(map(cost, space))
    by_chance = [min(cost(c) for c in random.Random(seed).sample(space, 64)) for seed in range(20)]
    found = [searched(64, seed) for seed in range(20)]
    assert sorted(found)[10] <= optimum / 0.94
    assert sum(found) < 0.85 * sum(by_chance)


def test_nothing_is_proposed_twice_and_a_small_space_ends() -> None:
    template = Tiles(width=1)
    search = Evolution([template], [template.start()], random.Random(0))  # type: ignore[list-item]
    seen: list[str] = []
    while batch := search.propose(8):
        seen += map(str, batch)
        for choice in batch:
            search.tell(choice, cost(choice))
    assert len(seen) == len(set(seen)) == 8 * 2 * 3


def test_the_first_proposal_is_the_default_and_what_was_told_is_known() -> None:
    template = Tiles()
    search = Evolution([template], [template.start()], random.Random(0))  # type: ignore[list-item]
    assert search.propose(1) == [template.start()]
    again = Evolution([template], [template.start()], random.Random(0))  # type: ignore[list-item]
    again.tell(template.start(), 1.0)
    assert template.start() not in again.propose(20)


def test_neighbours_are_one_step_away() -> None:
    assert len(list(neighbours(Tiles().start()))) == 4
    choice = Choice(Tiles(), {"columns": 5, "vectors": 8, "hold": 1, "parts": 2})  # type: ignore[arg-type]
    found = {tuple(n.decision.values()) for n in neighbours(choice)}
    assert found == {(4, 8, 1, 2), (6, 8, 1, 2), (5, 7, 1, 2), (5, 8, 0, 2), (5, 8, 1, 1), (5, 8, 1, 4)}


def test_a_decision_of_another_shape_is_brought_into_the_space() -> None:
    assert fitted(Tiles(width=4), {"columns": 9, "vectors": 2, "hold": 1, "parts": 3}) == {  # type: ignore[arg-type]
        "columns": 4,
        "vectors": 2,
        "hold": 1,
        "parts": 2,
    }
    assert fitted(Tiles(), {"columns": 9}) is None  # type: ignore[arg-type]


def test_near_shapes_come_nearest_first_and_far_ones_not_at_all() -> None:
    mine = record(dims=(16, 16)).workload
    twice, same, far = record(dims=(32, 16)), record(dims=(16, 16), key="b" * 8), record(dims=(512, 16))
    assert nearest(mine, [twice, far, same]) == [same, twice]
    assert distance(mine, twice.workload) == 1
    assert distance(mine, record(dims=(16, 16, 1)).workload) == math.inf
