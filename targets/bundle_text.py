"""The text files of a bundle, made from the contract and the target."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from keyword import iskeyword

from graphopt.ir import DType
from graphopt.runtime.manifest import Tensor
from graphopt.targets.abi import ABI_VERSION, ModelAbi
from graphopt.targets.bundle_files import render
from graphopt.targets.device import Target
from graphopt.targets.header import Side, header_text


def text_files(abi: ModelAbi, target: Target) -> dict[str, bytes]:
    """File name -> content: header, Python module, example, CMake and pkg-config files, README."""
    facts = {
        "MODEL": abi.name,
        "MACRO": abi.macro,
        "ABI_VERSION": str(ABI_VERSION),
        "VERSION": metadata.version("graphopt"),
        "TARGET": re.sub(r"[^\w.+-]", "_", target.name),
        "TARGET_DESCRIPTION": " ".join(target.description.split()),
        "ARGUMENTS": _python_arguments(abi.inputs),
        "FACTS": _facts(abi, target),
        "BUILD_NOTES": _build_notes(abi, target),
        "TABLES": _tables(abi),
        "INPUT_TABLES": _table_names(abi, "INPUT"),
        "OUTPUT_TABLES": _table_names(abi, "OUTPUT"),
        "SHAPES": str(len(abi.shapes)),
        "RUN": f"{abi.name}_run_shape(shape, " if len(abi.shapes) > 1 else f"{abi.name}_run(",
    }
    texts = {
        f"{abi.name}.h": header_text(abi),
        f"{abi.name}.py": render("model.py.in", facts),
        "example.c": render("example.c.in", facts),
        f"{abi.name}Config.cmake": render("Config.cmake.in", facts),
        f"{abi.name}ConfigVersion.cmake": render("ConfigVersion.cmake.in", facts),
        f"{abi.name}.pc": render("model.pc.in", facts),
        "README.md": render("README.md.in", facts),
    }
    return {name: text.encode() for name, text in texts.items()}


CROSS_COMPILERS = {"aarch64": "aarch64-linux-gnu-gcc", "armv7": "arm-linux-gnueabihf-gcc"}
"""Debian's compiler for each architecture that is not the one most people compile on."""


def _build_notes(abi: ModelAbi, target: Target) -> str:
    """What is to know of the line that compiles example.c, a paragraph for each."""
    notes = []
    compiler = CROSS_COMPILERS.get(target.triple.split("-")[0])
    if compiler:
        notes.append(
            f"That is for the device itself. On another machine write `{compiler}` for `cc`, and run `./example`\n"
            "on the device, whose C library must be no older than that compiler's.\n\n"
        )
    if len(abi.shapes) > 1:
        notes.append(f"`./example --shape N` takes shape N, from 0 to {len(abi.shapes) - 1}.\n\n")
    return "".join(notes)


SIDES: tuple[Side, Side] = ("INPUT", "OUTPUT")


def _tables(abi: ModelAbi) -> str:
    """For each shape of the model the tables of its tensors in example.c."""
    return "\n".join(
        line
        for number in range(len(abi.shapes))
        for side, specs in zip(SIDES, (abi.inputs, abi.outputs), strict=True)
        for line in _table(abi.macro, side, len(specs), number)
    )


def _table(macro: str, side: Side, count: int, number: int) -> list[str]:
    table = f"{side.lower()}s_{number}"
    sized = f"{macro}_SHAPE_{number}_{side}" if number else f"{macro}_{side}"
    return [
        *(f"static const int64_t {table}_{n}[] = {sized}_{n}_SHAPE;" for n in range(count)),
        f"static const Tensor {table}[] = {{",
        *(f"    TENSOR({macro}_{side}_{n}, {sized}_{n}, {table}_{n})," for n in range(count)),
        "    {NULL, 0, 0, 0, 0, NULL},",
        "};",
    ]


def _table_names(abi: ModelAbi, side: Side) -> str:
    return ", ".join(f"{side.lower()}s_{number}" for number in range(len(abi.shapes)))


def _python_arguments(specs: Sequence[Tensor]) -> str:
    """Arguments of a call with zeros: by name where the names are plain, else in order."""
    zeros = [f"np.zeros({spec.shape}, np.{_numpy_name(spec.dtype)})" for spec in specs]
    if all(re.fullmatch(r"[a-zA-Z_]\w*", spec.name, re.ASCII) and not iskeyword(spec.name) for spec in specs):
        return ", ".join(f"{spec.name}={zero}" for spec, zero in zip(specs, zeros, strict=True))
    return ", ".join(zeros)


def _numpy_name(dtype: DType) -> str:
    return {DType.bool: "bool_", DType.bfloat16: "uint16"}.get(dtype, dtype.label)


def _facts(abi: ModelAbi, target: Target) -> str:
    lines = []
    for number, shape in enumerate(abi.shapes):
        suffix = f" of shape {number}" if len(abi.shapes) > 1 else ""
        for side, specs in (("input", shape.inputs), ("output", shape.outputs)):
            lines += [f"| {side}{suffix} | `{_cell(s.name)}` {s.dtype} {list(s.shape)} |" for s in specs]
    lines.append(f"| workspace | {abi.workspace_bytes} bytes, given by the caller |")
    lines.append(f"| C library | glibc {target.glibc} or newer |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"[|`\s]+", " ", text)
