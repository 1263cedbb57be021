"""DFT and STFT as products with a matrix of cosines and sines.

    X[k] = sum over n of  x[n] exp(-2 pi i n k / N)

A complex number is two elements of the last axis, so the transform is a real product of (n, part) by (k, part).
The kernel makes the matrix once a run, from a table of one turn that is computed in float64. The product costs N
operations an element, and no rounding but that of its sum; it suits the lengths of audio frames.
"""

from __future__ import annotations

import math

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.tensors import (
    Expr,
    Lowering,
    dtype_of,
    integers,
    normalise_axis,
    shape_of,
    wide_dtype,
)

REAL, IMAGINARY = 0, 1


def dft(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x (..., N, ..., 1 or 2) -> (..., K, ..., 2) along `axis`, which is cut or continued by zeros to the length.

    With `onesided` only the first half of the frequencies is made; inverted, only they are given and the result is
    real.
    """
    x = inputs[0]
    assert x is not None
    shape = shape_of(x)
    axis = normalise_axis((integers(node, 2) or [-2])[0], len(shape))
    out = node.output.static_shape
    inverse, onesided = bool(node.int("inverse")), bool(node.int("onesided"))
    length = (integers(node, 1) or [_default_length(shape[axis], inverse and onesided)])[0]
    kind = wide_dtype(dtype_of(x))
    if inverse and onesided:
        given = min(shape[axis], length // 2 + 1)
        basis = _real_inverse_basis(length, given, shape[-1], kind)
    else:
        given = min(shape[axis], length)
        basis = _basis(length, given, shape[-1], out[axis], kind, inverse=inverse)
    n, part = te.reduce_axis((0, given), "rn"), te.reduce_axis((0, shape[-1]), "rp")

    def element(*i: Expr) -> Expr:
        read = x(*i[:axis], n, *i[axis + 1 : -1], part)
        return te.sum(read.astype(kind) * basis(n, part, i[axis], i[-1]), axis=[n, part])

    sums = te.compute(out, element, name="matmul")
    if kind == dtype_of(x):
        return sums
    return te.compute(out, lambda *i: sums(*i).astype(dtype_of(x)), name="dft")


def _default_length(size: int, from_half: bool) -> int:
    return 2 * (size - 1) if from_half else size


def _turn(length: int) -> te.Tensor:
    """(length, 2): cosine and sine of the multiples of a whole turn's part, in float64."""

    def element(j: Expr, part: Expr) -> Expr:
        angle = j.astype("float64") * (2 * math.pi / length)
        return tirx.Select(tirx.EQ(part, REAL), tirx.cos(angle), tirx.sin(angle))

    return te.compute((length, 2), element, name="turn")


def _basis(length: int, given: int, parts: int, made: int, dtype: str, *, inverse: bool) -> te.Tensor:
    """(n, part of x, k, part of X): exp(-+ 2 pi i n k / length), as the real form of a complex factor."""
    turn = _turn(length)
    scale = 1 / length if inverse else 1.0

    def element(n: Expr, part: Expr, k: Expr, result: Expr) -> Expr:
        place = tirx.indexmod(n * k, length)
        cosine, sine = turn(place, REAL), turn(place, IMAGINARY)
        forward = tirx.EQ(part, IMAGINARY) if inverse else tirx.EQ(result, IMAGINARY)
        value = tirx.Select(tirx.EQ(part, result), cosine, tirx.Select(forward, -sine, sine))
        return (value * scale).astype(dtype)

    return te.compute((given, parts, made, 2), element, name="basis")


def _real_inverse_basis(length: int, given: int, parts: int, dtype: str) -> te.Tensor:
    """(k, part of X, n, 1): a frequency and its mirror image together, halves at both ends of the spectrum."""
    turn = _turn(length)

    def element(k: Expr, part: Expr, n: Expr, result: Expr) -> Expr:
        place = tirx.indexmod(n * k, length)
        alone = tirx.any(tirx.EQ(k, 0), tirx.EQ(k * 2, length))
        share = tirx.Select(alone, tirx.const(1 / length, "float64"), tirx.const(2 / length, "float64"))
        value = tirx.Select(tirx.EQ(part, REAL), turn(place, REAL), -turn(place, IMAGINARY))
        return (value * share).astype(dtype)

    return te.compute((given, parts, length, 1), element, name="basis")


def stft(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """Signal (B, T, 1 or 2) -> (B, frames, K, 2): the DFT of each frame, weighted by the window."""
    signal, _, window, _ = [*inputs, None, None][:4]
    assert signal is not None
    batch, _, parts = shape_of(signal)
    step = (integers(node, 1) or [1])[0]
    length = (integers(node, 3) or [shape_of(window)[0] if window is not None else shape_of(signal)[1]])[0]
    out = node.output.static_shape
    kind = wide_dtype(dtype_of(signal))

    def frame(b: Expr, f: Expr, n: Expr, part: Expr) -> Expr:
        value = signal(b, f * step + n, part).astype(kind)
        return value if window is None else value * window(n).astype(kind)

    frames = te.compute((batch, out[1], length, parts), frame, name="frames")
    basis = _basis(length, length, parts, out[2], kind, inverse=False)
    n, part = te.reduce_axis((0, length), "rn"), te.reduce_axis((0, parts), "rp")
    sums = te.compute(
        out,
        lambda b, f, k, r: te.sum(frames(b, f, n, part) * basis(n, part, k, r), axis=[n, part]),
        name="matmul",
    )
    return te.compute(out, lambda *i: sums(*i).astype(dtype_of(signal)), name="stft")


LOWERINGS: dict[str, Lowering] = {"DFT": dft, "STFT": stft}
