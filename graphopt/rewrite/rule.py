"""A rule: a pattern, a check that gives a reason when it declines, a rewrite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from graphopt.ir import Value
from graphopt.rewrite.builder import Builder
from graphopt.rewrite.match import Match
from graphopt.rewrite.pattern import Op


class Rule:
    """One rewrite. A subclass sets `name` and `pattern` and writes `rewrite`, and `check` where needed."""

    name: ClassVar[str]
    pattern: Op

    def check(self, match: Match) -> str | None:
        """Why the match must be left alone, in words a user can act on; None when it may be rewritten."""
        return None

    def rewrite(self, match: Match, build: Builder) -> Value | Sequence[Value | None]:
        """Build the replacement; returns what takes the place of each output of the root.

        One value stands for one output; None in a sequence stands for an output that nobody uses.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<Rule {self.name}>"
