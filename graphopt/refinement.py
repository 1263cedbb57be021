"""Accuracy methods around quantisation, as switches.

    round        weights rounded one after the other, errors handed on (GPTQ), ranges searched, scales of least error
    refit        weights moved before they are rounded, to make up for the errors of what they are multiplied with
    bias         biases take what is left on the mean
    zero-point   weights of few bits need not lie evenly about zero

`default` is all of them; `none` rounds to nearest. A recipe is what is joined with `+`: `round+bias`. All look at
samples, not at labels (`graphopt.passes.rounding`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from graphopt.analysis.liveness import liveness
from graphopt.analysis.macs import macs
from graphopt.api import Progress
from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import Graph
from graphopt.passes.rounding.methods import Nearest, SecondOrder
from graphopt.passes.rounding.round_weights import Effect, Rounding, round_weights
from graphopt.runtime.stacked import stacks_of
from graphopt.runtime.twofold import Originals

SAMPLES = 256
"""Looked at, at most."""

MEMORY = 1 << 30
"""Bytes of the values of all samples that are alive at once, as floats and quantised."""

WORK = 100e9
"""Multiplications of all samples, after which more of them would not be worth the wait."""

FEWEST = 16

SWITCHES = ("round", "refit", "bias", "zero-point")
RECIPES = {"default": frozenset(SWITCHES), "none": frozenset()}


@dataclass(frozen=True)
class Refinement:
    """The switches that are on, and the samples that the methods look at."""

    switches: frozenset[str]
    samples: tuple[Mapping[str, np.ndarray], ...]

    def refine(self, graph: Graph, originals: Originals, progress: Progress | None = None) -> list[Effect]:
        """Change the weights of a quantised graph, in place; returns what that did to each layer."""
        if not self.switches:
            return []
        method = SecondOrder("zero-point" in self.switches) if "round" in self.switches else Nearest()
        rounding = Rounding(method, "refit" in self.switches, "bias" in self.switches)
        return round_weights(graph, stacks_of(graph, self.samples), originals, rounding, progress)


def refinement(recipe: str, graph: Graph, samples: Iterable[Mapping[str, np.ndarray]]) -> Refinement:
    """The methods of `recipe`, with as many samples of `graph` as memory and time allow. Raises UsageError."""
    switches = switches_of(recipe)
    taken = islice(samples, samples_for(graph)) if switches else ()
    kept = tuple({name: np.array(array) for name, array in sample.items()} for sample in taken)
    return Refinement(switches, kept)


def switches_of(recipe: str) -> frozenset[str]:
    """The switches that a recipe turns on. Raises UsageError for an unknown one."""
    if recipe in RECIPES:
        return RECIPES[recipe]
    names = recipe.split("+")
    for name in names:
        if name not in SWITCHES:
            known = (*RECIPES, *SWITCHES)
            hint = did_you_mean(name, known, f"methods: {', '.join(known)}; join several with +")
            raise UsageError(f"there is no method '{name}'", where="methods", hint=hint)
    return frozenset(names)


def samples_for(graph: Graph) -> int:
    """How many samples of `graph` are looked at."""
    memory = liveness(graph).peak_bytes or 0
    work = sum(macs(node) or 0 for node in graph.nodes)
    allowed = min(MEMORY // max(2 * memory, 1), int(WORK // max(work, 1)))
    return int(min(SAMPLES, max(allowed, FEWEST)))
