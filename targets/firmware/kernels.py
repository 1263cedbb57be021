"""The kernels of a firmware bundle as C text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx

from graphopt.targets.codegen import lower_for_c_text
from graphopt.targets.firmware.c_helpers import helpers_text
from graphopt.targets.firmware.c_statements import CFunction, print_function


@dataclass(frozen=True)
class CKernels:
    """The kernels by name, and each one's workspaces in bytes."""

    functions: dict[str, CFunction]
    workspaces: dict[str, tuple[int, ...]]

    def prototypes(self) -> list[str]:
        return [f"{function.prototype};" for function in self.functions.values()]

    def text(self, model: str) -> str:
        """The C file that holds them all."""
        helpers = {name for function in self.functions.values() for name in function.helpers}
        return "\n".join(
            [
                f'#include "{model}_internal.h"',
                "#include <math.h>",
                "#include <string.h>",
                "",
                *helpers_text(helpers),
                *(function.text for function in self.functions.values()),
            ]
        )


def print_kernels(functions: Mapping[str, tirx.PrimFunc], triple: str) -> CKernels:
    """Scheduled functions as C for the core of `triple`. Raises UnsupportedError for what C99 cannot say."""
    if not functions:
        return CKernels({}, {})
    module, workspaces = lower_for_c_text(functions, triple)
    printed = {v.name_hint: print_function(v.name_hint, f) for v, f in module.functions.items()}
    return CKernels({name: printed[name] for name in functions}, workspaces)


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
