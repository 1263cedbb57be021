"""The first layers in bands of rows, one after the other; what rows of two bands have in common is computed twice.

    v = f(x)   -->   Concat(f(x[rows of band 0]), f(x[rows of band 1]), ...)        along the height

f are convolutions, pools and element-wise operators on one image. Of a band only the rows are computed that the band of
v needs; pads stay at the image's own borders. What is alive is the band's part of the wide images, the rows of x that
are still to be read, and the bands of v that are done. Source: Lin et al., "MCUNetV2: memory-efficient patch-based
inference for tiny deep learning", 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from graphopt.errors import UsageError
from graphopt.ir import QUANT, Graph, Node, TensorType, Value
from graphopt.passes.assign_layout import CONVERSIONS, ELEMENTWISE
from graphopt.pipeline import Pass
from graphopt.rewrite import Builder, Statistics

ROWS = 2
"""The axis of an image's height."""

CHANNELS_FIRST = (0, 3, 1, 2)
"""The transpose that images of an exporter with channels last begin with."""

Span = tuple[int, int]
"""Rows from the first to behind the last."""


@dataclass(frozen=True)
class PatchRows(Pass):
    """Compute the value `until` in so many `bands`."""

    name: ClassVar[str] = "patch-rows"

    until: str = ""
    bands: int = 2

    def run(self, graph: Graph, statistics: Statistics) -> None:
        cuts = {cut.value.name: cut for cut in cuts_of(graph)}
        if self.until not in cuts:
            known = ", ".join(cuts) or "there is none"
            raise UsageError(f"'{self.until}' is no image that can be computed in bands", hint=known)
        cut = cuts[self.until]
        if not 1 < self.bands <= cut.value.static_shape[ROWS]:
            rows = cut.value.static_shape[ROWS]
            raise UsageError(f"{self.bands} bands of {rows} rows", hint=f"take 2 to {rows}")
        _patch(graph, cut, self.bands, self.name)
        statistics.fired[self.name] += 1


@dataclass(frozen=True)
class Cut:
    """`value` is all that the nodes in front leave to the others; they read nothing but `source` and constants."""

    source: Value
    nodes: tuple[Node, ...]
    value: Value


def cuts_of(graph: Graph) -> list[Cut]:
    """The places up to which the first layers can be computed in bands, the nearest first."""
    if len(graph.inputs) != 1:
        return []
    (source,) = graph.inputs
    if source.is_graph_output or not source.is_static or len(source.static_shape) != 4:
        return []
    inside: list[Node] = []
    known = {source}
    found = []
    for node in graph.nodes:
        if not _is_in_rows(node, known, source):
            break
        inside.append(node)
        known.add(node.output)
        left = [v for v in known if v.is_graph_output or any(user not in inside for user in v.users)]
        if left == [node.output] and not node.output.is_graph_output and _is_image(node.output):
            found.append(Cut(source, tuple(inside), node.output))
    return [cut for cut in found if any(_window(node) for node in cut.nodes)]


def _is_image(value: Value) -> bool:
    return value.is_static and len(value.static_shape) == 4 and value.static_shape[0] == 1


def _is_in_rows(node: Node, known: set[Value], source: Value) -> bool:
    """A row of its result needs a few rows of the images that it reads."""
    if len(node.outputs) != 1 or not _is_image(node.output):
        return False
    images = [v for v in node.inputs if v is not None and not v.is_constant]
    if not images or not all(v in known for v in images):
        return False
    if _turns(node):
        return images == [source]
    if not all(_is_image(v) for v in images):
        return False
    if _window(node) is not None:
        return images == [node.inputs[0]] and len({v.static_shape[1] for v in images}) == 1
    if not (node.is_op(*ELEMENTWISE, *CONVERSIONS) or node.is_op("Requantize", "Lookup", domain=QUANT)):
        return False
    constants = [v for v in node.inputs if v is not None and v.is_constant]
    return all(v.static_shape[ROWS] == node.output.static_shape[ROWS] for v in images) and all(
        len(v.static_shape) < 2 or v.static_shape[-2] == 1 for v in constants
    )


def _turns(node: Node) -> bool:
    return node.is_op("Transpose") and node.ints("perm") == CHANNELS_FIRST


@dataclass(frozen=True)
class _Window:
    """Along the height."""

    size: int
    stride: int
    before: int
    behind: int

    def needs(self, rows: Span) -> Span:
        """The rows that some rows of the result read, those beyond the image among them."""
        return rows[0] * self.stride - self.before, (rows[1] - 1) * self.stride - self.before + self.size


