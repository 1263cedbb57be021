"""Groups of channels, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.report.tables import table

if TYPE_CHECKING:
    from graphopt.analysis.groups.find import Group, Groups, Stretch


def group_tables(found: Groups) -> list[Any]:
    """One line for each group, with what makes its channels and what reads them; then what stays as it is."""
    rows = [
        [number, group.name, group.size, _nodes(group.makers), _nodes(group.readers), group.coupled]
        for number, group in enumerate(found.groups, start=1)
    ]
    columns = ("", "group", "channels", "made by", "read by", "changes what stays")
    shown = [table("Channels that go together", columns, rows)]
    if found.fixed:
        fixed = [[one.name, one.size, one.reason] for one in found.fixed]
        shown.append(table("Stay as they are", ("made by", "channels", "reason"), fixed))
    return shown


def group_data(found: Groups) -> dict[str, Any]:
    """The same for a program: each tensor with its axis, and how many of its indices are one channel."""
    return {
        "groups": [
            {
                "name": group.name,
                "channels": group.size,
                "coupled": group.coupled,
                "constants": [_stretch_data(s) for s in group.stretches if s.dimension.is_constant],
            }
            for group in found.groups
        ],
        "fixed": [{"name": one.name, "channels": one.size, "reason": one.reason} for one in found.fixed],
    }


def _stretch_data(stretch: Stretch) -> dict[str, Any]:
    return {
        "node": node_name(stretch),
        "tensor": stretch.dimension.value.name,
        "axis": stretch.dimension.axis,
        "indices_each": stretch.indices.shape[1],
        "is_read": stretch.is_read,
    }


def _nodes(stretches: list[Stretch]) -> str:
    """Their nodes, once each; how many indices of an axis are one channel where it is more than one."""
    found: dict[str, int] = {}
    for stretch in stretches:
        name = node_name(stretch)
        found[name] = max(found.get(name, 0), stretch.indices.shape[1])
    return "; ".join(name if count == 1 else f"{name} (x{count})" for name, count in found.items())


def node_name(stretch: Stretch) -> str:
    """The name by which the model knows the node that a constant belongs to."""
    from graphopt.ir import Use

    holder = stretch.dimension.holder
    assert isinstance(holder, Use)
    return holder.node.origin.known_as(holder.node.name)


def widths(group: Group, removed: int) -> str:
    """`64 -> 48`"""
    return f"{group.size} -> {group.size - removed}"
