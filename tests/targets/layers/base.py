"""What the layers are built with."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.ir import Value
from tests.passes.helpers import Draft

Layer = Callable[[Draft], Value]


def conv(
    g: Draft, x: Value, made: int, kernel: tuple[int, ...], *, bias: bool = True, **attributes: object
) -> Value:
    channels = x.static_shape[1] // int(attributes.get("group", 1))  # type: ignore[call-overload]
    operands = [g.weight(made, channels, *kernel), *([g.weight(made)] if bias else [])]
    return g.op("Conv", x, *operands, **attributes)


def in_blocks(g: Draft, *shape: int) -> Value:
    """An image that some convolution made."""
    return conv(g, g.input(shape[0], 3, *shape[2:]), shape[1], (1,) * len(shape[2:]))


def prepared(g: Draft, x: Value) -> Value:
    """Scaled, shifted and cut."""
    return g.op("Relu", g.op("Add", g.op("Mul", x, g.weight(x.static_shape[1], 1, 1)), g.weight(1)))
