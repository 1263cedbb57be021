"""The comment in front of each kernel's C text: which layers it computes, with which operators, on what, and how."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.ir import Node
from graphopt.ir.fused import body_of
from graphopt.targets.firmware.layer_names import shortened
from graphopt.targets.program import Program

NAMED = 4
"""Layers of one kernel that its comment names."""


def kernel_comments(program: Program, schedules: Mapping[str, str]) -> dict[str, str]:
    """Kernel -> lines of C without the last line's end; layers are counted as in `memory.md`."""
    layers: dict[str, list[str]] = {}
    nodes: dict[str, Node] = {}
    for number, call in enumerate(program.calls, 1):
        layers.setdefault(call.kernel, []).append(f"{number}: {comment(shortened(call.known_as))}")
        nodes.setdefault(call.kernel, call.node)
    return {kernel: _text(nodes[kernel], found, schedules[kernel]) for kernel, found in layers.items()}


def comment(text: str) -> str:
    """On one line, without what would end a comment, or begin one."""
    return " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *")


def _text(node: Node, layers: list[str], schedule: str) -> str:
    operators = " + ".join(dict.fromkeys(member.op_type for member in body_of(node).nodes))
    read = ", ".join(str(v.type) for v in node.inputs if v is not None and v.constant is None)
    made = ", ".join(str(value.type) for value in node.outputs)
    more = [f"and {len(layers) - NAMED} more"] if len(layers) > NAMED else []
    lines = [*(f"layer {name}" for name in layers[:NAMED]), *more, f"{operators}: {read} -> {made}", schedule]
    return "/* " + "\n * ".join(map(comment, lines)) + " */"
