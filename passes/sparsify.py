"""Weights made zero, those of least magnitude: unstructured, N of M, or in blocks.

    Gemm(x, W)  -->  Gemm(x, W')          W' is W with zeros (`sparsity/patterns.py`)

Shapes stay, and ordinary kernels take as long as before; what zeros are good for stands in `docs/sparsity.md`.
Choosing weights by what layers read, and letting the others make up for them, needs more than a graph:
`graphopt.sparsify`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.errors import UsageError
from graphopt.ir import Graph
from graphopt.passes.sparsity.layers import lost_magnitudes, ratios, sparse_layers
from graphopt.passes.sparsity.patterns import UNSTRUCTURED, Pattern
from graphopt.pipeline import Pass
from graphopt.rewrite import Statistics


@dataclass(frozen=True)
class Sparsify(Pass):
    """Make the least weights zero: a ratio of all, or of each layer, or those below a threshold."""

    name: ClassVar[str] = "sparsify"
    ratio: float = 0.0
    threshold: float = 0.0
    pattern: str = UNSTRUCTURED
    per_layer: bool = False
    exclude: tuple[str, ...] = ()

    def run(self, graph: Graph, statistics: Statistics) -> None:
        pattern = Pattern.parse(self.pattern)
        share = checked_ratio(pattern, self.ratio or None, self.threshold or None)
        layers = sparse_layers(graph, pattern, self.exclude)
        magnitudes = {layer: np.square(layer.rows()) for layer in layers if not layer.reason}
        shares = dict.fromkeys(magnitudes, share or 0.0)
        if share is not None and not self.per_layer and pattern.fixed_ratio is None:
            lost = {layer: lost_magnitudes(squares, pattern) for layer, squares in magnitudes.items()}
            shares = ratios(lost, share)
        for layer, squares in magnitudes.items():
            kept = squares >= self.threshold**2 if share is None else pattern.kept(squares, shares[layer])
            layer.written(np.where(kept, layer.rows(), 0))
            statistics.fired[self.name] += int((~kept).sum())
        graph.remove_unused_constants()


def checked_ratio(pattern: Pattern, ratio: float | None, threshold: float | None) -> float | None:
    """The share of zeros; None where a threshold decides. Raises UsageError."""
    given = {"ratio": ratio, "threshold": threshold}
    names = [name for name, value in given.items() if value is not None]
    if pattern.fixed_ratio is not None:
        if names:
            hint = f"leave {names[0]} out"
            raise UsageError(f"{pattern.name} itself says how many go", where=names[0], hint=hint)
        return pattern.fixed_ratio
    if len(names) != 1:
        what = "nothing says how many weights are to go" if not names else "two aims at once"
        raise UsageError(
            what, where="sparsify", hint="give one of ratio and threshold, or a pattern like 2:4"
        )
    if threshold is not None:
        if pattern.length > 1:
            raise UsageError("blocks go by a ratio", where="threshold", hint="give ratio=0.5")
        if not 0 < threshold < np.inf:
            raise UsageError(f"{threshold:g} is no magnitude", where="threshold", hint="write 0.01")
        return None
    assert ratio is not None
    if not 0 < ratio < 1:
        hint = "write a share between 0 and 1, such as ratio=0.9, or --ratio 90%"
        raise UsageError(f"{ratio:g} is no share of a whole", where="ratio", hint=hint)
    return ratio
