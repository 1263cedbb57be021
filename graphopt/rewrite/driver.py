"""The driver: applies rules to a graph until none fires any more."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphopt.errors import IRError
from graphopt.ir import KERNEL, Graph, Node, Origin, Value
from graphopt.onnx_io.infer import reason_against
from graphopt.rewrite.builder import Builder
from graphopt.rewrite.match import WHOLE_MATCH, Match, Misses
from graphopt.rewrite.pattern import find
from graphopt.rewrite.rule import Rule

FIRINGS_PER_NODE = 50
"""More firings than this for each node of the graph means that two rules undo each other."""


@dataclass(frozen=True)
class Attempt:
    """One try of a rule at a node: `reason` is empty when it fired.

    `depth` tells how far into the pattern the try came; a match that the rule's check declined came farthest.
    `sources` are the nodes of the imported model that the node is made of.
    """

    rule: str
    node: str
    op: str
    reason: str = ""
    depth: int = 0
    sources: tuple[str, ...] = ()

    @classmethod
    def at(cls, node: Node, rule: str, reason: str = "", depth: int = 0) -> Attempt:
        return cls(rule, node.name, node.key, reason, depth, node.origin.sources)

    @property
    def fired(self) -> bool:
        return not self.reason

    @property
    def known_as(self) -> str:
        """What a user calls the node."""
        return Origin("", self.sources).known_as(self.node)


@dataclass
class Statistics:
    """Counts per rule; `attempts` is filled only for the rules in `explain`."""

    explain: frozenset[str] = frozenset()
    fired: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    attempts: list[Attempt] = field(default_factory=list)

    def note(self, attempt: Attempt, seconds: float) -> None:
        self.tried[attempt.rule] += 1
        self.seconds[attempt.rule] += seconds  # type: ignore[assignment]
        if attempt.fired:
            self.fired[attempt.rule] += 1
        if attempt.rule in self.explain:
            self.attempts.append(attempt)

    def merge(self, other: Statistics) -> None:
        self.fired.update(other.fired)
        self.tried.update(other.tried)
        self.seconds.update(other.seconds)
        self.attempts.extend(other.attempts)


def apply_rules(graph: Graph, rules: Sequence[Rule], statistics: Statistics | None = None) -> int:
    """Rewrite `graph` in place, nested graphs included, until no rule fires; returns how many fired.

    Rules are tried in the given order at each node; the bodies of fused groups are left alone, and so is what cannot
    be in a branch that is never taken.
    Raises IRError when the rules do not come to rest.
    """
    statistics = statistics if statistics is not None else Statistics()
    by_op: dict[str, list[Rule]] = {}
    for rule in rules:
        for key in rule.pattern.keys:
            by_op.setdefault(key, []).append(rule)
    worklist = _Worklist(_rewritable(graph), reach=max((rule.pattern.depth for rule in rules), default=0))
    limit = FIRINGS_PER_NODE * (len(worklist) + 10)
    fired = 0
    while (node := worklist.pop()) is not None:
        for rule in by_op.get(node.key, ()):
            if _try(rule, node, worklist, statistics):
                fired += 1
                break
        if fired > limit:
            busiest = ", ".join(name for name, _ in statistics.fired.most_common(3))
            raise IRError(f"rewriting does not end; the busiest rules are {busiest}")
    return fired


class _Worklist:
    """Nodes to visit, each at most once at a time. No pattern looks further from its root than `reach`."""

    def __init__(self, nodes: Iterable[Node], reach: int) -> None:
        self._queue = deque(nodes)
        self._waiting = set(self._queue)
        self._reach = reach

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, node: Node) -> None:
        if node not in self._waiting:
            self._waiting.add(node)
            self._queue.append(node)

    def push_readers(self, value: Value) -> None:
        """Visit every node that may be the root of a match with `value` in it."""
        level = dict.fromkeys(value.users)
        for _ in range(self._reach):
            for node in level:
                self.push(node)
            level = {user: None for node in level for made in node.outputs for user in made.users}

    def pop(self) -> Node | None:
        while self._queue:
            node = self._queue.popleft()
            self._waiting.discard(node)
            if node.graph is not None:
                return node
        return None


def _rewritable(graph: Graph) -> Iterable[Node]:
    for node in graph.nodes:
        yield node
        if node.domain != KERNEL:
            for nested in node.subgraphs:
                yield from _rewritable(nested)


def _try(rule: Rule, node: Node, worklist: _Worklist, statistics: Statistics) -> bool:
    start = time.perf_counter()
    misses = Misses()
    match = find(rule.pattern, node, misses)
    reason = misses.reason if match is None else _impossible(match) or rule.check(match)
    depth = misses.depth if match is None else WHOLE_MATCH
    attempt = Attempt.at(node, rule.name, reason or "", depth)
    if match is not None and not reason:
        _fire(rule, match, worklist)
    statistics.note(attempt, time.perf_counter() - start)
    return match is not None and not reason


def _impossible(match: Match) -> str:
    """Why the match, in a nested graph, cannot be computed at all; empty when it can. No rule is meant for such."""
    if match.root.graph is None or match.root.graph.parent is None:
        return ""
    reasons = (reason_against(node) for node in match.nodes)
    return next((reason for reason in reasons if reason), "")


def _fire(rule: Rule, match: Match, worklist: _Worklist) -> None:
    root = match.root
    graph = root.graph
    assert graph is not None
    build = Builder(graph, root, root.origin.merged(rule.name, match.nodes))
    result = rule.rewrite(match, build)
    replacements = (result,) if isinstance(result, Value) else tuple(result)
    if len(replacements) != len(root.outputs):
        raise IRError(
            f"it returned {len(replacements)} values for {len(root.outputs)} outputs",
            where=f"rule '{rule.name}'",
        )
    names = [value.name for value in root.outputs]
    for old, new in zip(root.outputs, replacements, strict=True):
        if new is not None:
            _replace(old, new, rule, build)
    read = [value for node in match.nodes for value in node.inputs if value is not None]
    for node in match.nodes:
        _remove_dead(node)
    if root.graph is not None:
        raise IRError(f"'{root.name}' is still in use after the rewrite", where=f"rule '{rule.name}'")
    created = set(build.created)
    for name, new in zip(names, replacements, strict=True):
        if new is not None and new.producer in created and new.name != name:
            graph.rename(new, name)
    for node in build.created:
        if node.graph is not None:
            worklist.push(node)
    for value in (*(new for new in replacements if new is not None), *read):
        if value.producer is not None and value.producer.graph is not None:
            worklist.push(value.producer)
        if value.constant is None:
            worklist.push_readers(value)


def _replace(old: Value, new: Value, rule: Rule, build: Builder) -> None:
    """Put `new` in the place of `old`. A nested graph hands out no outer value: it makes one of its own."""
    _take_over(old, new, rule)
    outside = old.graph is not None and new.graph is not old.graph
    old.replace_uses(new, outputs=not outside)
    if outside and old.is_graph_output:
        old.replace_uses(build.op("Identity", new))


def _take_over(old: Value, new: Value, rule: Rule) -> None:
    """Check that `new` may stand for `old`, and keep the better known shape."""
    if old.type is None or new.type is None:
        new.type = new.type or old.type
        return
    if not old.type.accepts(new.type):
        raise IRError(f"'{old.name}' was {old.type} and became {new.type}", where=f"rule '{rule.name}'")
    if new.producer is not None and not new.type.is_static and old.type.shape is not None:
        new.type = new.type.with_shape(old.type.shape)


def _remove_dead(node: Node) -> None:
    """Remove a node nobody needs, and then its producers that nobody needs any more."""
    if node.graph is None or any(v.uses or v.is_graph_output for v in node.outputs):
        return
    producers = [v.producer for v in node.inputs if v is not None and v.producer is not None]
    node.graph.remove(node)
    for producer in producers:
        _remove_dead(producer)
