"""Accuracy methods around quantisation, as switches.

    equalize     channels between layers scaled so that both use the range of their weights
    migrate      large channels of normalised values handed to the weights that read them
    balance      channels in front of depthwise convolutions scaled to use the range of their activation
    ranges       ranges of activations narrowed where the layers that read them lose less by it
    round        weights rounded one after the other, errors handed on (GPTQ), ranges searched, scales of least error
    refit        weights of few bits moved before they are rounded, to make up for the errors of their operands
    learn        in place of round: rounding up or down learned by gradients (AdaRound)
    bias         biases take what is left on the mean, as samples show it
    analytic-bias   biases take what rounded weights are expected to add to the mean; samples are not needed
    zero-point   weights of few bits need not lie evenly about zero
    finish       products behind the last LSTM or GRU read its states in 16 bits (`graphopt.finishing_products`)

The first three change the float model, the others the quantised one. `default` is `balance` and the latter without
`learn`; `none` rounds to nearest. A recipe is what is joined with `+`: `equalize+default`, `learn+bias`.
Methods look at samples, not at labels (`graphopt.passes.rounding`). Without samples `analytic-bias` alone does
anything, in models with batch normalisations; where samples correct biases it has nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from graphopt.analysis.liveness import liveness
from graphopt.analysis.macs import macs
from graphopt.api import Progress
from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import Graph
from graphopt.passes.balance import balancing
from graphopt.passes.equalize import Equalize, Pair
from graphopt.passes.migrate_outliers import NORMALIZATIONS, STRENGTH, migrate
from graphopt.passes.quantization.scheme import Scheme
from graphopt.passes.rounding.effect import Effect
from graphopt.passes.rounding.expectations import Expectation, normalised
from graphopt.passes.rounding.expected_bias import correct_biases, expected_operands, observed_operands
from graphopt.passes.rounding.methods import Learned, Method, Nearest, SecondOrder
from graphopt.passes.rounding.round_weights import Rounding, round_weights
from graphopt.rewrite import Statistics
from graphopt.runtime.stacked import stacks_of
from graphopt.runtime.twofold import Originals

SAMPLES = 256
"""Looked at, at most."""

MEMORY = 1 << 30
"""Bytes of the values of all samples that are alive at once, as floats and quantised."""

WORK = 100e9
"""Multiplications of all samples, after which more of them would not be worth the wait."""

FEWEST = 16

WITH_SAMPLES = ("ranges", "round", "refit", "learn", "bias", "zero-point")
BEFORE, AFTER = ("equalize", "migrate"), (*WITH_SAMPLES, "analytic-bias")
SWITCHES = (*BEFORE, "balance", *AFTER, "finish")
RECIPES: dict[str, frozenset[str]] = {
    "default": frozenset({"balance", *AFTER, "finish"}) - {"learn"},
    "none": frozenset(),
}


@dataclass(frozen=True)
class Refinement:
    """The switches that are on, the samples that the methods look at, and what is known without them.

    `statistics` are those of batch normalisations, by the names of what these made.
    """

    switches: frozenset[str]
    samples: tuple[Mapping[str, np.ndarray], ...]
    statistics: Mapping[str, Expectation] = field(default_factory=dict)

    def balancing(self, graph: Graph, scheme: Scheme) -> dict[Pair, np.ndarray]:
        """What to multiply channels of a float graph by, where `scheme` gains by it."""
        if "balance" not in self.switches or scheme.activation_type is None or not scheme.per_channel:
            return {}
        return balancing(graph, stacks_of(graph, self.samples))

    def refine(
        self, floats: Graph, graph: Graph, originals: Originals, progress: Progress | None = None
    ) -> list[Effect]:
        """Change the weights of `graph`, quantised from `floats`, in place; returns what that did to each layer."""
        effects: list[Effect] = []
        inputs = stacks_of(graph, self.samples) if self.samples else None
        if inputs is not None and self.switches.intersection(WITH_SAMPLES):
            rounding = Rounding(
                self._method,
                "refit" in self.switches,
                "bias" in self.switches,
                search_ranges="ranges" in self.switches,
            )
            effects = round_weights(graph, inputs, originals, rounding, progress)
        if "analytic-bias" not in self.switches or ("bias" in self.switches and inputs is not None):
            return effects
        if inputs is None:
            operands = expected_operands(floats, graph, self.statistics)
        else:
            operands = observed_operands(graph, inputs, originals)
        return effects + correct_biases(graph, originals, operands)

    @property
    def _method(self) -> Method:
        zero_points = "zero-point" in self.switches
        if "learn" in self.switches:
            return Learned(zero_points)
        return SecondOrder(zero_points) if "round" in self.switches else Nearest()


def refinement(recipe: str, graph: Graph, samples: Iterable[Mapping[str, np.ndarray]]) -> Refinement:
    """The methods of `recipe`, with as many samples of `graph` as memory and time allow. Raises UsageError."""
    switches = switches_of(recipe)
    taken = islice(samples, samples_for(graph)) if switches else ()
    kept = tuple({name: np.array(array) for name, array in sample.items()} for sample in taken)
    return Refinement(switches, kept)


def without_samples(recipe: str, graph: Graph) -> Refinement:
    """The methods of `recipe` that need none, for a graph whose batch normalisations are still there.

    Raises UsageError where they are asked for and nothing is known.
    """
    statistics = normalised(graph)
    if "analytic-bias" in recipe.split("+") and not statistics:
        hint = "give samples (--calibration, or data)"
        raise UsageError(
            "analytic-bias needs batch normalisations, or samples, and there are none",
            where="methods",
            hint=hint,
        )
    return Refinement(switches_of(recipe).intersection({"analytic-bias"}), (), statistics)


def switches_of(recipe: str) -> frozenset[str]:
    """The switches that a recipe turns on. Raises UsageError for an unknown one."""
    known = {**{name: frozenset({name}) for name in SWITCHES}, **RECIPES}
    names = recipe.split("+")
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, f"methods: {', '.join(known)}; join several with +")
            raise UsageError(f"there is no method '{name}'", where="methods", hint=hint)
    return frozenset().union(*(known[name] for name in names))


def prepare(recipe: str, graph: Graph, samples: Iterable[Mapping[str, np.ndarray]]) -> None:
    """Change a float graph, in place, by what a recipe does before calibration. Raises UsageError."""
    from graphopt.calibration import calibrate

    switches = switches_of(recipe)
    if "equalize" in switches:
        Equalize().run(graph, Statistics())
    normalised = {
        node.output.name: node.output.rank - 1
        for node in graph.nodes
        if node.is_op(*NORMALIZATIONS) and node.output.rank
    }
    if "migrate" in switches and normalised:
        ranges = calibrate(graph, samples, values=normalised, per_channel=normalised, allow_constant=True)
        magnitudes = {name: range.magnitude for name, range in ranges.items()}
        for node in graph.nodes:
            if node.is_op(*NORMALIZATIONS):
                migrate(node, magnitudes, STRENGTH)
        graph.remove_unused_constants()


def samples_for(graph: Graph, most: int = SAMPLES) -> int:
    """How many samples of `graph` are looked at, `most` at most."""
    memory = liveness(graph).peak_bytes or 0
    work = sum(macs(node) or 0 for node in graph.nodes)
    allowed = min(MEMORY // max(2 * memory, 1), int(WORK // max(work, 1)))
    return int(min(most, max(allowed, FEWEST)))
