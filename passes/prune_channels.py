"""Channels taken out of a graph, those that weigh least by their weights.

    Conv(x, W [64, 3, 3, 3]) -> Conv(_, V [32, 64, 1, 1])  -->  Conv(x, W' [48, 3, 3, 3]) -> Conv(_, V' [32, 48, 1, 1])

What has to go together is found by `graphopt.analysis.groups`; what a group's channels are worth is in
`pruning/importance.py`, how many go in `pruning/choose.py`. Criteria that look at samples, and making up for what is
lost, need more than a graph: `graphopt.prune`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

import numpy as np

from graphopt.analysis.groups.find import Group, Groups, channel_groups
from graphopt.analysis.groups.kinds import KINDS, kind_of
from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import Graph, Node, Use
from graphopt.passes.pruning.choose import Aim, by_ratio, choose
from graphopt.passes.pruning.importance import CRITERIA, Ranking, by_weights
from graphopt.passes.pruning.shrink import shrink
from graphopt.pipeline import Pass
from graphopt.rewrite import Statistics

BY_WEIGHTS = ("batchnorm", *CRITERIA)
AIMS = ("macs", "parameters", "size")
SHOWN = 5


@dataclass(frozen=True)
class PruneChannels(Pass):
    """Take channels out, those that weigh least: a ratio of each group, or until MACs or parameters are a share."""

    name: ClassVar[str] = "prune-channels"
    ratio: float = 0.0
    macs: float = 0.0
    parameters: float = 0.0
    size: float = 0.0
    importance: str = "l2"
    multiple: int = 1
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def run(self, graph: Graph, statistics: Statistics) -> None:
        wanted = {name: getattr(self, name) for name in ("ratio", *AIMS) if getattr(self, name)}
        name, share = one_aim(wanted)
        check_multiple(self.multiple)
        if self.importance not in BY_WEIGHTS:
            hint = did_you_mean(self.importance, BY_WEIGHTS, f"one of {', '.join(BY_WEIGHTS)}")
            raise UsageError(
                f"no importance '{self.importance}' looks at weights", where="importance", hint=hint
            )
        groups = prunable(channel_groups(graph), self.exclude, only=self.only)
        removal = removed(graph, by_weights(groups, self.importance), name, share, self.multiple)
        shrink(graph, removal)
        statistics.fired[self.name] += sum(len(units) for units in removal.values())


def one_aim(wanted: dict[str, float]) -> tuple[str, float]:
    """The one aim that is given, and its share. Raises UsageError."""
    if len(wanted) != 1:
        what = "nothing says how much is to go" if not wanted else f"two aims at once: {', '.join(wanted)}"
        raise UsageError(what, where="prune", hint="give one of ratio, macs, parameters, size")
    [(name, share)] = wanted.items()
    if not 0 < share < 1:
        hint = f"write a share between 0 and 1, such as {name}=0.5, or {name} 50% on the command line"
        raise UsageError(f"{share:g} is no share of a whole", where=name, hint=hint)
    return name, share


def check_multiple(multiple: int) -> None:
    """Raises UsageError."""
    if multiple < 1:
        raise UsageError(f"{multiple} channels make no vector", where="multiple", hint="write 1 or more")


def check_kinds(only: Sequence[str]) -> None:
    """Raises UsageError."""
    for kind in only:
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS, f"one of {', '.join(KINDS)}")
            raise UsageError(f"there are no groups of kind '{kind}'", where="only", hint=hint)


def removed(
    graph: Graph, rankings: Sequence[Ranking], name: str, share: float, multiple: int
) -> dict[Group, np.ndarray]:
    """The units of each group that go. Raises UsageError where the aim cannot be reached."""
    if name == "ratio":
        return by_ratio(rankings, share, multiple)
    return choose(graph, rankings, Aim(name, share), multiple)


def prunable(
    found: Groups, exclude: Sequence[str] = (), coupled: bool = False, only: Sequence[str] = ()
) -> list[Group]:
    """The groups that may lose channels; `exclude` names nodes whose channels stay, made or read.

    Coupled groups stay unless they are asked for, and groups of other kinds (`graphopt.analysis.groups.kinds`) than
    `only` names, if it names any. Raises UsageError for a name that fits nothing, and where no group is left.
    """
    check_kinds(only)
    groups = [group for group in found.groups if coupled or not group.coupled]
    if only and groups:
        groups = [group for group in groups if kind_of(group) in only]
        if not groups:
            told = " or ".join(f"'{kind}'" for kind in only)
            hint = "leave --only out, or see `graphopt inspect --groups`"
            raise UsageError(f"nothing can be pruned: no group is {told}", where="only", hint=hint)
    names = {group: _names(group) for group in groups}
    left_out: set[Group] = set()
    for pattern in exclude:
        fitting = {g for g in groups if any(pattern == n or fnmatchcase(n, pattern) for n in names[g])}
        if not fitting:
            known = sorted(
                {source for group in groups for node in _nodes(group) for source in node.origin.sources}
            )
            more = ", ..." if len(known) > SHOWN else ""
            hint = did_you_mean(pattern, known, f"nodes: {', '.join(known[:SHOWN]) or 'none'}{more}")
            raise UsageError(f"no channels belong to a node '{pattern}'", where="exclude", hint=hint)
        left_out |= fitting
    kept = [group for group in groups if group not in left_out]
    if not kept:
        raise UsageError(
            f"nothing can be pruned: {_why(found, exclude)}", hint="see `graphopt inspect --groups`"
        )
    return kept


def _names(group: Group) -> set[str]:
    """What a user may call the nodes whose constants belong to a group."""
    found: set[str] = {group.name}
    for node in _nodes(group):
        found |= {node.name, node.origin.known_as(node.name), *node.origin.sources}
    return found


def _nodes(group: Group) -> list[Node]:
    holders = (stretch.dimension.holder for stretch in group.stretches)
    return [holder.node for holder in holders if isinstance(holder, Use)]


def _why(found: Groups, exclude: Sequence[str]) -> str:
    if exclude and found.groups:
        return "every group is excluded"
    if found.groups:
        return found.groups[0].coupled
    if found.fixed:
        return found.fixed[0].reason
    return "it has no weights that make channels"
