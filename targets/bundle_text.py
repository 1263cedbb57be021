"""The text files of a bundle, made from the contract and the target."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from keyword import iskeyword

from graphopt.ir import DType
from graphopt.targets.abi import ABI_VERSION, ModelAbi, TensorSpec
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
        "SHAPES": _shapes(abi),
        "INPUTS": _rows(abi.macro, "INPUT", abi.inputs),
        "OUTPUTS": _rows(abi.macro, "OUTPUT", abi.outputs),
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


def _shapes(abi: ModelAbi) -> str:
    sides: tuple[tuple[Side, int], ...] = (("INPUT", len(abi.inputs)), ("OUTPUT", len(abi.outputs)))
    return "\n".join(
        f"static const long long {side.lower()}_{index}_shape[] = {abi.macro}_{side}_{index}_SHAPE;"
        for side, count in sides
        for index in range(count)
    )


def _rows(macro: str, side: Side, specs: Sequence[TensorSpec]) -> str:
    return "\n".join(
        f"    TENSOR({macro}_{side}_{index}, {side.lower()}_{index}_shape)," for index in range(len(specs))
    )


def _python_arguments(specs: Sequence[TensorSpec]) -> str:
    """Arguments of a call with zeros: by name where the names are plain, else in order."""
    zeros = [f"np.zeros({spec.shape}, np.{_numpy_name(spec.dtype)})" for spec in specs]
    if all(re.fullmatch(r"[a-zA-Z_]\w*", spec.name, re.ASCII) and not iskeyword(spec.name) for spec in specs):
        return ", ".join(f"{spec.name}={zero}" for spec, zero in zip(specs, zeros, strict=True))
    return ", ".join(zeros)


def _numpy_name(dtype: DType) -> str:
    return {DType.bool: "bool_", DType.bfloat16: "uint16"}.get(dtype, dtype.label)


def _facts(abi: ModelAbi, target: Target) -> str:
    rows = [("input", spec) for spec in abi.inputs] + [("output", spec) for spec in abi.outputs]
    lines = [f"| {side} | `{_cell(spec.name)}` {spec.dtype} {list(spec.shape)} |" for side, spec in rows]
    lines.append(f"| workspace | {abi.workspace_bytes} bytes, given by the caller |")
    lines.append(f"| C library | glibc {target.glibc} or newer |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"[|`\s]+", " ", text)
