"""The text files of packages for build systems of firmware, with `@NAME@` where facts go."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from graphopt.targets.bundle_files import filled


def render(name: str, facts: Mapping[str, str]) -> str:
    """The text of a file, filled. Raises KeyError for a fact nobody gave."""
    return filled(resources.files(__name__).joinpath(name).read_text(encoding="utf-8"), facts)
