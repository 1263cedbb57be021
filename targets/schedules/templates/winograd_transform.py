"""The transforms of Winograd's minimal filtering F(m, r): m outputs of an r-tap filter by m + r - 1 multiplications.

    y = A ((G g) * (B d))        d: m + r - 1 inputs, g: r taps, y: m outputs, * element by element

A product of polynomials is known from its values at m + r - 1 points: G and A evaluate there, and B, transposed,
interpolates. In two dimensions every transform is done along the rows, then along the columns. With the points
0, +-a, +-b and infinity, rows of B come in pairs e + a o and e - a o; both transforms are given as two sparse stages,
which share e and o. Sources: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016; Barabasz et
al., "Error analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

TAPS = 3

PAIRS: dict[int, tuple[Fraction, ...]] = {
    2: (Fraction(1),),
    4: (Fraction(5, 8), Fraction(3, 2)),
    6: (Fraction(1, 2), Fraction(1), Fraction(2)),
}
"""By number of outputs of three taps, two less than there are inputs: the points above 0; each stands for itself and
its negative. All entries of A and B are exact in float32. Of the points for four outputs that are, these amplify errors
least but for a few percent."""

FINITE_PAIRS: dict[int, tuple[Fraction, ...]] = {
    2: (Fraction(1),),
    4: (Fraction(3, 4), Fraction(5, 2)),
}
"""The same where the number of inputs is odd and infinity no point, by one less than there are inputs."""

Polynomial = tuple[Fraction, ...]
"""Coefficients, that of x^0 first."""


@dataclass(frozen=True)
class Transform:
    """F(m, r) along one axis."""

    outputs: int
    taps: int = TAPS

    @property
    def inputs(self) -> int:
        """Inputs, and multiplications."""
        return self.outputs + self.taps - 1

    @property
    def step(self) -> int:
        """Inputs from one tile to the next."""
        return self.outputs

    @functools.cached_property
    def filter(self) -> np.ndarray:
        """G, (m + r - 1, r), in float64."""
        rows = []
        for number, point in enumerate(self._points):
            others = (*self._points[:number], *self._points[number + 1 :])
            scale = _value(_with_roots(others), point)
            rows.append([point**power / scale for power in range(self.taps)])
        if self._infinity:
            rows.append([Fraction(power == self.taps - 1) for power in range(self.taps)])
        return _matrix(rows)

    @functools.cached_property
    def input_stages(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrices whose product, the second times the first, is B, square."""
        size, pairs = self.inputs, self._pairs
        first = [_padded(_with_roots(_both(pairs)), size)]
        second = [_unit(0, size)]
        for number, point in enumerate(pairs):
            others = _both(pair for pair in pairs if pair != point)
            odd = _with_roots((Fraction(0), *others))
            first += [_padded((Fraction(0), *odd), size), _padded(odd, size)]
            even_row, odd_row = _unit(2 * number + 1, size), _unit(2 * number + 2, size)
            second += [_sum(even_row, odd_row, point), _sum(even_row, odd_row, -point)]
        if self._infinity:
            first.append(_padded(_with_roots(self._points), size))
            second.append(_unit(size - 1, size))
        return _matrix(first), _matrix(second)

    @functools.cached_property
    def output_stages(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrices whose product, the second times the first, is A, (m, m + r - 1)."""
        size, pairs = self.inputs, self._pairs
        first = [_unit(0, size)]
        for number in range(len(pairs)):
            plus, minus = _unit(2 * number + 1, size), _unit(2 * number + 2, size)
            first += [_sum(plus, minus, Fraction(1)), _sum(plus, minus, Fraction(-1))]
        if self._infinity:
            first.append(_unit(size - 1, size))
        second = []
        for power in range(self.outputs):
            row = [Fraction(power == 0)]
            for point in pairs:
                row += [point**power, Fraction(0)] if power % 2 == 0 else [Fraction(0), point**power]
            second.append([*row, *[Fraction(power == self.outputs - 1)] * self._infinity])
        return _matrix(first), _matrix(second)

    @property
    def input(self) -> np.ndarray:
        """B."""
        first, second = self.input_stages
        return second @ first

    @property
    def output(self) -> np.ndarray:
        """A."""
        first, second = self.output_stages
        return second @ first

    @property
    def growth(self) -> float:
        """How many times the largest input what B makes of it can be, along one axis."""
        return float(np.abs(self.input).sum(axis=1).max())

    @property
    def amplification(self) -> float:
        """How much larger than a convolution's own the bound on its rounding error becomes, in two dimensions."""
        return self.amplification_in_a_row**2

    @property
    def amplification_in_a_row(self) -> float:
        """The same along one axis.

        With |d| <= 1 and |g| <= 1 no sum of a direct convolution's products exceeds r; here the summands reach
        |A| (|G| 1 * |B| 1).
        """
        reached = np.abs(self.filter).sum(axis=1) * np.abs(self.input).sum(axis=1)
        return float((np.abs(self.output) @ reached).max() / self.taps)

    @property
    def _pairs(self) -> tuple[Fraction, ...]:
        return PAIRS[self.inputs - 2] if self._infinity else FINITE_PAIRS[self.inputs - 1]

    @property
    def _infinity(self) -> bool:
        """Whether infinity is one of the points."""
        return self.inputs % 2 == 0

    @property
    def _points(self) -> tuple[Fraction, ...]:
        """Without infinity."""
        return Fraction(0), *_both(self._pairs)


@dataclass(frozen=True)
class StridedTransform(Transform):
    """Every second output of three taps, along one axis: y_i = g_0 d_2i + g_1 d_2i+1 + g_2 d_2i+2.

    Inputs with an even number are filtered by two taps, which F(m, 2) does by m + 1 multiplications; those with an odd
    one by one tap, which takes m.
    """

    @property
    def inputs(self) -> int:
        return 2 * self.outputs + 1

    @property
    def step(self) -> int:
        return 2 * self.outputs

    @property
    def even(self) -> Transform:
        """What is done with the inputs of even numbers."""
        return Transform(self.outputs, 2)

    @functools.cached_property
    def filter(self) -> np.ndarray:
        whole = np.zeros((self.inputs, TAPS))
        whole[: self.even.inputs, ::2] = self.even.filter
        whole[self.even.inputs :, 1] = 1
        return whole

    @functools.cached_property
    def input_stages(self) -> tuple[np.ndarray, np.ndarray]:
        before, after = self.even.input_stages
        first = np.zeros((self.inputs, self.inputs))
        first[: self.even.inputs, ::2] = before
        first[self.even.inputs :, 1::2] = np.eye(self.outputs)
        return first, _beside_unit(after, self.outputs)

    @functools.cached_property
    def output_stages(self) -> tuple[np.ndarray, np.ndarray]:
        before, after = self.even.output_stages
        return _beside_unit(before, self.outputs), np.hstack([after, np.eye(self.outputs)])


def transformed_filters(weights: np.ndarray, transform: Transform) -> np.ndarray:
    """G g G^T in float64 for filters (F, C, 3, 3), as ((m + 2)^2, F, C)."""
    filters, channels = weights.shape[:2]
    taps = weights.reshape(filters * channels, TAPS * TAPS).T.astype(np.float64)
    return (np.kron(transform.filter, transform.filter) @ taps).reshape(-1, filters, channels)


def transformed_rows(weights: np.ndarray, transform: Transform) -> np.ndarray:
    """G g in float64 for filters of one axis (F, C, r), as (m + r - 1, F, C)."""
    return np.moveaxis(weights.astype(np.float64) @ transform.filter.T, -1, 0)


def _beside_unit(matrix: np.ndarray, size: int) -> np.ndarray:
    """A block-diagonal matrix of `matrix` and the unit matrix of `size`."""
    rows, columns = matrix.shape
    whole = np.zeros((rows + size, columns + size))
    whole[:rows, :columns] = matrix
    whole[rows:, columns:] = np.eye(size)
    return whole


def _both(points: Iterable[Fraction]) -> tuple[Fraction, ...]:
    return tuple(sign * point for point in points for sign in (1, -1))


def _with_roots(roots: Sequence[Fraction]) -> Polynomial:
    """The product of all x - root."""
    product: Polynomial = (Fraction(1),)
    for root in roots:
        shifted, scaled = (Fraction(0), *product), (*product, Fraction(0))
        product = tuple(a - root * b for a, b in zip(shifted, scaled, strict=True))
    return product


def _value(polynomial: Polynomial, x: Fraction) -> Fraction:
    return sum((c * x**power for power, c in enumerate(polynomial)), Fraction(0))


def _padded(polynomial: Polynomial, size: int) -> list[Fraction]:
    return [*polynomial, *[Fraction(0)] * (size - len(polynomial))]


def _unit(place: int, size: int) -> list[Fraction]:
    return [Fraction(number == place) for number in range(size)]


def _sum(row: list[Fraction], other: list[Fraction], factor: Fraction) -> list[Fraction]:
    return [a + factor * b for a, b in zip(row, other, strict=True)]


def _matrix(rows: Sequence[Sequence[Fraction]]) -> np.ndarray:
    return np.array([[float(entry) for entry in row] for row in rows])
