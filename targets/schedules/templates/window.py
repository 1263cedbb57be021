"""Windows over images: which inputs an output reads, and which of those lie outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from graphopt.ir import Node
from graphopt.runtime.reference_conv import explicit_pads
from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.tile import Row

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """(rows, columns) of the image, the result, the kernel and the rest; one spatial axis counts as one row.

    `axes` is the number of spatial axes that the tensors have. A flat image that is one column wide is `upright`: its
    pixels lie along the first axis.
    """

    axes: int
    image: Pair
    result: Pair
    kernel: Pair = (1, 1)
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pair = (0, 0)
    upright: bool = False

    @property
    def is_pointwise(self) -> bool:
        return self.kernel == (1, 1) and self.strides == (1, 1) and self.image == self.result

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def row(self) -> Row:
        return Row(
            self.result[1], self.image[1], self.kernel[1], self.strides[1], self.dilations[1], self.pads[1]
        )

    @property
    def rows(self) -> Row:
        """As `row`, from top to bottom."""
        return Row(
            self.result[0], self.image[0], self.kernel[0], self.strides[0], self.dilations[0], self.pads[0]
        )

    @property
    def whole_rows(self) -> range:
        """The rows of the result whose taps all lie in rows of the image."""
        whole = [row for row in range(self.result[0]) if self.rows.is_inside(row, 1)]
        return range(whole[0], whole[-1] + 1) if whole else range(0)

    def flat(self) -> Window:
        """A pointwise window with the image as one row."""
        pixels = (1, self.image[0] * self.image[1])
        return Window(self.axes, pixels, pixels, upright=self.image[1] == 1)

    def line(self, row: Expr, tap: Expr) -> Expr:
        """The row of the image that row tap `tap` of output row `row` reads."""
        return row * self.strides[0] + tap * self.dilations[0] - self.pads[0]

    def line_exists(self, line: Expr) -> Expr | None:
        """Whether `line` is a row of the image; None when every line is."""
        last = (
            (self.result[0] - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] - self.pads[0]
        )
        if self.pads[0] <= 0 and last < self.image[0]:
            return None
        return tirx.all(line >= 0, line < self.image[0])

    def position(self, start: Expr, column: int, tap: int, border: bool) -> Expr | None:
        """Where in the row a tap of output `start + column` reads; None when it falls outside."""
        offset = self.offset(start, column, tap, border)
        return None if offset is None else self.origin(start, border) + offset

    def origin(self, start: Expr, border: bool) -> Expr:
        """The place in the row that `offset` counts from."""
        return tirx.const(0, "int32") if border else start * self.row.stride - self.row.pad

    def offset(self, start: Expr, column: int, tap: int, border: bool) -> int | None:
        """What a tap of output `start + column` reads, from `origin` on; None when it falls outside.

        That is known when the kernel is built: at a border `start` is a number, elsewhere all taps are inside.
        """
        row = self.row
        if not border:
            return column * row.stride + tap * row.dilation
        position = row.position(int(start) + column, tap)
        return position if 0 <= position < row.inputs else None

    def pixel(self, row: Expr, column: Expr) -> list[Expr]:
        """The spatial indices of an output. In a flat image the column alone tells the place."""
        if self.axes == 1:
            return [column]
        return [column, row] if self.upright else [row, column]


def window_of_image(node: Node, image: Sequence[int], kernel: Sequence[int]) -> Window:
    """The window of a node whose result is in blocks, over an image with the given spatial axes."""
    rank = len(kernel)
    strides = node.ints("strides", (1,) * rank)
    dilations = node.ints("dilations", (1,) * rank)
    assert strides is not None and dilations is not None
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = explicit_pads(node, image, span, strides)[:rank]
    result = node.output.static_shape[2:-1]
    return Window(
        rank,
        _pair(image, 1),
        _pair(result, 1),
        _pair(kernel, 1),
        _pair(strides, 1),
        _pair(dilations, 1),
        _pair(pads, 0),
    )


def _pair(values: Sequence[int], fill: int) -> Pair:
    first, second = (*(fill,) * (2 - len(values)), *values)
    return first, second
