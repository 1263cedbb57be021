"""Pad and CenterCropPad.

Negative pads cut first; the other modes than `constant` then continue what is left.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import Node
from graphopt.targets.lower.movement import data_of
from graphopt.targets.lower.support import where
from graphopt.targets.lower.tensors import Expr, Lowering, integers, normalise_axis, shape_of


def _pad(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = data_of(inputs)
    begin, end = _pads(node, len(shape_of(x)))
    mode = node.str("mode", "constant")
    if mode == "constant":
        value = inputs[2] if len(inputs) > 2 else None
        filler = tirx.const(0, x.dtype) if value is None else value(*(0 for _ in value.shape))
        return _place(x, begin, node.output.static_shape, filler)
    if mode not in CONTINUED:
        raise UnsupportedError(f"the mode {mode} is unknown", where=where(node))
    continued = CONTINUED[mode]

    def element(*indices: Expr) -> Expr:
        places = []
        for index, dim, b, e in zip(indices, shape_of(x), begin, end, strict=True):
            cut = max(-b, 0)
            left = dim - cut - max(-e, 0)
            inner = index - max(b, 0)
            places.append(cut + (continued(inner, left) if b > 0 or e > 0 else inner))
        return x(*places)

    return te.compute(node.output.static_shape, element, name="pad")


def _pads(node: Node, rank: int) -> tuple[list[int], list[int]]:
    """Elements to add in front of and behind each axis."""
    pads, axes = integers(node, 1), integers(node, 3)
    assert pads is not None
    padded = range(rank) if axes is None else [normalise_axis(axis, rank) for axis in axes]
    begin, end = [0] * rank, [0] * rank
    for number, axis in enumerate(padded):
        begin[axis], end[axis] = pads[number], pads[number + len(padded)]
    return begin, end


def _reflected(index: Expr, dim: int) -> Expr:
    """Mirrored at the first and the last element, which are not repeated: period 2 (dim - 1)."""
    if dim == 1:
        return tirx.const(0, "int32")
    period = 2 * (dim - 1)
    place = tirx.floormod(index, period)
    return tirx.min(place, period - place)


def _nearest(index: Expr, dim: int) -> Expr:
    return tirx.min(tirx.max(index, 0), dim - 1)


def _wrapped(index: Expr, dim: int) -> Expr:
    return tirx.floormod(index, dim)


CONTINUED: dict[str, Callable[[Expr, int], Expr]] = {
    "edge": _nearest,
    "reflect": _reflected,
    "wrap": _wrapped,
}
"""Which of `dim` elements continues them at `index`."""


def _place(x: te.Tensor, begin: list[int], shape: tuple[int, ...], filler: Expr) -> te.Tensor:
    """`x` moved by `begin` in a tensor of `shape`, which is `filler` elsewhere."""

    def element(*indices: Expr) -> Expr:
        tests, places = [], []
        for index, dim, out, offset in zip(indices, shape_of(x), shape, begin, strict=True):
            places.append(index - offset)
            if offset > 0:
                tests.append(index >= offset)
            if out > dim + offset:
                tests.append(index < dim + offset)
        return tirx.if_then_else(tirx.all(*tests), x(*places), filler) if tests else x(*places)

    if not all(shape_of(x)):
        return te.compute(shape, lambda *_: filler, name="pad")
    return te.compute(shape, element, name="pad")


def _center_crop_pad(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The middle of a longer axis; a shorter one in the middle of zeros. Halves round down."""
    x = data_of(inputs)
    shape = node.output.static_shape
    begin = [
        (out - dim) // 2 if out >= dim else -((dim - out) // 2)
        for out, dim in zip(shape, shape_of(x), strict=True)
    ]
    return _place(x, begin, shape, tirx.const(0, x.dtype))


LOWERINGS: dict[str, Lowering] = {"CenterCropPad": _center_crop_pad, "Pad": _pad}
