"""The loops of a kernel for images that are channels-last."""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.channels_last.plan import Plan
from graphopt.targets.schedules.templates.channels_last.strips import Strips
from graphopt.targets.schedules.templates.dot.pointer import Pointer, Words
from graphopt.targets.schedules.templates.epilogue import Epilogue
from graphopt.targets.schedules.templates.kernel import Buffers, build_kernel, each, repeated, settled


class ChannelsLastKernel:
    """Writes one kernel."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.layer = plan.layer

    def function(self, sizes: dict[int, int]) -> tirx.PrimFunc:
        """`sizes` tells the elements of packed operands, by number."""
        return build_kernel(self.layer.body, self._emit, sizes)

    def _emit(self, buffers: Buffers) -> None:
        layer = self.layer
        x, weights, bias = layer.operand(0), layer.operand(1), layer.bias
        assert x is not None and weights is not None
        self.weights = Pointer(buffers[weights])
        self.starts: Pointer | None = None
        if bias is not None:
            self.starts = Pointer(buffers[bias])
        elif layer.starts_beside_weights:
            self.starts = Words(buffers[weights])
            self.weights = Pointer(buffers[weights], (self.starts + layer.groups * layer.filters).offset)
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)
        self.strips = Strips(self.plan, buffers[x])
        self._walk()

    def _walk(self) -> None:
        layer, plan = self.layer, self.plan
        rows, width = plan.rows
        with repeated(layer.batch) as image, repeated(rows) as row, repeated(plan.across) as number:
            start = number * plan.pixels
            if width % plan.pixels:
                start = settled(tirx.min(start + tirx.const(0, "int32"), width - plan.pixels))
            with repeated(layer.groups) as group:
                self.strips.fill(image, group, row, start)
                with repeated(plan.tiles) as tile:
                    self._tile(image, group, row, start, tile)

    def _tile(self, image: Expr, group: Expr, row: Expr, start: Expr, tile: Expr) -> None:
        layer, plan = self.layer, self.plan
        first = tile * plan.channels
        if layer.filters % plan.channels and plan.tiles > 1:
            first = settled(tirx.min(first + tirx.const(0, "int32"), plan.last_filter))
        filter = group * layer.filters + first
        sums = T.alloc_buffer((plan.pixels * plan.channels,), "int32", scope="local")
        for channel in range(plan.channels):
            begin = self._start(filter + channel, channel)
            for pixel in range(plan.pixels):
                T.buffer_store(sums, begin, [pixel * plan.channels + channel])
        with repeated(plan.runs) as run:
            number = (group * plan.tiles + tile) * plan.runs + run
            x = self.strips.run(image, group, row, start, run)
            plan.inner.add(sums, plan.shape, x, plan.step, self.weights, number, plan.filled)
        for step in each(plan.pixels, looped=self.epilogue.is_long):
            with step as p:
                for channel in range(plan.stored):
                    indices = layer.place(image, row, start + p, filter + channel)
                    sum = sums[p * plan.channels + channel]
                    if plan.inner.shift:
                        sum = sum >> tirx.const(plan.inner.shift, "int32")
                    self.epilogue.store(sum, indices)

    def _start(self, filter: Expr, channel: int) -> Expr:
        """What the sums of a filter begin with; those of channels that there are not begin with zero."""
        if self.starts is None or channel >= self.plan.stored:
            return tirx.const(0, "int32")
        there = self.starts + filter
        if not isinstance(there, Words):
            return there.element()
        return tirx.reinterpret("int32", there.buffer[tirx.Ramp(there.offset, 1, there.elements_per_word)])
