"""Groups of channels as a picture: a line for each node with weights, a lane for each group.

A full dot is where weights make the channels of a group, a ring where weights read them. The picture is SVG text
without scripts or fonts of its own; equal groups give equal bytes.
"""

from __future__ import annotations

from html import escape

from graphopt.analysis.groups.find import Group, Groups, Stretch
from graphopt.ir import Graph, Node, Use
from graphopt.ir.nesting import with_nested

ROW, LANE, MARGIN = 18, 16, 24
LETTER = 6.6
"""Pixels: height of a line, distance of lanes, border; width of a letter."""

COLOURS = (
    "#1f77b4",
    "#d62728",
    "#2ca02c",
    "#9467bd",
    "#ff7f0e",
    "#17becf",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
)


def picture(graph: Graph, found: Groups) -> str:
    """The SVG."""
    used = {node for group in found.groups for node in _marks(group)}
    nodes = [node for top in graph.nodes for node in with_nested(top) if node in used]
    rows = {node: number for number, node in enumerate(nodes)}
    names = [f"{node.op_type}  {node.origin.known_as(node.name)}" for node in nodes]
    left = MARGIN + LETTER * max((len(name) for name in names), default=0)
    top = MARGIN + LETTER * max((len(_title(group)) for group in found.groups), default=0)
    width = left + LANE * (len(found.groups) + 1) + MARGIN
    height = top + ROW * (len(nodes) + 1) + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        'font-family="monospace" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, name in enumerate(names):
        y = top + ROW * (number + 1)
        lines.append(f'<text x="{MARGIN}" y="{y + 4:.0f}">{escape(name)}</text>')
    for number, group in enumerate(found.groups):
        x, colour = left + LANE * (number + 1), COLOURS[number % len(COLOURS)]
        lines += _lane(group, {node: top + ROW * (row + 1) for node, row in rows.items()}, x, top, colour)
    return "\n".join([*lines, "</svg>", ""])


def _lane(group: Group, heights: dict[Node, float], x: float, top: float, colour: str) -> list[str]:
    marks = _marks(group)
    places = [heights[node] for node in marks]
    title = f'<text transform="translate({x + 4:.0f} {top:.0f}) rotate(-90)">{escape(_title(group))}</text>'
    dashes = ' stroke-dasharray="3 3"' if group.coupled else ""
    ends = f'y1="{min(places):.0f}" y2="{max(places):.0f}"'
    made = [title, f'<line x1="{x:.0f}" x2="{x:.0f}" {ends} stroke="{colour}" stroke-width="2"{dashes}/>']
    for node, (makes, reads) in marks.items():
        fill = colour if makes else "white"
        edge = "black" if makes and reads else colour
        y = heights[node]
        made.append(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="{fill}" stroke="{edge}" stroke-width="2"/>'
        )
    return made


def _title(group: Group) -> str:
    return f"{group.size} channels"


def _marks(group: Group) -> dict[Node, tuple[bool, bool]]:
    """Whether each node makes the channels of a group, and whether it reads them."""
    marks: dict[Node, tuple[bool, bool]] = {}
    for stretches, is_read in ((group.makers, False), (group.readers, True)):
        for stretch in stretches:
            node = _node(stretch)
            makes, reads = marks.get(node, (False, False))
            marks[node] = (makes or not is_read, reads or is_read)
    return marks


def _node(stretch: Stretch) -> Node:
    holder = stretch.dimension.holder
    assert isinstance(holder, Use)
    return holder.node
