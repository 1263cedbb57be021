"""From fused groups to compiled kernels: equal groups share one kernel.

Groups are equal when their bodies are (`structure_key`), whatever their weights: a kernel takes its
weights as parameters. Groups of different shapes with the same weights read them in one order.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import GraphoptError, UnsupportedError
from graphopt.ir import KERNEL, QUANT, Graph, Node, Value
from graphopt.ir.fused import body_of
from graphopt.ir.layout import blocked_of
from graphopt.ir.structure import structure_key
from graphopt.targets.abi import C_TYPES
from graphopt.targets.device import Target

if TYPE_CHECKING:
    from tvm.tirx import PrimFunc

    from graphopt.targets.schedules.templates import Choice
    from graphopt.targets.tuning.advice import Advice

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done, and the steps in all."""

LONGEST_NAME = 40

GENERIC = "generic"
"""The schedule of a kernel that no template fits."""


PAIR = 64
"""Bits of two numbers side by side."""

OF_FPU = 32 * 32
"""Bits of a microcontroller's registers for single floats, which come to those for integers: 32, on Arm and RISC-V."""

NEAR_SHARE, NEAR_SPEED = 0.75, 3
"""Weights of a model that fit in this share of the second-level cache are read that many times as fast as from memory,
even where a transform makes them larger than that cache: the next one has them."""


@dataclass(frozen=True)
class Kernels:
    """The object file, which kernel serves each group; each kernel's workspaces in bytes, and its schedule."""

    object_bytes: bytes
    name_of: dict[Node, str]
    workspaces: dict[str, tuple[int, ...]]
    schedules: dict[str, str]


@dataclass(frozen=True)
class LoweredGroups:
    """The scheduled function of each kernel, which kernel serves each group, and how each is scheduled."""

    functions: dict[str, PrimFunc]
    name_of: dict[Node, str]
    schedules: dict[str, str]


def compile_groups(
    groups: Sequence[Node],
    target: Target,
    progress: Progress | None = None,
    *,
    winograd: bool = True,
    half: bool = False,
    advice: Advice | None = None,
) -> Kernels:
    """Lower, schedule and compile every distinct group; with `half`, float16 is computed in itself.

    Decisions are those of `advice`, where it is given.

    Raises UnsupportedError, naming the nodes, for a group that cannot be lowered.
    """
    from graphopt.targets.codegen import compile_kernels

    lowered = lower_groups(groups, target, progress, winograd=winograd, half=half, advice=advice)
    if progress:
        progress("compiling kernels", 0, 1)
    compiled = compile_kernels(lowered.functions, target)
    return Kernels(compiled.object_bytes, lowered.name_of, compiled.workspaces, lowered.schedules)


def lower_groups(
    groups: Sequence[Node],
    target: Target,
    progress: Progress | None = None,
    *,
    winograd: bool = True,
    half: bool = False,
    prefix: str = "",
    advice: Advice | None = None,
) -> LoweredGroups:
    """Lower and schedule every distinct group, whose kernels' names begin with `prefix`.

    `advice` replaces templates' defaults; groups that share weights with an earlier one follow that.

    Raises UnsupportedError, naming the nodes, for a group that cannot be lowered.
    """
    from graphopt.targets.lower import lower_body
    from graphopt.targets.schedules import schedule
    from graphopt.targets.schedules.templates import choose

    names: dict[tuple[str, str], str] = {}
    name_of: dict[Node, str] = {}
    distinct: dict[str, tuple[Node, Choice | None]] = {}
    packed: dict[tuple[bytes, ...], Choice] = {}
    target = near_weights(groups, target)
    for group in groups:
        constants = constant_operands(group)
        content = tuple(map(_digest, constants.values()))
        like = packed.get(content) if content else None
        body = body_of(group)
        machine = in_blocks_of(body, target)
        choice = choose(body, constants, machine, winograd=winograd, half=half, like=like)
        if advice is not None and choice is not None and like is None:
            choice = advice.choose(body, constants, machine, choice)
        if choice is not None:
            packed.setdefault(content, choice)
        key = (structure_key(body), str(choice or ""))
        if key not in names:
            names[key] = f"{prefix}{kernel_name(body)}_{len(names)}"
            distinct[names[key]] = (group, choice)
        name_of[group] = names[key]
        if choice is not None:
            _pack_operands(group, choice)
    functions = {}
    for number, (name, (group, choice)) in enumerate(distinct.items()):
        if progress:
            progress("lowering kernels", number, len(distinct))
        body = body_of(group)
        try:
            _check_storage(body)
            functions[name] = choice.build() if choice else schedule(lower_body(body), body, target)
        except GraphoptError:
            raise
        except Exception as error:
            reason = str(error).strip().split("\n")[-1][:300]
            raise UnsupportedError(
                f"it cannot be lowered: {type(error).__name__}: {reason}",
                where=f"node '{group.name}' ({describe(body)})",
                hint="please report the model's operator and shapes as a bug",
            ) from error
    schedules = {name: str(choice or GENERIC) for name, (_, choice) in distinct.items()}
    return LoweredGroups(functions, name_of, schedules)


def near_weights(groups: Sequence[Node], target: Target) -> Target:
    """`target` as the kernels of a small model see it, whose weights stay in caches from one run to the next."""
    arrays = {id(a): a.nbytes for group in groups for a in constant_operands(group).values()}
    if sum(arrays.values()) > NEAR_SHARE * target.l2_bytes:
        return target
    return dataclasses.replace(target, memory_bytes_per_cycle=NEAR_SPEED * target.memory_bytes_per_cycle)


def in_blocks_of(body: Graph, target: Target) -> Target:
    """`target` as templates of blocked floats see it: blocks wider than its vectors are wide vectors, and fewer.

    Templates that work in lanes keep two numbers side by side where there are no vectors; floats have registers of
    their own where there is an FPU.
    """
    if target.is_channels_last:
        bits, registers = max(target.vector_bits, PAIR), target.vector_registers
        if target.float_abi == "hard" and not any(node.domain == QUANT for node in body.nodes):
            registers = max(registers, OF_FPU // bits)
        return dataclasses.replace(target, vector_bits=bits, vector_registers=registers)
    blocks = [
        layout.block * value.dtype.bits
        for node in body.nodes
        if node.domain == KERNEL
        for value in node.outputs
        if (layout := blocked_of(value.type)) is not None and value.dtype.is_float
    ]
    bits = max(blocks, default=0)
    if bits <= target.vector_bits:
        return target
    registers = target.vector_registers * target.vector_bits // bits
    return dataclasses.replace(target, vector_bits=bits, vector_registers=registers)


def constant_operands(group: Node) -> dict[int, np.ndarray]:
    """The constants among the group's inputs, by number."""
    return {n: v.constant for n, v in enumerate(group.inputs) if v is not None and v.constant is not None}


def _digest(constant: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(constant).tobytes()).digest()


def _pack_operands(group: Node, choice: Choice) -> None:
    """Give the group its weights in the order the kernel reads them."""
    assert group.graph is not None
    for number, array in choice.template.pack(choice.decision, constant_operands(group)).items():
        value = group.inputs[number]
        assert value is not None
        group.set_input(number, group.graph.add_constant(array, f"{value.name}.packed"))


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
