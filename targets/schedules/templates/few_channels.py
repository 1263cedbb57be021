"""Images of a few channels into one block of bytes: what a first convolution reads.

    Pack(Transpose(Cast(x) ...))      channels-last, or channels-first without the Transpose; from floats or bytes

A run of pixels is converted as it lies, one register for each channel or as many in a row, and then dealt out with one
shuffle, so that each pixel's channels lie side by side, zeros behind them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.ir import KERNEL, Graph, Node, Value
from graphopt.ir.layout import Blocked, blocked_of
from graphopt.targets.device import Target
from graphopt.targets.lower.elementwise import FUNCTIONS
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot.pointer import Pointer
from graphopt.targets.schedules.templates.epilogue import CONVERSIONS, QUANTISED
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, spread, taken_apart
from graphopt.targets.schedules.templates.undecided import Undecided

PIXELS = 16
"""Of a run."""

MOST_CHANNELS = 8

LAST_TO_FIRST = ((0, 2, 1), (0, 3, 1, 2))

CONVERTING = frozenset("BitwiseXor Cast Clip Mul QuantizeLinear Sub".split())
"""What may be done to each element on the way."""


@dataclass(frozen=True)
class FewChannels(Undecided):
    """`layout` is that of the result, one block; the input `x` goes through `steps`."""

    body: Graph
    x: Value
    steps: tuple[Node, ...]
    layout: Blocked
    channels_last: bool
    name: str = "few-channels"

    @classmethod
    def match(cls, body: Graph, constants: Mapping[int, np.ndarray], target: Target) -> FewChannels | None:
        *before, last = body.nodes
        layout = blocked_of(last.output.type)
        if not last.is_op("Pack", domain=KERNEL) or layout is None or layout.blocks > 1:
            return None
        if layout.block > MOST_CHANNELS or last.output.dtype not in QUANTISED:
            return None
        if max(len(body.inputs), len(body.outputs)) > 1:
            return None
        if math.prod(last.output.static_shape[2:-1]) < PIXELS:
            return None
        moves = [node for node in before if node.is_op("Transpose")]
        if len(moves) > 1 or any(node.ints("perm") not in LAST_TO_FIRST for node in moves):
            return None
        steps = tuple(node for node in before if node not in moves)
        if not all(map(_converts, steps)) or any(len(v.uses) > 1 for v in body.values() if not v.is_constant):
            return None
        return cls(body, body.inputs[0], steps, layout, bool(moves))

    def build(self, decision: Mapping[str, int]) -> tirx.PrimFunc:
        return build_kernel(self.body, self._emit)

    def _emit(self, buffers: Buffers) -> None:
        result = self.body.outputs[0]
        batch, _, *image, block = result.static_shape
        pixels, channels = math.prod(image), self.layout.channels
        runs = -(-pixels // PIXELS)
        with spread(batch * runs, self.x.size) as task:
            number, run = taken_apart(task, batch, runs)
            first = tirx.min(run * PIXELS, pixels - PIXELS)
            read = T.alloc_buffer((channels * PIXELS,), result.dtype.label, scope="local")
            for part in range(channels):
                with T.vectorized(PIXELS) as lane:
                    if self.channels_last:
                        place = (number * pixels + first) * channels + part * PIXELS + lane
                    else:
                        place = (number * channels + part) * pixels + first + lane
                    T.buffer_store(read, self._converted(buffers[self.x][place]), [part * PIXELS + lane])
            dealt = self._dealt(Pointer(read).load(channels * PIXELS), block)
            Pointer(buffers[result], (number * pixels + first) * block).store(dealt)

    def _converted(self, element: Expr) -> Expr:
        for node in self.steps:
            operands = [element if v and v.constant is None else _number(v) for v in node.inputs]
            function = CONVERSIONS.get(node.op_type) or FUNCTIONS[node.op_type]
            element = function(node, *operands)
        return element

    def _dealt(self, vector: Expr, block: int) -> Expr:
        """Pixel by pixel, filled up with zeros."""
        channels = self.layout.channels
        size = channels * PIXELS
        pixel, channel = (channels, 1) if self.channels_last else (1, PIXELS)
        order = [
            p * pixel + c * channel if c < channels else size for p in range(PIXELS) for c in range(block)
        ]
        zeros = tirx.Broadcast(tirx.const(0, self.body.outputs[0].dtype.label), len(order))
        return tirx.Shuffle([vector, zeros], [tirx.const(place, "int32") for place in order])


def _converts(node: Node) -> bool:
    """Element by element, with nothing but single numbers beside what it converts."""
    if node.domain or node.op_type not in CONVERTING:
        return False
    numbers = [v for v in node.inputs if v is not None and v.constant is not None]
    computed = [v for v in node.inputs if v is not None and v.constant is None]
    return len(computed) == 1 and all(v.scalar() is not None for v in numbers)


def _number(value: Value | None) -> Expr | None:
    if value is None:
        return None
    return tirx.const(value.scalar(), value.dtype.label)
