"""The kernels of a firmware bundle as C text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx

from graphopt.targets.codegen import lower_for_c_text
from graphopt.targets.firmware.c_helpers import helpers_text
from graphopt.targets.firmware.c_statements import CFunction, print_function
from graphopt.targets.firmware.overlap import KernelOverlaps, overlaps


@dataclass(frozen=True)
class CKernels:
    """The kernels by name, each one's workspaces in bytes, and what its parameters may share."""

    functions: dict[str, CFunction]
    workspaces: dict[str, tuple[int, ...]]
    overlaps: dict[str, KernelOverlaps]

    def prototypes(self) -> list[str]:
        return [f"{function.prototype};" for function in self.functions.values()]

    def text(self, model: str, comments: Mapping[str, str] | None = None) -> str:
        """The C file that holds them all, each behind its comment."""
        helpers = {name for function in self.functions.values() for name in function.helpers}
        return "\n".join(
            [
                f'#include "{model}_internal.h"',
                "#include <math.h>",
                "#include <string.h>",
                "",
                *helpers_text(helpers),
                *(
                    f"{comments[name]}\n{function.text}" if comments and name in comments else function.text
                    for name, function in self.functions.items()
                ),
            ]
        )


def print_kernels(
    functions: Mapping[str, tirx.PrimFunc], triple: str, operands: Mapping[str, Collection[int]] | None = None
) -> CKernels:
    """Scheduled functions as C for the core of `triple`. `operands` numbers the parameters of each that may share
    memory with its outputs, where it allows that. Raises UnsupportedError for what C99 cannot say."""
    if not functions:
        return CKernels({}, {}, {})
    module, workspaces = lower_for_c_text(functions, triple)
    lowered = {variable.name_hint: function for variable, function in module.functions.items()}
    printed = {name: print_function(name, lowered[name]) for name in functions}
    shared = {name: overlaps(lowered[name], found) for name, found in (operands or {}).items()}
    return CKernels(printed, workspaces, shared)


def internal_header(model: str, declarations: Sequence[str]) -> str:
    """`<model>_internal.h`: what the sources of a model know of each other."""
    guard = f"GRAPHOPT_MODEL_{model.upper()}_INTERNAL_H"
    lines = [
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        f'#include "{model}.h"',
        "",
        *declarations,
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)
