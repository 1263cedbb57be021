"""What convolutions and pools share: windows over padded spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import Node
from graphopt.runtime.reference_conv import explicit_pads
from graphopt.targets.lower.tensors import Expr, shape_of


@dataclass(frozen=True)
class Window:
    """A sliding window: one entry per spatial axis; `begin` and `end` are pads in elements."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def span(self) -> tuple[int, ...]:
        """Elements from the first tap to the last, both included."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def axes(self) -> list[tirx.IterVar]:
        return [
            te.reduce_axis((0, k), name=f"r{'dhw'[3 - self.rank :][i]}") for i, k in enumerate(self.kernel)
        ]

    def positions(self, outputs: Sequence[Expr], taps: Sequence[Expr]) -> list[Expr]:
        """Where in the padded input the taps of an output element lie."""
        return [o * s + t * d for o, s, t, d in zip(outputs, self.strides, taps, self.dilations, strict=True)]


def window_of(node: Node, kernel: Sequence[int], spatial: Sequence[int]) -> Window:
    """The window of a Conv or pool node over input axes of the given sizes."""
    rank = len(kernel)
    if rank > 3:
        raise UnsupportedError(f"{rank} spatial axes", where=f"node '{node.name}' ({node.key})")
    strides = node.ints("strides", (1,) * rank)
    dilations = node.ints("dilations", (1,) * rank)
    assert strides is not None and dilations is not None
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = explicit_pads(node, spatial, span, strides)
    return Window(tuple(kernel), strides, dilations, pads[:rank], pads[rank:])


def pad_spatial(
    x: te.Tensor, begin: Sequence[int], end: Sequence[int], value: Expr, *, leading: int = 2
) -> te.Tensor:
    """`x` with its axes after the first `leading` padded by `value`; negative pads cut.

    One guard for each axis, the last one inside: the others do not change along a row.
    """
    if not any(begin) and not any(end):
        return x
    shape = shape_of(x)
    before, behind = ((0,) * leading + tuple(side) for side in (begin, end))
    padded = tuple(dim + b + e for dim, b, e in zip(shape, before, behind, strict=True))

    def element(*indices: Expr) -> Expr:
        result = x(*(index - b for index, b in zip(indices, before, strict=True)))
        for index, dim, b, e in reversed(list(zip(indices, shape, before, behind, strict=True))):
            tests = [index >= b] if b > 0 else []
            tests += [index < b + dim] if e > 0 else []
            result = tirx.if_then_else(tirx.all(*tests), result, value) if tests else result
        return result

    if not all(shape):
        return te.compute(padded, lambda *_: value, name="pad")
    return te.compute(padded, element, name="pad")
