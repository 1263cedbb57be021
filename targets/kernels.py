"""From fused groups to compiled kernels: equal groups share one kernel.

Groups are equal when their bodies are (`structure_key`), whatever their weights: a kernel takes its
weights as parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphopt.errors import GraphoptError, UnsupportedError
from graphopt.ir import Graph, Node, Value
from graphopt.ir.fused import body_of
from graphopt.ir.structure import structure_key
from graphopt.targets.abi import C_TYPES
from graphopt.targets.device import Target

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done, and the steps in all."""

LONGEST_NAME = 40


@dataclass(frozen=True)
class Kernels:
    """The object file, which kernel serves each group, and each kernel's workspaces in bytes."""

    object_bytes: bytes
    name_of: dict[Node, str]
    workspaces: dict[str, tuple[int, ...]]


def compile_groups(groups: Sequence[Node], target: Target, progress: Progress | None = None) -> Kernels:
    """Lower, schedule and compile every distinct group.

    Raises UnsupportedError, naming the nodes, for a group that cannot be lowered.
    """
    from graphopt.targets.codegen import compile_kernels
    from graphopt.targets.lower import lower_body
    from graphopt.targets.schedules import schedule

    names: dict[str, str] = {}
    name_of: dict[Node, str] = {}
    distinct: dict[str, Node] = {}
    for group in groups:
        key = structure_key(body_of(group))
        if key not in names:
            names[key] = f"{kernel_name(body_of(group))}_{len(names)}"
            distinct[names[key]] = group
        name_of[group] = names[key]
    functions = {}
    for number, (name, group) in enumerate(distinct.items()):
        if progress:
            progress("lowering kernels", number, len(distinct))
        body = body_of(group)
        try:
            _check_storage(body)
            functions[name] = schedule(lower_body(body), body, target)
        except GraphoptError:
            raise
        except Exception as error:
            reason = str(error).strip().split("\n")[-1][:300]
            raise UnsupportedError(
                f"it cannot be lowered: {type(error).__name__}: {reason}",
                where=f"node '{group.name}' ({describe(body)})",
                hint="please report the model's operator and shapes as a bug",
            ) from error
    if progress:
        progress("compiling kernels", 0, 1)
    compiled = compile_kernels(functions, target)
    return Kernels(compiled.object_bytes, name_of, compiled.workspaces)


def describe(body: Graph) -> str:
    """`Conv+Add+Relu`: the operators of a body in order."""
    return "+".join(node.op_type for node in body.nodes)


def kernel_name(body: Graph) -> str:
    """A C identifier that says what the kernel does: `conv_add_relu`."""
    name = "_".join(node.op_type.lower() for node in body.nodes)
    return name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME].rstrip("_")


def _check_storage(body: Graph) -> None:
    values: list[Value] = [*body.inputs, *body.outputs]
    for value in values:
        if value.dtype not in C_TYPES:
            raise UnsupportedError(
                f"'{value.name}' has elements of {value.dtype}, which kernels cannot store",
                where=f"group {describe(body)}",
            )
