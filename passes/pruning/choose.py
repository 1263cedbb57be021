"""How many channels of each group go, so that a model costs what is wanted and loses least.

Removing k units of a group loses `costs[k]` and saves k times what one of them saves. For a price of a saving each
group takes the k with the best balance, among widths that kernels like; the price is raised until the whole model, with
the units taken out, is as cheap as it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphopt.analysis.cost import cost_of_graph
from graphopt.analysis.groups.find import Group
from graphopt.analysis.groups.links import Dimension
from graphopt.errors import UsageError
from graphopt.ir import Graph, Node, Use, Value
from graphopt.passes.pruning.importance import Ranking
from graphopt.passes.pruning.shrink import shrink

ROUNDS = 40

LEAST = 0.1
"""Share of a group's width that stays in any case."""

FINEST = 4
"""A group narrower than so many multiples is rounded to fewer channels."""

Measure = Callable[[Graph], float]
"""What of a graph is to become less."""


@dataclass(frozen=True)
class Aim:
    """At most `share` of what `of` tells of the whole model; `name` is what it is called."""

    name: str
    share: float

    def of(self, graph: Graph) -> float:
        cost = cost_of_graph(graph)
        told = {"macs": cost.macs, "parameters": cost.parameters, "size": cost.weight_bytes}[self.name]
        if told is None:
            hint = "fix the shapes with --input-shape"
            raise UsageError("its MACs are not known while a shape is open", where="macs", hint=hint)
        return float(told)


def choose(graph: Graph, rankings: Sequence[Ranking], aim: Aim, multiple: int) -> dict[Group, np.ndarray]:
    """The units of each group that go. Raises UsageError where even the narrowest model is not cheap enough."""
    whole = aim.of(graph)
    groups = [ranking.group for ranking in rankings]
    savings = [max(whole - aim.of(without(graph, {group: np.array([0])})), 1.0) for group in groups]
    options = [widths(ranking.group, multiple) for ranking in rankings]

    def at(price: float) -> dict[Group, np.ndarray]:
        return {
            ranking.group: _best(ranking, allowed, saving, price)
            for ranking, allowed, saving in zip(rankings, options, savings, strict=True)
        }

    def cost(price: float) -> float:
        return aim.of(without(graph, at(price)))

    wanted = aim.share * whole
    low, high = 0.0, 1e-12
    while cost(high) > wanted:
        low, high = high, high * 8
        if high > 1e12:
            least = cost(high) / whole
            raise UsageError(
                f"{aim.share:.0%} of its {aim.name} cannot be reached: {least:.0%} are left at least",
                where=aim.name,
                hint=f"ask for {np.ceil(100 * least):.0f}% or more, or exclude less",
            )
    for _ in range(ROUNDS):
        middle = np.sqrt(low * high) if low else high / 8
        if cost(middle) > wanted:
            low = middle
        else:
            high = middle
        if low and high / low < 1.001:
            break
    return at(high)


def by_ratio(rankings: Sequence[Ranking], ratio: float, multiple: int) -> dict[Group, np.ndarray]:
    """The same share of every group goes, as near as widths allow."""
    chosen = {}
    for ranking in rankings:
        kept = (1 - ratio) * ranking.group.size
        width = min(widths(ranking.group, multiple), key=lambda allowed: (abs(allowed - kept), -allowed))
        chosen[ranking.group] = np.sort(ranking.order[: ranking.group.size - width])
    return chosen


def widths(group: Group, multiple: int) -> list[int]:
    """The widths that a group may have, its own first.

    Multiples of `multiple` where the group is some of them wide, else of the half, and so on. Units of several
    channels, such as heads, are not rounded.
    """
    single = all(s.indices.shape[1] == 1 for s in group.makers)
    step = multiple if single else 1
    while step > 1 and group.size < FINEST * step:
        step //= 2
    least = max(1, int(np.ceil(LEAST * group.size)))
    return [group.size, *(k for k in range(group.size - 1, 0, -1) if k >= least and k % max(step, 1) == 0)]


def _best(ranking: Ranking, allowed: Sequence[int], saving: float, price: float) -> np.ndarray:
    size = ranking.group.size
    counts = [size - width for width in allowed]
    balance = [price * saving * count - float(ranking.costs[count]) for count in counts]
    return np.sort(ranking.order[: counts[int(np.argmax(balance))]])


def without(graph: Graph, removal: Mapping[Group, np.ndarray]) -> Graph:
    """A copy of `graph` with units taken out."""
    copy = graph.clone()
    nodes = dict(zip(graph.nodes, copy.nodes, strict=True))
    values = dict(zip(graph.values(), copy.values(), strict=True))
    shrink(copy, {_moved(group, nodes, values): units for group, units in removal.items()})
    return copy


def _moved(group: Group, nodes: Mapping[Node, Node], values: Mapping[Value, Value]) -> Group:
    """The same group of a copy."""

    def moved(one: Dimension) -> Dimension:
        holder = one.holder
        other = values[holder] if isinstance(holder, Value) else Use(nodes[holder.node], holder.index)
        return Dimension(other, one.axis)

    stretches = tuple(replace(s, dimension=moved(s.dimension)) for s in group.stretches)
    return replace(group, stretches=stretches)
