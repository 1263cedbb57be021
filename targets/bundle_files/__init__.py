"""The files of a bundle that are text, with `@NAME@` where the model's own facts go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources


def render(name: str, facts: Mapping[str, str]) -> str:
    """The text of the file `name` with every `@NAME@` replaced. Raises KeyError for a fact nobody gave."""
    return filled(resources.files(__name__).joinpath(name).read_text(encoding="utf-8"), facts)


def filled(text: str, facts: Mapping[str, str]) -> str:
    """The text with facts in their places. Raises KeyError for one that nobody gave."""
    return re.sub(r"@([A-Z_]+)@", lambda match: facts[match.group(1)], text)
