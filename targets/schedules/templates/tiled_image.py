"""The loops of a direct convolution: images, groups, tiles of channels, rows, and the tiles of a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.kernel import either, repeated, spread, taken_apart
from graphopt.targets.schedules.templates.tile import Segment
from graphopt.targets.schedules.templates.window import Window


@dataclass(frozen=True)
class Tile:
    """Neighbouring outputs whose sums are in registers at once: columns `start` and on, of `vectors` of channels.

    `first` is the first vector of all; `part` numbers the weights; `source` the first block of channels read.
    At a `border` some taps fall outside, and `start` is a number.
    """

    image: Expr
    first: Expr
    part: Expr
    source: Expr
    row: Expr
    start: Expr
    columns: int
    border: bool
    vectors: int


class TiledImage(ABC):
    """Writes every tile of a blocked result in turn.

    A group makes `channel_vectors` of channels, `vectors` in each tile, from `blocks` of channels.
    """

    def __init__(
        self,
        window: Window,
        batch: int,
        groups: int,
        blocks: int,
        channel_vectors: int,
        columns: int,
        vectors: int,
    ) -> None:
        self.window = window
        self.batch = batch
        self.groups = groups
        self.blocks = blocks
        self.channel_vectors = channel_vectors
        self.columns = columns
        self.vectors = vectors
        self.tiles = -(-channel_vectors // vectors)

    @abstractmethod
    def write_tile(self, tile: Tile) -> None:
        """Sum up, finish and store a tile."""

    def walk(self, work: int) -> None:
        """Write all tiles, a task for each row of tiles, or for each tile where there is one row; `work` is what a
        pixel of a group takes."""
        rows, segments = self.window.result[0], self.window.row.segments(self.columns)
        sizes = self.batch, self.groups, self.tiles
        whole = self.batch * self.groups * rows * self.window.result[1] * work
        tasks = self.batch * self.groups * self.tiles
        if rows == 1:
            count = sum(segment.count for segment in segments)
            with spread(tasks * count, whole) as self.task:
                image, group, tile, piece = taken_apart(self.task, *sizes, count)
                self._piece(image, group, tile, piece, segments)
            return
        with spread(tasks * rows, whole) as self.task:
            image, group, tile, row = taken_apart(self.task, *sizes, rows)
            for segment in segments:
                with repeated(segment.count) as piece:
                    self._tiles(image, group, tile, row, segment, piece)

    def _piece(self, image: Expr, group: Expr, tile: Expr, piece: Expr, segments: Sequence[Segment]) -> None:
        """Tile number `piece` of a single row."""
        first, *others = segments
        either(
            piece < first.count if others else None,
            lambda: self._tiles(image, group, tile, 0, first, 0 if first.border else piece),
            lambda: self._piece(image, group, tile, piece - first.count, others),
        )

    def _tiles(self, image: Expr, group: Expr, tile: Expr, row: Expr, segment: Segment, piece: Expr) -> None:
        """One tile; the last of a row of tiles may have fewer vectors."""

        def write(vectors: int) -> None:
            first = group * self.channel_vectors + tile * self.vectors
            part = group * self.tiles + tile
            source = image * (self.blocks * self.groups) + group * self.blocks
            start = segment.start + piece * segment.columns
            place = (image, first, part, source, row, start)
            self.write_tile(Tile(*place, segment.columns, segment.border, vectors))

        rest = self.channel_vectors % self.vectors
        if rest and self.tiles > 1:
            either(tile < self.tiles - 1, lambda: write(self.vectors), lambda: write(rest))
        else:
            write(rest or self.vectors)
