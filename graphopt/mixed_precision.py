"""The cheapest assignment of schemes to layers that loses no more than is allowed.

Every layer begins with the cheapest scheme. Layers are then raised, one rung at a time, in the order of harm undone for
each bit operation that it costs more; since noise of layers adds up, that order follows from the trials of single
layers. How many raises it takes is found by bisection, each time judged by running the whole assignment. A bit
operation is a multiplication, times the bits of both its operands (van Baalen et al., "Bayesian bits", 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from graphopt.analysis.macs import macs
from graphopt.api import Progress
from graphopt.ir import DType, Node
from graphopt.passes.quantization.scheme import Scheme
from graphopt.sensitivity import Trials
from graphopt.targets.device import Target

Assignment = dict[Node, Scheme]
"""Layers that are missing stay float."""

FLOAT_BITS = 32


def ladder(cheapest: Scheme) -> list[Scheme]:
    """Schemes from `cheapest` up: more bits for weights, then for activations; float is above the last."""
    rungs = [cheapest]
    if cheapest.weight_bits < 8:
        rungs.append(replace(cheapest, weights="int8", group=0))
    if cheapest.activations in ("uint8", "int8") and not cheapest.dynamic:
        rungs.append(replace(rungs[-1], activations="int16"))
    return rungs


def bit_operations(layer: Node, scheme: Scheme | None, target: Target | None = None) -> int:
    """Of one run of a layer; None is float, and what `target` does not sum as integers costs as much."""
    count = macs(layer) or 0
    if scheme is None or not (scheme.activations == "float32" or in_integers(scheme, target)):
        return count * FLOAT_BITS * FLOAT_BITS
    bits = 8 if scheme.dynamic else DType[scheme.activations].bits
    return count * bits * scheme.weight_bits


def in_integers(scheme: Scheme, target: Target | None) -> bool:
    """Whether `target` sums the products of `scheme` as integers; without one, whether they are integers."""
    return scheme.computes_in_integers if target is None else scheme.product in target.integer_products


@dataclass(frozen=True)
class Raise:
    """`layer` goes up to `scheme`; None is float."""

    layer: Node
    scheme: Scheme | None


Noises = Mapping[Scheme, Mapping[Node, float]]
"""Of each layer alone, for each scheme."""


def raises(
    layers: Sequence[Node], rungs: Sequence[Scheme], noises: Noises, target: Target | None = None
) -> list[Raise]:
    """From the first rung everywhere to float everywhere, the greatest gain for its cost first.

    A rung that undoes no harm is skipped.
    """
    steps: list[Raise] = []
    places = dict.fromkeys(layers, 0)
    options: list[Scheme | None] = [*rungs, None]

    def gain(layer: Node, to: int) -> float:
        now, then = options[places[layer]], options[to]
        undone = noises[now][layer] - (noises[then][layer] if then else 0.0)  # type: ignore[index]
        return undone / max(bit_operations(layer, then, target) - bit_operations(layer, now, target), 1)

    while places:
        best = max(
            ((layer, to) for layer, place in places.items() for to in range(place + 1, len(options))),
            key=lambda choice: gain(*choice),
        )
        layer, place = best
        steps.append(Raise(layer, options[place]))
        places[layer] = place
        if options[place] is None:
            del places[layer]
    return steps


def after(steps: Sequence[Raise], count: int, layers: Sequence[Node], cheapest: Scheme) -> Assignment:
    """The assignment behind the first `count` steps."""
    assigned: dict[Node, Scheme | None] = dict.fromkeys(layers, cheapest)
    for step in steps[:count]:
        assigned[step.layer] = step.scheme
    return {layer: scheme for layer, scheme in assigned.items() if scheme is not None}


def cheapest_within(
    trials: Trials,
    is_allowed: Callable[[Assignment], bool],
    target: Target | None = None,
    progress: Progress | None = None,
) -> tuple[list[Raise], int]:
    """All raises in order, and the fewest of them behind which the trial is allowed."""
    layers, rungs = trials.layers, trials.schemes
    noises = {
        scheme: {harm.layer: harm.noise for harm in trials.harms(scheme, progress=progress)}
        for scheme in rungs
    }
    steps = raises(layers, rungs, noises, target)
    low, high = 0, len(steps)  # float everywhere is allowed
    while low < high:
        middle = (low + high) // 2
        if progress:
            progress("looking for the cheapest assignment", len(steps) - (high - low), len(steps))
        if is_allowed(after(steps, middle, layers, rungs[0])):
            high = middle
        else:
            low = middle + 1
    return steps, low


def lowered(
    assignment: Assignment,
    trials: Trials,
    is_allowed: Callable[[Assignment], bool],
    target: Target | None = None,
    progress: Progress | None = None,
) -> Assignment:
    """`assignment` with every layer as low as is still allowed, the dearest first: rungs that were not needed."""
    layers, rungs = trials.layers, trials.schemes
    raised = [layer for layer in layers if assignment.get(layer) != rungs[0]]
    raised.sort(key=lambda layer: -bit_operations(layer, assignment.get(layer), target))
    for number, layer in enumerate(raised):
        if progress:
            progress("lowering what need not be raised", number, len(raised))
        for scheme in rungs:
            if scheme == assignment.get(layer):
                break
            tried = {**assignment, layer: scheme}
            if is_allowed(tried):
                assignment = tried
                break
    return assignment
