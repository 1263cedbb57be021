"""The C header of a firmware bundle."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.targets.abi import ModelAbi, c_type
from graphopt.targets.bundle_files import render
from graphopt.targets.firmware.c_expressions import constant
from graphopt.targets.firmware.interface import FIRMWARE_ERRORS, Quantization, parameter_names, quantized
from graphopt.targets.header import DTYPES, Side, tensors_text

LIMITS = {"int8_t": (-128, 127), "uint8_t": (0, 255), "int16_t": (-32768, 32767), "uint16_t": (0, 65535)}
"""The least and the greatest value of the types that stand for real numbers."""

SIDES: tuple[Side, Side] = ("INPUT", "OUTPUT")


def firmware_header(abi: ModelAbi, known: Mapping[str, Quantization], *, layers: int) -> str:
    """`<model>.h`: constants, the functions, and conversions of what is quantised. Valid C99 and C++."""
    facts = {
        "MODEL": abi.name,
        "MACRO": abi.macro,
        "ARENA_BYTES": str(abi.workspace_bytes),
        "ALIGNMENT": str(abi.alignment),
        "LAYERS": str(layers),
        "ERRORS": "\n".join(
            f"#define {abi.macro}_{'OK' if code == 0 else f'ERROR_{suffix}'} {code} /* {text} */"
            for code, (suffix, text) in FIRMWARE_ERRORS.items()
        ),
        "DTYPES": DTYPES,
        "INPUTS": tensors_text(abi.macro, "INPUT", abi.inputs),
        "OUTPUTS": tensors_text(abi.macro, "OUTPUT", abi.outputs),
        "INPUT_COUNT": str(len(abi.inputs)),
        "OUTPUT_COUNT": str(len(abi.outputs)),
        "SCALES": _scales(abi, known),
        "RUN": run_prototype(abi),
        "CONVERSIONS": _conversions(abi, known),
    }
    return render("firmware.h.in", facts)


def run_prototype(abi: ModelAbi) -> str:
    """`int <model>_run(...)`, without its semicolon."""
    inputs, outputs = parameter_names(abi)
    arguments = [
        *(f"const {c_type(spec)} *{name}" for name, spec in zip(inputs, abi.inputs, strict=True)),
        *(f"{c_type(spec)} *{name}" for name, spec in zip(outputs, abi.outputs, strict=True)),
        "void *arena",
        "size_t arena_bytes",
    ]
    return f"int {abi.name}_run({', '.join(arguments)})"


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
