"""Dense layers as products of two thinner ones, by their weights alone.

    Gemm(x, W [k, m], b)  -->  Gemm(Gemm(x, A [k, r]), B [r, m], b)          W ~ A B, the truncated SVD

Ranks follow from the energy that may be lost, or from the share of weights that is to be left
(`factorization/ranks.py`). Layers to which two factors would be no less stay. Weighting by what layers read, fitting,
and measuring which pairs are faster need more than a graph: `graphopt.factorize`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from graphopt.errors import UsageError, did_you_mean
from graphopt.ir import Graph
from graphopt.passes.factorization.dense import Dense, dense_layers, split
from graphopt.passes.factorization.ranks import Spectrum, by_budget, by_loss
from graphopt.pipeline import Pass
from graphopt.rewrite import Statistics

AIMS = ("parameters", "energy", "error")
SHOWN = 5


@dataclass(frozen=True)
class FactorizeDense(Pass):
    """Make two thinner layers of a dense one: of an energy, or until all hold a share of their weights."""

    name: ClassVar[str] = "factorize-dense"
    parameters: float = 0.0
    energy: float = 0.0
    error: float = 0.0
    multiple: int = 1
    exclude: tuple[str, ...] = ()

    def run(self, graph: Graph, statistics: Statistics) -> None:
        aim, share = one_aim({name: getattr(self, name) for name in AIMS if getattr(self, name)})
        layers = factorable(graph, self.exclude)
        ranks = chosen([Spectrum.of(layer) for layer in layers], aim, share, self.multiple)
        for layer, rank in ranks.items():
            split(layer, rank)
        statistics.fired[self.name] += len(ranks)
        graph.remove_unused_constants()


def one_aim(wanted: dict[str, float]) -> tuple[str, float]:
    """The one aim that is given, and its share. Raises UsageError."""
    if len(wanted) != 1:
        what = "nothing says how far to go" if not wanted else f"two aims at once: {', '.join(wanted)}"
        raise UsageError(what, where="factorize", hint=f"give one of {', '.join(AIMS)}")
    [(name, share)] = wanted.items()
    if not 0 < share < 1:
        hint = f"write a share between 0 and 1, such as {name}=0.5, or {name} 50% on the command line"
        raise UsageError(f"{share:g} is no share of a whole", where=name, hint=hint)
    return name, share


def chosen(spectra: Sequence[Spectrum], aim: str, share: float, multiple: int) -> dict[Dense, int]:
    """The rank of each layer that is to be factored; `error` is that of a layer's results, as root mean squares."""
    if aim == "parameters":
        return by_budget(spectra, share, multiple)
    return by_loss(spectra, 1 - share if aim == "energy" else share**2)


def factorable(graph: Graph, exclude: Iterable[str] = ()) -> list[Dense]:
    """The dense layers but those that `exclude` names. Raises UsageError where none is left, or a name fits none."""
    layers = dense_layers(graph)
    names = {layer: {layer.name, layer.node.name, *layer.node.origin.sources} for layer in layers}
    left_out: set[Dense] = set()
    for pattern in exclude:
        found = {one for one in layers if any(pattern == n or fnmatchcase(n, pattern) for n in names[one])}
        if not found:
            known = [layer.name for layer in layers]
            more = ", ..." if len(known) > SHOWN else ""
            hint = did_you_mean(pattern, known, f"layers: {', '.join(known[:SHOWN]) or 'none'}{more}")
            raise UsageError(f"there is no dense layer '{pattern}'", where="exclude", hint=hint)
        left_out |= found
    kept = [layer for layer in layers if layer not in left_out]
    if not kept:
        what = "every dense layer is excluded" if layers else "it has no dense layer with constant weights"
        raise UsageError(f"nothing can be factorised: {what}", hint="name another model, or exclude less")
    return kept
