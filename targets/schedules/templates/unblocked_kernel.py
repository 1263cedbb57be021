"""The kernel of a convolution from an image that is laid out anew: first the image, then tile by tile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.dot import Pointer, Words, kept_whole
from graphopt.targets.schedules.templates.epilogue import Epilogue
from graphopt.targets.schedules.templates.integer_panels import in_vectors
from graphopt.targets.schedules.templates.kernel import (
    Buffers,
    build_kernel,
    either,
    element_type,
    only_if,
    repeated,
    spread,
    taken_apart,
)
from graphopt.targets.schedules.templates.starts import BLOCK

if TYPE_CHECKING:
    from graphopt.targets.schedules.templates.unblocked_convolution import UnblockedConvolution


class UnblockedKernel:
    """Writes one kernel."""

    def __init__(self, layer: UnblockedConvolution, decision: Mapping[str, int]) -> None:
        self.layer, self.dot, self.window = layer, layer.dot, layer.window
        self.panels = layer.panels(decision)
        self.columns = decision["columns"]
        self.rows, self.width = layer.image
        self.row_bytes = self.width * layer.pixel

    def function(self) -> tirx.PrimFunc:
        layer = self.layer
        sizes = {layer.number(1): self.panels.all_elements}
        if layer.anchor.input(2) is not None:
            sizes[layer.number(2)] = 1
        return build_kernel(layer.body, self.emit, sizes)

    def emit(self, buffers: Buffers) -> None:
        layer = self.layer
        x, w = layer.anchor.inputs[:2]
        assert x is not None and w is not None
        self.weights = buffers[w]
        self.epilogue = Epilogue(layer.body, layer.anchor, buffers)
        self.x = self._laid_out(buffers[x])
        pieces = -(-layer.outputs // self.columns)
        rows, columns = self.window.result
        work = layer.batch * rows * columns * layer.depth * layer.filters
        sizes = layer.batch, self.panels.count, layer.lines, pieces
        with self.dot.tasks(
            layer.batch * self.panels.count * layer.lines * pieces, work, layer.target
        ) as task:
            image, panel, line, piece = taken_apart(task, *sizes)
            vectors = -(-layer.filters // self.dot.lanes)
            rest = vectors % self.panels.vectors
            either(
                panel < self.panels.count - 1 if rest and self.panels.count > 1 else None,
                lambda: self._tile(image, panel, line, piece, min(vectors, self.panels.vectors)),
                lambda: self._tile(image, panel, line, piece, rest),
            )

    # --- the image ---

    def _laid_out(self, x: tirx.Var) -> tirx.Var:
        """Pixels with all their channels, and zero points around them."""
        layer, window = self.layer, self.window
        dtype = element_type(x)
        zero = tirx.const(layer.anchor.int("x_zero_point"), dtype)
        beyond = MOST_READ * layer.strides[1] * layer.pixel + layer.run + layer.dot.depth
        size = layer.batch * self.rows * self.row_bytes + beyond
        made = kept_whole(T.alloc_buffer((size,), dtype), size)
        top, left = (0, 0) if layer.is_sampled else window.pads
        height, width = window.image
        steps = window.strides if layer.is_sampled else (1, 1)
        inside = min(-(-width // steps[1]), self.width - left)

        def fill(target: Expr, count: int) -> None:
            def store(start: Expr | int, size: int) -> None:
                with T.vectorized(size) as lane:
                    T.buffer_store(made, zero, [target + start + lane])

            in_vectors(count, store)

        work = layer.batch * self.rows * self.row_bytes
        with spread(layer.batch * self.rows, work * COPIED_FOR_A_PRODUCT) as number:
            image, line = taken_apart(number, layer.batch, self.rows)
            target = number * self.row_bytes

            def copy() -> None:
                fill(target, left * layer.pixel)
                row = (line - top) * steps[0]
                self._copy_row(x, made, image, row, target + left * layer.pixel, inside, steps[1])
                after = left + inside
                fill(target + after * layer.pixel, (self.width - after) * layer.pixel)

            exists = None
            if top > 0 or (self.rows - 1 - top) * steps[0] >= height:
                exists = tirx.all(line >= top, (line - top) * steps[0] < height)
            either(exists, copy, lambda: fill(target, self.row_bytes))
        return made

    def _copy_row(
        self, x: tirx.Var, made: tirx.Var, image: Expr, row: Expr, target: Expr, count: int, step: int
    ) -> None:
        """`count` pixels of a row of the image, every `step`-th."""
        block, pixel = self.layer.block, self.layer.pixel
        blocks, (height, width) = pixel // block, self.window.image
        source = (image * (blocks * height) + row) * (width * block)
        if blocks == 1 and step == 1:
            in_vectors(
                count * pixel, lambda start, size: _copy(x, source + start, made, target + start, size)
            )
            return
        with T.serial(count) as column, repeated(blocks) as number:
            place = source + number * (height * width * block) + column * (step * block)
            _copy(x, place, made, target + column * pixel + number * block, block)

    # --- the sums ---

    def _tile(self, image: Expr, panel: Expr, line: Expr, piece: Expr, vectors: int) -> None:
        layer, dot, panels = self.layer, self.dot, self.panels
        first = panel * panels.elements
        start = piece * self.columns
        sums = dot.begin(self.columns, vectors, Words(self.weights, first))
        place = (image * self.rows + line * layer.strides[0]) * self.row_bytes
        apart = layer.strides[1] * layer.pixel
        with (
            repeated(self.window.kernel[0]) as down,
            repeated(layer.runs) as across,
            repeated(layer.steps) as step,
        ):
            source = place + down * (self.window.dilations[0] * self.row_bytes)
            source = source + across * (self.window.dilations[1] * layer.pixel) + step * dot.depth
            inputs = [Pointer(self.x, source + (start + column) * apart) for column in range(2)]
            number = (down * layer.runs + across) * layer.steps + step
            weights = first + panels.start_elements + number * (panels.vectors * dot.step_bytes)
            dot.step(sums, inputs, Pointer(self.weights, weights))
        self._store(dot.results(sums), image, panel, line, start, vectors)

    def _store(
        self, results: tirx.Var, image: Expr, panel: Expr, line: Expr, start: Expr, vectors: int
    ) -> None:
        layer, lanes = self.layer, self.dot.lanes
        rows, columns = self.window.result
        with T.serial(self.columns) as column:
            output = start + column
            row, across, exists = line, output, output < layer.outputs
            if layer.runs_over_rows and rows > 1:
                row, across = tirx.indexdiv(output, layer.pitch), tirx.indexmod(output, layer.pitch)
                exists = tirx.all(exists, across < columns)
            with only_if(None if layer.outputs % self.columns == 0 and layer.pitch == columns else exists):
                for vector in range(vectors):
                    with T.vectorized(BLOCK) as lane:
                        block = panel * self.panels.vectors + vector
                        accumulator = results[(column * vectors + vector) * lanes + lane]
                        indices = image, block, *self.window.pixel(row, across), lane
                        self.epilogue.store(accumulator, indices)


def _copy(x: tirx.Var, source: Expr, made: tirx.Var, target: Expr, count: int) -> None:
    with T.vectorized(count) as lane:
        T.buffer_store(made, x[source + lane], [target + lane])


MOST_READ = 64
"""Columns that are read behind the last output at most."""

COPIED_FOR_A_PRODUCT = 8
"""Bytes that are copied in the time of so many products."""
