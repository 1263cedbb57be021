"""Rewriting: patterns, rules, and the driver that applies them."""

from graphopt.rewrite.builder import Builder
from graphopt.rewrite.driver import Attempt, Statistics, apply_rules
from graphopt.rewrite.match import Match
from graphopt.rewrite.pattern import Any, Const, Either, Op, Pattern, Scalar
from graphopt.rewrite.rule import Rule

__all__ = [
    "Any",
    "Attempt",
    "Builder",
    "Const",
    "Either",
    "Match",
    "Op",
    "Pattern",
    "Rule",
    "Scalar",
    "Statistics",
    "apply_rules",
]
