"""What quantisation did to each layer of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from graphopt.analysis.macs import macs
from graphopt.float_islands import Island
from graphopt.ir import Graph, Node
from graphopt.mixed_precision import in_integers
from graphopt.passes.quantization.layers import candidates, layer_name, weights_of
from graphopt.passes.quantization.scheme import STORED, Scheme
from graphopt.targets.device import Target


@dataclass(frozen=True)
class Layer:
    """What became of a layer: its scheme, or why it stays float."""

    name: str
    operator: str
    macs: int
    weights: int
    scheme: Scheme | None
    reason: str = ""

    @property
    def in_integers(self) -> bool:
        return self.scheme is not None and self.scheme.computes_in_integers


@dataclass(frozen=True)
class Report:
    """Every layer, what else is worth telling, bytes of constants as floats and quantised, and what reads floats."""

    layers: tuple[Layer, ...]
    notes: tuple[str, ...]
    float_bytes: int
    quantised_bytes: int
    islands: tuple[Island, ...] = ()

    @property
    def share_of_macs(self) -> float:
        """Multiplications of integers, of all."""
        return _share((layer.macs, layer.in_integers) for layer in self.layers)

    @property
    def share_of_weights(self) -> float:
        """Weights kept as integers, of all."""
        kept = (
            (layer.weights, layer.scheme is not None and layer.scheme.weights in STORED)
            for layer in self.layers
        )
        return _share(kept)


def _share(parts: Iterable[tuple[int, bool]]) -> float:
    listed = list(parts)
    total = sum(count for count, _ in listed)
    return sum(count for count, counts in listed if counts) / total if total else 0.0


def summarised(
    graph: Graph, chosen: Scheme, layers: Mapping[Node, Scheme], offered: Mapping[Node, Scheme]
) -> Iterator[Layer]:
    """Every layer of `graph`: of those that were `offered` to be quantised by `chosen`, `layers` are."""
    for node, reason in candidates(graph, chosen).items():
        scheme = layers.get(node)
        weights = sum(value.size for value in weights_of(node))
        why = reason or ("quantised it loses too much" if node in offered else "it is excluded")
        yield Layer(layer_name(node), node.op_type, macs(node) or 0, weights, scheme, "" if scheme else why)


def slow_schemes(layers: Iterable[Layer], target: Target) -> list[str]:
    """What to tell of schemes of integers that `target` does not sum as such."""
    used = dict.fromkeys(layer.scheme for layer in layers if layer.in_integers)
    slow = [scheme for scheme in used if scheme is not None and not in_integers(scheme, target)]
    known = ", ".join(target.integer_products) or "none"
    return [
        f"{target.name} does not sum {scheme} as integers, but {known}: do not expect speed"
        for scheme in slow
    ]
