"""The names of values and nodes: unambiguous across a graph and those nested in it."""

from __future__ import annotations

from graphopt.errors import IRError


class NameScope:
    """The names taken in one graph.

    A name means one thing in a graph, in those that enclose it and in those nested in it; two branches of an
    If may use the same.
    """

    def __init__(self, parent: NameScope | None) -> None:
        self._parent = parent
        self._nested: dict[NameScope, None] = {}
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}
        if parent is not None:
            parent._nested[self] = None

    def taken(self, name: str) -> bool:
        return self._taken_outside(name) or self._taken_within(name)

    def detach(self) -> None:
        """The graph is thrown away: its names are free again in those that enclose it."""
        if self._parent is not None:
            self._parent._nested.pop(self, None)

    def _taken_outside(self, name: str) -> bool:
        outer = self._parent
        return outer is not None and (name in outer._taken or outer._taken_outside(name))

    def _taken_within(self, name: str) -> bool:
        return name in self._taken or any(scope._taken_within(name) for scope in self._nested)

    def claim(self, name: str) -> str:
        if self.taken(name):
            raise IRError("the name is taken", where=f"'{name}'")
        self._taken.add(name)
        return name

    def unique(self, wanted: str) -> str:
        """Claim `wanted`, or the first of `wanted_1`, `wanted_2`, ... that is free."""
        name = wanted
        while self.taken(name):
            self._next[wanted] = self._next.get(wanted, 0) + 1
            name = f"{wanted}_{self._next[wanted]}"
        self._taken.add(name)
        return name

    def exchange(self, old: str, new: str, keep_if_taken: bool) -> str:
        """Claim `new` in place of `old`; returns the name that holds afterwards."""
        if old == new or (keep_if_taken and self.taken(new)):
            return old
        self.claim(new)
        self.release(old)
        return new

    def release(self, name: str) -> None:
        self._taken.discard(name)
