"""The C header of a firmware bundle."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.targets.abi import ModelAbi, c_type
from graphopt.targets.bundle_files import render
from graphopt.targets.firmware.arenas import (
    declared,
    definitions,
    errors_of,
    given,
    holding,
    input_call,
    output_call,
    sizes_text,
)
from graphopt.targets.firmware.c_expressions import constant
from graphopt.targets.firmware.interface import (
    FIRMWARE_ERRORS,
    Quantization,
    parameter_names,
    passed,
    quantized,
)
from graphopt.targets.header import DTYPES, Side, tensors_text

LIMITS = {"int8_t": (-128, 127), "uint8_t": (0, 255), "int16_t": (-32768, 32767), "uint16_t": (0, 65535)}
"""The least and the greatest value of the types that stand for real numbers."""

SIDES: tuple[Side, Side] = ("INPUT", "OUTPUT")


def firmware_header(abi: ModelAbi, known: Mapping[str, Quantization], *, layers: int) -> str:
    """`<model>.h`: constants, the functions, and conversions of what is quantised. Valid C99 and C++."""
    facts = {
        "MODEL": abi.name,
        "MACRO": abi.macro,
        "ARENAS": sizes_text(abi),
        "PARAMETERS": ", ".join(declared(abi)),
        "ALIGNMENT": str(abi.alignment),
        "LAYERS": str(layers),
        "ERRORS": "\n".join(
            f"#define {abi.macro}_{'OK' if code == 0 else f'ERROR_{suffix}'} {code} /* {text} */"
            for code, (suffix, text) in errors_of(abi, FIRMWARE_ERRORS).items()
        ),
        "DTYPES": DTYPES,
        "INPUTS": tensors_text(abi.macro, "INPUT", abi.inputs),
        "OUTPUTS": tensors_text(abi.macro, "OUTPUT", abi.outputs),
        "INPUT_COUNT": str(len(abi.inputs)),
        "OUTPUT_COUNT": str(len(abi.outputs)),
        "SCALES": _scales(abi, known),
        "BESIDES": " besides the tensors" if abi.passes_tensors else "",
        "USE": "\n".join(f" *     {line}" for line in usage(abi)),
        "ACCESSORS": _accessors(abi),
        "RULES": PASSED if abi.passes_tensors else IN_ARENA,
        "RUN": run_prototype(abi),
        "CONVERSIONS": _conversions(abi, known),
    }
    return render("firmware.h.in", facts)


PASSED = """\
 * Inputs and outputs have as many elements as the constants above tell, and are aligned for their type. Outputs are
 * written whole; they must not overlap the inputs, each other or the arena. The arena's content before and after does
 * not matter."""

IN_ARENA = """\
 * Write all inputs before each run: it may write over them. Outputs are there until an input is written again, or the
 * arena is used for something else; between runs it may be."""


def run_prototype(abi: ModelAbi) -> str:
    """`int <model>_run(...)`, without its semicolon."""
    inputs, outputs = passed(abi)
    arguments = [
        *(f"const {c_type(spec)} *{name}" for name, spec in inputs),
        *(f"{c_type(spec)} *{name}" for name, spec in outputs),
        *declared(abi),
    ]
    return f"int {abi.name}_run({', '.join(arguments)})"


def usage(abi: ModelAbi) -> list[str]:
    """How a program runs the model: lines of C."""
    name, macro, (inputs, outputs) = abi.name, abi.macro, parameter_names(abi)
    lines = definitions(abi)
    if abi.passes_tensors:
        return [*lines, f"int error = {name}_run({', '.join([*inputs, *outputs, *given(abi)])});"]
    return [
        *lines,
        *(
            f"{c_type(spec)} *{own} = {input_call(abi, number)};"
            for number, (own, spec) in enumerate(zip(inputs, abi.inputs, strict=True))
        ),
        *(
            f"for (size_t i = 0; i < {macro}_INPUT_{n}_ELEMENTS; i++) {own}[i] = ...;"
            for n, own in enumerate(inputs)
        ),
        f"int error = {name}_run({', '.join(given(abi))});",
        *(
            f"const {c_type(spec)} *{own} = {output_call(abi, number)};"
            for number, (own, spec) in enumerate(zip(outputs, abi.outputs, strict=True))
        ),
    ]


def _accessors(abi: ModelAbi) -> str:
    """A function for each tensor that is in the arena."""
    if abi.passes_tensors:
        return ""
    blocks = []
    for side, specs, places in (
        ("input", abi.inputs, abi.inputs_at),
        ("output", abi.outputs, abi.outputs_at),
    ):
        for number, (spec, place) in enumerate(zip(specs, places, strict=True)):
            arena = holding(abi, place)
            facts = {"NUMBER": str(number), "KIND": c_type(spec), "OFFSET": str(place - arena.start)}
            facts["ARENA"] = arena.name
            blocks.append(render(f"firmware_{side}.in", {**facts, "MODEL": abi.name, "MACRO": abi.macro}))
    return "\n" + "\n".join(blocks)


def _scales(abi: ModelAbi, known: Mapping[str, Quantization]) -> str:
    lines = []
    for side, specs in zip(SIDES, (abi.inputs, abi.outputs), strict=True):
        for number, how in quantized(specs, known):
            lines += [
                f"#define {abi.macro}_{side}_{number}_SCALE {constant(how.scale, 'float32')}",
                f"#define {abi.macro}_{side}_{number}_ZERO_POINT {constant(how.zero_point, 'int32')}",
            ]
    if not lines:
        return ""
    head = "/* real = SCALE * (stored - ZERO_POINT) */"
    return "\n".join(["", head, *lines, ""])


def _conversions(abi: ModelAbi, known: Mapping[str, Quantization]) -> str:
    """A function for each quantised tensor: inputs are quantised, outputs dequantised."""
    blocks = []
    for number, _ in quantized(abi.inputs, known):
        kind = c_type(abi.inputs[number])
        low, high = LIMITS[kind]
        facts = {"KIND": kind, "LOW": f"{low}.0f", "HIGH": f"{high}.0f", "NUMBER": str(number)}
        blocks.append(render("firmware_quantize.in", {**facts, "MODEL": abi.name, "MACRO": abi.macro}))
    for number, _ in quantized(abi.outputs, known):
        facts = {"KIND": c_type(abi.outputs[number]), "NUMBER": str(number)}
        blocks.append(render("firmware_dequantize.in", {**facts, "MODEL": abi.name, "MACRO": abi.macro}))
    return "\n".join(blocks)
