"""What kernels of matrix products have in common: tiles of rows times panels of weights.

Weights are packed in panels as wide as a tile. A task is one tile; neighbouring tasks read the same panel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from tvm import tirx

from graphopt.ir import Graph, Node
from graphopt.targets.lower.tensors import Expr, unflatten
from graphopt.targets.schedules.templates.epilogue import reads_by_pixel
from graphopt.targets.schedules.templates.kernel import either, spread, taken_apart


class PanelKernel(ABC):
    """Writes a product of `rows` rows with `width` columns, in tiles of `columns` rows and of `wide` columns.

    Of several `batches` each has so many rows, one after another, and panels of its own; `batch` is that of a task.
    """

    def __init__(
        self, body: Graph, anchor: Node, rows: int, width: int, columns: int, wide: int, batches: int = 1
    ) -> None:
        self.rows, self.width, self.batches = rows, width, batches
        self.columns, self.wide = columns, wide
        self.panels = -(-width // wide)
        self.leading = anchor.output.static_shape[:-1]
        self.flat = not reads_by_pixel(body, anchor, range(len(self.leading)))

    @abstractmethod
    def tile(self, panel: Expr, start: Expr, columns: int, width: int) -> None:
        """The rows from `start` on times the first `width` columns of a panel."""

    def tasks(self, count: int, work: int) -> AbstractContextManager[Expr]:
        """A loop over `count` tasks."""
        return spread(count, work)

    def spread_tiles(self, work: int) -> None:
        """All tiles, on threads where `work` operations pay for it."""
        pieces, rest = -(-self.rows // self.columns), self.rows % self.columns
        with self.tasks(self.batches * self.panels * pieces, work) as self.task:
            self.batch, panel, piece = taken_apart(self.task, self.batches, self.panels, pieces)
            start = self.batch * self.rows + piece * self.columns
            either(
                piece < pieces - 1 if rest and pieces > 1 else None,
                lambda: self._panel(panel, start, self.columns if pieces > 1 or not rest else rest),
                lambda: self._panel(panel, start, rest),
            )

    def _panel(self, panel: Expr, start: Expr, columns: int) -> None:
        """The tile of `columns` rows in a panel; the last panel may be narrower."""
        missing = self.panels * self.wide - self.width
        either(
            panel < self.panels - 1 if missing and self.panels > 1 else None,
            lambda: self.tile(panel, start, columns, self.wide - (missing if self.panels == 1 else 0)),
            lambda: self.tile(panel, start, columns, self.wide - missing),
        )

    def indices(self, row: Expr, column: Expr) -> list[Expr]:
        """The indices of an output; where nothing tells the leading axes apart they count as one."""
        if self.flat:
            longer = [axis for axis, dim in enumerate(self.leading) if dim > 1]
            at = longer[-1] if longer else 0
            zero = tirx.const(0, "int32")
            return [*(row if axis == at else zero for axis in range(len(self.leading))), column]
        return [*unflatten(row, self.leading), column]
