"""The C header of a compiled model: everything a caller must know, as text made from the contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from graphopt.ir import DType
from graphopt.runtime.manifest import Tensor
from graphopt.targets.abi import ABI_VERSION, ALIGNMENT, C_TYPES, ERRORS, ModelAbi, c_string, c_type
from graphopt.targets.abi import identifier as c_identifier
from graphopt.targets.bundle_files import render

Side = Literal["INPUT", "OUTPUT"]


DTYPES = "\n".join(f"#define GRAPHOPT_{dtype.label.upper()} {dtype.onnx_code}" for dtype in C_TYPES)
"""Constants for element types."""


def header_text(abi: ModelAbi) -> str:
    """`<model>.h`: constants, the description of every tensor, the four functions. Valid C99 and C++."""
    return render(
        "model.h.in",
        {
            "MODEL": abi.name,
            "MACRO": abi.macro,
            "ABI_VERSION": str(ABI_VERSION),
            "WORKSPACE_BYTES": str(abi.workspace_bytes),
            "ALIGNMENT": str(ALIGNMENT),
            "THREADS": str(abi.default_threads),
            "ERRORS": "\n".join(error_text(abi.macro, code) for code in ERRORS),
            "INPUT_COUNT": str(len(abi.inputs)),
            "OUTPUT_COUNT": str(len(abi.outputs)),
            "DTYPES": DTYPES,
            "INPUTS": tensors_text(abi.macro, "INPUT", abi.inputs),
            "OUTPUTS": tensors_text(abi.macro, "OUTPUT", abi.outputs),
            "PROFILE": _profile(abi),
            "SHAPES": _shapes(abi),
        },
    )


def _profile(abi: ModelAbi) -> str:
    """The declaration of `<model>_run_profiled`, where there is one."""
    if not abi.profiled_layers:
        return ""
    return (
        f"\n#define {abi.macro}_LAYERS {abi.profiled_layers}\n\n"
        f"/* {abi.name}_run, and how long each of the {abi.macro}_LAYERS layers of report.json took. */\n"
        f"{abi.macro}_API int {abi.name}_run_profiled(\n"
        f"    const void *const inputs[], void *const outputs[], void *workspace, size_t workspace_bytes,\n"
        f"    int num_threads, uint64_t nanoseconds[]);\n"
    )


def _shapes(abi: ModelAbi) -> str:
    """Sizes of the tensors of each further shape, and the functions that take it; nothing where there is none."""
    if len(abi.shapes) == 1:
        return ""
    blocks = [f"\n#define {abi.macro}_SHAPES {len(abi.shapes)}\n"]
    for number, signature in enumerate(abi.shapes[1:], 1):
        shown = ", ".join(map(_dims_in_words, signature.inputs))
        made = ", ".join(map(_dims_in_words, signature.outputs))
        blocks.append(f"\n/* Shape {number}: {shown} -> {made}. */")
        sides: tuple[tuple[Side, Sequence[Tensor]], ...] = (
            ("INPUT", signature.inputs),
            ("OUTPUT", signature.outputs),
        )
        for side, specs in sides:
            blocks += [_sizes(f"{abi.macro}_SHAPE_{number}_{side}_{n}", spec) for n, spec in enumerate(specs)]
    return "\n".join(blocks) + "\n" + render("shapes.h.in", {"MODEL": abi.name, "MACRO": abi.macro})


def tensor_identifiers(specs: Sequence[Tensor]) -> list[str]:
    """A C identifier for each tensor, in capitals; those that would be equal get their number."""
    wanted = [c_identifier(spec.name, fallback=str(index)).upper() for index, spec in enumerate(specs)]
    taken: set[str] = set()
    names = []
    for index, name in enumerate(wanted):
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        names.append(name)
    return names


def error_text(macro: str, code: int) -> str:
    """The constant of an error code."""
    suffix, text = ERRORS[code]
    name = f"{macro}_OK" if code == 0 else f"{macro}_ERROR_{suffix}"
    return f"#define {name} {code} /* {text} */"


def tensors_text(macro: str, side: Side, specs: Sequence[Tensor]) -> str:
    """Name, type and shape of each tensor of a side, as constants."""
    blocks = []
    for index, (spec, name) in enumerate(zip(specs, tensor_identifiers(specs), strict=True)):
        prefix = f"{macro}_{side}_{index}"
        blocks.append(
            f'/* {side.capitalize()} {index}, "{_comment(spec.name)}": {_in_words(spec)}. */\n'
            f"#define {macro}_{'IN' if side == 'INPUT' else 'OUT'}_{name} {index}\n"
            f"#define {prefix}_NAME {c_string(spec.name)}\n"
            f"#define {prefix}_TYPE {c_type(spec)}\n"
            f"#define {prefix}_DTYPE GRAPHOPT_{spec.dtype.label.upper()}\n"
            f"#define {prefix}_RANK {len(spec.shape)}\n"
            f"{_sizes(prefix, spec)}"
        )
    return "\n\n".join(blocks) or f"/* The model has no {side.lower()}s. */"


def _sizes(prefix: str, spec: Tensor) -> str:
    dims = ", ".join(map(str, spec.shape)) or "1"  # C has no empty array: a scalar's rank of 0 says it
    return (
        f"#define {prefix}_SHAPE {{ {dims} }}\n"
        f"#define {prefix}_ELEMENTS {spec.elements}\n"
        f"#define {prefix}_BYTES {spec.nbytes}"
    )


def _dims_in_words(spec: Tensor) -> str:
    return f'"{_comment(spec.name)}"' + "".join(f"[{dim}]" for dim in spec.shape)


def _in_words(spec: Tensor) -> str:
    dims = "".join(f"[{dim}]" for dim in spec.shape)
    text = f"{c_type(spec)} x{dims}" if dims else f"one {c_type(spec)}"
    notes = {
        DType.float16: ", the bits of IEEE half floats",
        DType.bfloat16: ", the bits of bfloat16: the upper half of a float",
        DType.bool: ", 0 or 1",
    }
    return text + notes.get(spec.dtype, "")


def _comment(name: str) -> str:
    """`name` as it may stand inside a C comment."""
    plain = "".join(c if c.isprintable() else " " for c in name)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")