def _window(node: Node) -> _Window | None:
    """What a convolution or a pool reads; None for other nodes, and pads that are not told."""
    if not (node.is_op("Conv", "MaxPool", "AveragePool") or node.is_op("Conv", domain=QUANT)):
        return None
    weights = node.inputs[1] if node.op_type == "Conv" else None
    if node.op_type == "Conv" and (weights is None or not weights.is_constant):
        return None
    kernel = node.ints("kernel_shape") or (weights.static_shape[2:] if weights is not None else ())
    if len(kernel) != 2 or node.int("ceil_mode", 0):
        return None
    if node.str("auto_pad", "NOTSET") != "NOTSET":
        return None
    pads = node.ints("pads", (0, 0, 0, 0)) or (0, 0, 0, 0)
    stride, dilation = ((node.ints(name, (1, 1)) or (1, 1))[0] for name in ("strides", "dilations"))
    return _Window((kernel[0] - 1) * dilation + 1, stride, pads[0], pads[2])


def rows_needed(cut: Cut, rows: Span) -> dict[Value, Span]:
    """The rows of each image that these rows of the cut's value need."""
    needed = {cut.value: rows}
    for node in reversed(cut.nodes):
        if node.output not in needed:
            continue
        window = _window(node)
        span = needed[node.output]
        for value in node.inputs:
            if value is None or value.is_constant:
                continue
            height = value.static_shape[1 if _turns(node) else ROWS]
            low, high = window.needs(span) if window else span
            low, high = max(low, 0), min(high, height)
            known = needed.get(value, (low, high))
            needed[value] = min(low, known[0]), max(high, known[1])
    return needed


def bands_of(rows: int, bands: int) -> list[Span]:
    """As equal as can be."""
    return [(rows * n // bands, rows * (n + 1) // bands) for n in range(bands)]


def _patch(graph: Graph, cut: Cut, bands: int, rule: str) -> None:
    after = cut.nodes[-1].next
    users = list(cut.value.uses)
    made = []
    for number, rows in enumerate(bands_of(cut.value.static_shape[ROWS], bands)):
        needed = rows_needed(cut, rows)
        pieces: dict[Value, Value] = {}
        for node in cut.nodes:
            if node.output in needed:
                build = Builder(graph, after, node.origin.merged(rule, [node]))
                pieces[node.output] = _of_band(build, node, needed, pieces, number)
        made.append(pieces[cut.value])
    build = Builder(graph, after, cut.nodes[-1].origin.merged(rule, [cut.nodes[-1]]))
    whole = build.op("Concat", *made, name=f"{cut.nodes[-1].name}.bands", axis=ROWS)
    for use in users:
        use.node.set_input(use.index, whole)
    for node in reversed(cut.nodes):
        graph.remove(node)
    graph.remove_unused_constants()


def _of_band(
    build: Builder, node: Node, needed: Mapping[Value, Span], pieces: Mapping[Value, Value], band: int
) -> Value:
    """The rows of the node's result that a band needs."""
    rows, window = needed[node.output], _window(node)
    attributes = dict(node.attributes)
    operands: list[Value | None] = []
    for value in node.inputs:
        if value is None or value.is_constant:
            operands.append(value)
            continue
        axis = 1 if _turns(node) else ROWS
        height = value.static_shape[axis]
        low, high = window.needs(rows) if window else rows
        if window:
            pads = list(node.ints("pads", (0, 0, 0, 0)) or (0, 0, 0, 0))
            pads[0], pads[2] = max(0, -low), max(0, high - height)
            attributes["pads"] = tuple(pads)
        have = needed[value] if value in pieces else (0, height)
        span = max(low, 0) - have[0], min(high, height) - have[0]
        operands.append(_rows(build, pieces.get(value, value), axis, span))
    shape = list(node.output.static_shape)
    shape[ROWS] = rows[1] - rows[0]
    (made,) = build.ops(
        node.op_type,
        *operands,
        outputs=1,
        domain=node.domain,
        name=f"{node.name}.band{band}",
        types=(TensorType(node.output.dtype, tuple(shape)),),
        **attributes,
    )
    return made


def _rows(build: Builder, value: Value, axis: int, span: Span) -> Value:
    if span == (0, value.static_shape[axis]):
        return value
    starts, ends, axes = (build.shape([n]) for n in (*span, axis))
    return build.op("Slice", value, starts, ends, axes)
