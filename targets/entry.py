"""The C text of a model's entry functions: they call its kernels one after another."""

from __future__ import annotations

import json
from collections.abc import Sequence

from graphopt.targets.abi import ALIGNMENT, ERRORS, ModelAbi, c_string, c_type
from graphopt.targets.program import Call, Copy, Place, Program

REGIONS = {
    "input": "(void *)inputs[{number}]",
    "output": "outputs[{number}]",
    "weights": "(void *)(graphopt_weights + {offset})",
    "arena": "arena + {offset}",
}
"""How a place is written in the entry function."""


def entry_source(abi: ModelAbi, programs: Sequence[Program]) -> str:
    """The C text of the exported functions."""
    arity = {call.kernel: len(call.arguments) for program in programs for call in program.calls}
    prototypes = [f"int32_t {kernel}({', '.join(['void *'] * n)});" for kernel, n in arity.items()]
    return "\n".join(
        [
            f'#include "{abi.name}.h"',
            *(['#include "amx.h"'] if abi.uses_amx else []),
            '#include "parallel.h"',
            "#include <string.h>",
            "",
            "extern const unsigned char graphopt_weights[];",
            *prototypes,
            "",
            *_small_functions(abi),
            *_run_functions(abi, programs),
            "",
        ]
    )


def _run_functions(abi: ModelAbi, programs: Sequence[Program]) -> list[str]:
    """`<model>_run`, the one that also tells the time of each layer, and those for further shapes."""
    lines = _run_function(abi, programs[0], f"int {abi.name}_run")
    if abi.profiled_layers:
        lines = [
            *CLOCK,
            *lines,
            "",
            *_run_function(abi, programs[0], f"int {abi.name}_run_profiled", timed=True),
        ]
    for number, program in enumerate(programs[1:], 1):
        lines += ["", *_run_function(abi, program, f"static int run_{number}")]
    return lines if len(programs) == 1 else [*lines, "", *_dispatch(abi)]


def _dispatch(abi: ModelAbi) -> list[str]:
    """`<model>_run_shape` and `<model>_find_shape`."""
    name, macro = abi.name, abi.macro
    passed = "inputs, outputs, workspace, workspace_bytes, num_threads"
    functions = [f"{name}_run", *(f"run_{number}" for number in range(1, len(abi.shapes)))]
    lines = [
        f"int {name}_run_shape(int shape, {RUN_PARAMETERS}) {{",
        "    switch (shape) {",
        *(f"    case {number}: return {run}({passed});" for number, run in enumerate(functions)),
        "    }",
        f"    return {macro}_ERROR_SHAPE;",
        "}",
        "",
        f"int {name}_find_shape(const int64_t *const dims[]) {{",
    ]
    for number, signature in enumerate(abi.shapes):
        equal = [
            f"dims[{index}][{axis}] == {dim}"
            for index, spec in enumerate(signature.inputs)
            for axis, dim in enumerate(spec.shape)
        ]
        lines.append(f"    if ({' && '.join(equal)}) return {number};")
    return [*lines, "    return -1;", "}"]


RUN_PARAMETERS = (
    "const void *const inputs[], void *const outputs[],"
    " void *workspace, size_t workspace_bytes, int num_threads"
)
"""Of everything that runs the model."""

CLOCK = (
    "#include <time.h>",
    "",
    "static uint64_t now(void) {",
    "    struct timespec time;",
    "    clock_gettime(CLOCK_MONOTONIC, &time);",
    "    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;",
    "}",
    "",
)


def _run_function(abi: ModelAbi, program: Program, head: str, *, timed: bool = False) -> list[str]:
    """A function that runs `program`; `head` is its type and its name."""
    macro = abi.macro
    lines = [f"{head}({RUN_PARAMETERS}{', uint64_t nanoseconds[]' if timed else ''}) {{"]
    lines += _checks(abi)
    if abi.uses_amx:
        lines.append(f"    if (graphopt_amx_missing()) return {macro}_ERROR_AMX;")
    lines += [
        "    unsigned char *const arena = workspace;",
        "    int32_t failed = 0;",
        "    (void)arena;",
        f"    if (num_threads <= 0) num_threads = graphopt_parallel_default({macro}_DEFAULT_THREADS);",
        "    graphopt_parallel_begin(num_threads);",
    ]
    lines += _steps(program, timed)
    lines += [
        *(["done:"] if program.calls else []),
        "    graphopt_parallel_end();",
        f"    return failed ? {macro}_ERROR_KERNEL : {macro}_OK;",
        "}",
    ]
    return lines


def _steps(program: Program, timed: bool) -> list[str]:
    lines = []
    number = 0
    for step in program.steps:
        statement = _statement(step)
        if timed and isinstance(step, Call):
            place = f"nanoseconds[{number}]"
            statement = f"{place} = now(); {statement} {place} = now() - {place};"
            number += 1
        lines.append(f"    {statement}")
    return lines


def _checks(abi: ModelAbi) -> list[str]:
    macro = abi.macro
    lines = []
    for array, specs in (("inputs", abi.inputs), ("outputs", abi.outputs)):
        if not specs:
            lines.append(f"    (void){array};")
            continue
        lines.append(f"    if (!{array}) return {macro}_ERROR_NULL;")
        for index, spec in enumerate(specs):
            lines.append(f"    if (!{array}[{index}]) return {macro}_ERROR_NULL;")
            if spec.dtype.numpy.itemsize > 1:
                lines.append(
                    f"    if ((uintptr_t){array}[{index}] % sizeof({c_type(spec)}))"
                    f" return {macro}_ERROR_ALIGNMENT;"
                )
    if abi.workspace_bytes:
        lines += [
            f"    if (!workspace) return {macro}_ERROR_NULL;",
            f"    if ((uintptr_t)workspace % {ALIGNMENT}) return {macro}_ERROR_ALIGNMENT;",
            f"    if (workspace_bytes < {abi.workspace_bytes}u) return {macro}_ERROR_WORKSPACE;",
        ]
    else:
        lines.append("    (void)workspace_bytes;")
    return lines


def _statement(step: Call | Copy) -> str:
    if isinstance(step, Copy):
        return f"memcpy({_expression(step.target)}, {_expression(step.source)}, {step.size}u);"
    arguments = ", ".join(_expression(place) for place in step.arguments)
    return f"if ((failed = {step.kernel}({arguments}))) goto done;"


def _expression(place: Place) -> str:
    text = REGIONS[place.region].format(number=place.number, offset=place.offset)
    if place.offset and place.region in ("input", "output"):
        return f"(unsigned char *){text} + {place.offset}"
    return text


def _small_functions(abi: ModelAbi) -> list[str]:
    name, macro = abi.name, abi.macro
    text = c_string(json.dumps(abi.describe(), separators=(",", ":")))
    cases = [
        f'    case {macro}_{"OK" if code == 0 else f"ERROR_{suffix}"}: return "{message}";'
        for code, (suffix, message) in ERRORS.items()
    ]
    return [
        f"int {name}_abi_version(void) {{ return {macro}_ABI_VERSION; }}",
        "",
        f"const char *{name}_description(void) {{",
        f"    return {text};",
        "}",
        "",
        f"const char *{name}_error_string(int code) {{",
        "    switch (code) {",
        *cases,
        "    }",
        '    return "unknown error code";',
        "}",
        "",
    ]
