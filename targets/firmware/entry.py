"""The C text of a firmware model's entry function: checks, then the kernels one after another."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.targets.abi import ModelAbi, c_type
from graphopt.targets.firmware.arenas import arenas_of, holding, pointers
from graphopt.targets.firmware.c_statements import Parameter
from graphopt.targets.firmware.header import run_prototype
from graphopt.targets.firmware.interface import parameter_names, passed
from graphopt.targets.firmware.kernels import CKernels
from graphopt.targets.firmware.weights import WeightArrays
from graphopt.targets.program import Call, Copy, Place, Program


@dataclass(frozen=True)
class Entry:
    """What the entry function is made of."""

    abi: ModelAbi
    program: Program
    kernels: CKernels
    weights: WeightArrays

    def text(self) -> str:
        """`<model>.c`."""
        copies = any(isinstance(step, Copy) for step in self.program.steps)
        return "\n".join(
            [
                f'#include "{self.abi.name}_internal.h"',
                *(["#include <string.h>"] if copies else []),
                "",
                f"{run_prototype(self.abi)} {{",
                *self._checks(),
                *(f"    {self.statement(step)}" for step in self.program.steps),
                f"    return {self.abi.macro}_OK;",
                "}",
                "",
            ]
        )

    def _checks(self) -> list[str]:
        macro = self.abi.macro
        inputs, outputs = passed(self.abi)
        lines = []
        if self.abi.workspace_bytes:
            lines += pointers(self.abi)
        for name, spec in (*inputs, *outputs):
            lines.append(f"    if (!{name}) return {macro}_ERROR_NULL;")
            if spec.dtype.numpy.itemsize > 1:
                aligned = f"(uintptr_t){name} % sizeof({c_type(spec)})"
                lines.append(f"    if ({aligned}) return {macro}_ERROR_ALIGNMENT;")
        if not self.abi.workspace_bytes:
            return [*lines, "    (void)arena;", "    (void)arena_bytes;"]
        return [*lines, *arena_checks(self.abi)]

    def statement(self, step: Call | Copy) -> str:
        """A step as C; `base` is the arena, or one of several."""
        if isinstance(step, Copy):
            bytes_ = Parameter("", "void", True)
            source, target = self.argument(step.source, bytes_), self.argument(step.target, bytes_)
            return f"memcpy({target}, {source}, {step.size}u);"
        parameters = self.kernels.functions[step.kernel].parameters
        arguments = [self.argument(p, wanted) for p, wanted in zip(step.arguments, parameters, strict=True)]
        return f"{step.kernel}({', '.join(arguments)});"

    def argument(self, place: Place, wanted: Parameter) -> str:
        """The pointer to a place, as a kernel takes it."""
        if place.region == "arena":
            arena = holding(self.abi, place.offset)
            offset = place.offset - arena.start
            return f"(void *)({arena.base} + {offset})" if self.abi.workspace_bytes else arena.name
        if place.region == "weights":
            name, kind, offset = self.weights.at(place.offset)
            return _pointer(name, kind, offset, wanted, "const ")
        inputs, outputs = parameter_names(self.abi)
        is_input = place.region == "input"
        names, specs = (inputs, self.abi.inputs) if is_input else (outputs, self.abi.outputs)
        kind = c_type(specs[place.number])
        return _pointer(names[place.number], kind, place.offset, wanted, "const " if is_input else "")


def arena_checks(abi: ModelAbi, sign: str = "") -> list[str]:
    """Statements that return an error, with `sign` in front, where an arena is none."""
    macro = abi.macro
    lines = []
    for arena in arenas_of(abi):
        name = arena.name
        lines += [
            f"    if (!{name}) return {sign}{macro}_ERROR_NULL;",
            f"    if ((uintptr_t){name} % {macro}_ARENA_ALIGNMENT) return {sign}{macro}_ERROR_ALIGNMENT;",
            f"    if ({name}_bytes < {arena.macro}_BYTES) return {sign}{arena.error};",
        ]
    return lines


def _pointer(name: str, kind: str, offset: int, wanted: Parameter, constness: str) -> str:
    """`name`, which points to `kind`, moved by `offset` bytes."""
    if offset:
        return f"({constness}void *)(({constness}unsigned char *){name} + {offset})"
    return name if kind == wanted.kind else f"({constness}void *){name}"
