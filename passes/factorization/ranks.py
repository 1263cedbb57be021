"""Of which rank each dense layer should be: by energy, by error, or by what all of them may hold.

Of a layer y = x W, with the second moments C of x, the best weights of rank r lose the tail of the eigenvalues of
W^T C W; without samples C is taken as the identity, and the eigenvalues are squared singular values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.errors import UsageError
from graphopt.passes.factorization.dense import Dense

ROUNDS = 200


@dataclass(frozen=True)
class Spectrum:
    """A layer, and the share of its results' energy that is lost with ranks 0, 1, 2, ..."""

    layer: Dense
    lost: np.ndarray

    @staticmethod
    def of(layer: Dense, operands: np.ndarray | None = None) -> Spectrum:
        """`operands` (inputs, inputs) are second moments; None for the identity."""
        weights = layer.weights
        if operands is None:
            thin = weights if weights.shape[0] >= weights.shape[1] else weights.T
            energies = np.maximum(np.linalg.eigvalsh(thin.T @ thin)[::-1], 0.0)
        else:
            values = np.linalg.eigvalsh(weights.T @ operands @ weights)[::-1]
            energies = np.maximum(values, 0.0)[: min(weights.shape)]
        total = max(float(energies.sum()), np.finfo(np.float64).tiny)
        tails = np.concatenate([np.cumsum(energies[::-1])[::-1], [0.0]])
        return Spectrum(layer, tails / total)

    @property
    def highest(self) -> int:
        """The highest rank at which two factors hold less than the layer does; 0 where none does."""
        return (self.layer.parameters - 1) // (self.layer.inputs + self.layer.outputs)


def by_loss(spectra: Sequence[Spectrum], share: float) -> dict[Dense, int]:
    """The least ranks that lose no more than `share` of the energy; layers that gain nothing by it are left out."""
    found = {}
    for spectrum in spectra:
        rank = max(int(np.argmax(spectrum.lost <= share)), 1)
        if rank <= spectrum.highest:
            found[spectrum.layer] = rank
    return found


def by_budget(spectra: Sequence[Spectrum], share: float, multiple: int) -> dict[Dense, int]:
    """The ranks that lose least, in the sum of shares, while all layers hold `share` of their weights at most.

    For a price of a parameter each layer takes the best rank; the price is raised until the budget is met. Raises
    UsageError where it cannot be.
    """
    budget = share * sum(spectrum.layer.parameters for spectrum in spectra)
    options = [_options(spectrum, multiple) for spectrum in spectra]

    def at(price: float) -> list[int | None]:
        return [min(given, key=lambda o: o[2] + price * o[1])[0] for given in options]

    def held(ranks: Sequence[int | None]) -> int:
        pairs = zip(spectra, ranks, strict=True)
        return sum(s.layer.parameters if r is None else s.layer.factored(r) for s, r in pairs)

    low, high = 0.0, 1.0
    if held(at(high)) > budget:
        least = held(at(high)) / max(sum(s.layer.parameters for s in spectra), 1)
        raise UsageError(
            f"{share:.1%} of its dense weights cannot be reached: {least:.1%} are left with rank 1",
            where="parameters",
            hint="ask for more, or exclude less",
        )
    for _ in range(ROUNDS):
        middle = (low + high) / 2 if low == 0 and high > 1e-12 else float(np.sqrt(low * high))
        if held(at(middle)) > budget:
            low = middle
        else:
            high = middle
        if high - low <= 1e-9 * high:
            break
    return {s.layer: r for s, r in zip(spectra, at(high), strict=True) if r is not None}


def _options(spectrum: Spectrum, multiple: int) -> list[tuple[int | None, int, float]]:
    """(rank, parameters, loss) of each choice; rank None leaves the layer as it is."""
    layer = spectrum.layer
    step = multiple if spectrum.highest >= 4 * multiple else 1
    ranks = sorted({1, *range(step, spectrum.highest + 1, step)} if spectrum.highest else set())
    return [
        (None, layer.parameters, 0.0),
        *((rank, layer.factored(rank), float(spectrum.lost[rank])) for rank in ranks),
    ]
