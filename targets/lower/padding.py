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
from graphopt.targets.lower.windows import pad_spatial


def _pad(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    x = data_of(inputs)
    begin, end = _pads(node, len(shape_of(x)))
    mode = node.str("mode", "constant")
    if mode == "constant":
        value = inputs[2] if len(inputs) > 2 else None
        filler = tirx.const(0, x.dtype) if value is None else value(*(0 for _ in value.shape))
        return pad_spatial(x, begin, end, filler, leading=0)
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


def _center_crop_pad(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """The middle of a longer axis; a shorter one in the middle of zeros. Halves round down."""
    x = data_of(inputs)
    missing = [out - dim for out, dim in zip(node.output.static_shape, shape_of(x), strict=True)]
    begin = [count // 2 if count > 0 else -(-count // 2) for count in missing]
    end = [count - b for count, b in zip(missing, begin, strict=True)]
    return pad_spatial(x, begin, end, tirx.const(0, x.dtype), leading=0)


LOWERINGS: dict[str, Lowering] = {"CenterCropPad": _center_crop_pad, "Pad": _pad}
