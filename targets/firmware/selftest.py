"""The C text of a self-test: a sample, what outputs and layers it should give, and the function that compares.

All is computed by the numpy reference. The function runs the model, then its layers one by one, and looks at each
result before the next layer may write over it (`layer_checks`). Integers of outputs may differ by one in the last
place, floats by `TOLERANCE` of the largest output: sums of floats depend on their order. Where such floats are rounded
to integers on the way, one of which may then be a step off, outputs may differ by `ROUNDED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir import Value
from graphopt.runtime.manifest import Tensor
from graphopt.targets.abi import ModelAbi, c_type
from graphopt.targets.firmware.arenas import arenas_of, declared, input_call, output_call
from graphopt.targets.firmware.c_arrays import definition, length
from graphopt.targets.firmware.c_expressions import constant
from graphopt.targets.firmware.entry import Entry, arena_checks
from graphopt.targets.firmware.interface import parameter_names, passed
from graphopt.targets.firmware.layer_checks import Check, rounded_outputs
from graphopt.targets.firmware.selftest_layers import layers_text
from graphopt.targets.program import Copy

TOLERANCE = 1e-4
STEPS_OFF = 4
ROUNDED = STEPS_OFF / 127
"""Of the largest output: `STEPS_OFF` steps of bytes."""


@dataclass(frozen=True)
class Sample:
    """Arrays by the names of the model's inputs, and of its outputs; what is known of the layers' results."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    layers: Mapping[Value, Check]


def selftest_text(entry: Entry, sample: Sample) -> str:
    """`<model>_selftest.c`."""
    abi, program = entry.abi, entry.program
    inputs, outputs = parameter_names(abi)
    uses_memory = not abi.passes_tensors or any(isinstance(step, Copy) for step in program.steps)
    lines = [f'#include "{abi.name}_internal.h"', *(["#include <string.h>"] if uses_memory else []), ""]
    for name, spec in zip(inputs, abi.inputs, strict=True):
        array = sample.inputs[spec.name]
        lines += definition(f"static const {c_type(spec)} given_{name}[{length(array)}]", array)
    for name, spec in zip(outputs, abi.outputs, strict=True):
        array = sample.outputs[spec.name]
        lines += definition(f"static const {c_type(spec)} wanted_{name}[{length(array)}]", array)
        if abi.passes_tensors:
            lines += [f"static {c_type(spec)} made_{name}[{max(spec.elements, 1)}];", ""]
    arenas = [arena.name for arena in arenas_of(abi)]
    arguments = ", ".join([*_passed(abi), *arenas])
    run = ", ".join([*_passed(abi), *(part for name in arenas for part in (name, f"{name}_bytes"))])
    given = [] if abi.passes_tensors else [f"    give({', '.join(arenas)});"]
    read = ", ".join(f"const void *{name}" for name in arenas)
    return "\n".join(
        [
            *lines,
            *layers_text(entry, sample.layers),
            *([] if abi.passes_tensors else _giving(abi)),
            "/* The number of the first output that is not as it should be, counted from 1; 0: there is none. */",
            f"static int wrong_output({'void' if abi.passes_tensors else read}) {{",
            *_comparisons(abi, sample),
            "    return 0;",
            "}",
            "",
            f"int {abi.name}_selftest({', '.join(declared(abi))}) {{",
            *([] if abi.passes_tensors else arena_checks(abi, "-")),
            *given,
            f"    const int error = {abi.name}_run({run});",
            "    if (error) return -error;",
            f"    const int output = wrong_output({'' if abi.passes_tensors else ', '.join(arenas)});",
            *given,
            f"    const int layer = wrong_layer({arguments});",
            f"    return layer ? layer : output ? {abi.macro}_LAYERS + output : 0;",
            "}",
            "",
        ]
    )


def _comparisons(abi: ModelAbi, sample: Sample) -> list[str]:
    _, outputs = parameter_names(abi)
    rounded = rounded_outputs(sample.layers)
    lines = [] if abi.passes_tensors else _unused(abi)
    for number, (name, spec) in enumerate(zip(outputs, abi.outputs, strict=True), 1):
        if not abi.passes_tensors:
            place = output_call(abi, number - 1)
            lines.append(f"    const {c_type(spec)} *const made_{name} = {place};")
        lines += _comparison(number, name, spec, sample.outputs[spec.name], spec.name in rounded)
    return lines


def _unused(abi: ModelAbi) -> list[str]:
    """Of several arenas outputs are in some."""
    arenas = arenas_of(abi)
    return [f"    (void){arena.name};" for arena in arenas] if len(arenas) > 1 else []


def _passed(abi: ModelAbi) -> list[str]:
    inputs, outputs = passed(abi)
    return [*(f"given_{name}" for name, _ in inputs), *(f"made_{name}" for name, _ in outputs)]


def _giving(abi: ModelAbi) -> list[str]:
    """A function that copies the sample into the arena, or the one of several that it lies in."""
    inputs, _ = parameter_names(abi)
    return [
        f"static void give({', '.join(f'void *{arena.name}' for arena in arenas_of(abi))}) {{",
        *(f"    (void){arena.name};" for arena in arenas_of(abi)),
        *(
            f"    memcpy({input_call(abi, number)}, given_{name}, {spec.nbytes}u);"
            for number, (name, spec) in enumerate(zip(inputs, abi.inputs, strict=True))
            if spec.nbytes
        ),
        "}",
        "",
    ]


def _comparison(number: int, name: str, spec: Tensor, wanted: np.ndarray, rounded: bool) -> list[str]:
    """Bits are compared where C has no arithmetic for them."""
    made, want = f"made_{name}[i]", f"wanted_{name}[i]"
    if spec.dtype.numpy.name in ("float32", "float64"):
        finite = np.abs(wanted[np.isfinite(wanted)])
        bound = constant(
            (ROUNDED if rounded else TOLERANCE) * max(float(finite.max(initial=0.0)), 1e-6), "float32"
        )
        differs = f"!({made} - {want} <= {bound}) || !({want} - {made} <= {bound})"
    elif spec.dtype.numpy.itemsize < 4 and spec.dtype.numpy.kind in "iu":
        steps = STEPS_OFF if rounded else 1
        differs = f"{made} - {want} > {steps} || {want} - {made} > {steps}"
    else:
        differs = f"{made} != {want}"
    return [
        f"    for (size_t i = 0; i < {max(spec.elements, 1)}u; i++) {{",
        f"        if ({differs}) return {number};",
        "    }",
    ]
