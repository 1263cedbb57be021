"""The contract between a compiled model and the program that calls it.

One function runs the model:

    int <model>_run(const void *const inputs[], void *const outputs[],
                    void *workspace, size_t workspace_bytes, int num_threads);

It returns 0, or one of `ERRORS`. It allocates nothing and writes nothing but the outputs and the workspace,
so any number of threads may call it, each with a workspace of its own. Tensors are dense, row-major.

A library may hold the model for several shapes of its inputs. Then `<model>_run` takes those of shape 0,
`<model>_run_shape` those of the shape whose number it is given, and `<model>_find_shape` tells the number of the shape
that has the given dimensions.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.errors import UsageError
from graphopt.ir import DType, Graph
from graphopt.runtime.manifest import Signature, Tensor, signatures

ABI_VERSION = 1
"""Changes when a program compiled against an older header would no longer work."""

ALIGNMENT = 64
"""Bytes; the workspace must start at a multiple of it. Inputs and outputs need their element's alignment."""

FIRMWARE_ALIGNMENT = 16
"""Bytes; firmware's arena and everything in it start at multiples of it: a Helium vector."""

ERRORS = {
    0: ("OK", "success"),
    1: ("NULL", "an input, an output or the workspace is a null pointer"),
    2: ("WORKSPACE", "the workspace is too small"),
    3: ("ALIGNMENT", "the workspace, an input or an output is not aligned"),
    4: ("KERNEL", "a kernel failed"),
    5: ("SHAPE", "the library has no shape of this number"),
    6: ("AMX", "the operating system does not let this process use the processor's AMX registers"),
}
"""Return code -> (suffix of the C constant, text)."""

C_TYPES = {
    DType.float32: "float",
    DType.float64: "double",
    DType.float16: "uint16_t",
    DType.bfloat16: "uint16_t",
    DType.int8: "int8_t",
    DType.uint8: "uint8_t",
    DType.int16: "int16_t",
    DType.uint16: "uint16_t",
    DType.int32: "int32_t",
    DType.uint32: "uint32_t",
    DType.int64: "int64_t",
    DType.uint64: "uint64_t",
    DType.bool: "uint8_t",
    DType.int4: "int8_t",
    DType.uint4: "uint8_t",
    DType.int2: "int8_t",
    DType.uint2: "uint8_t",
    DType.float8e4m3fn: "uint8_t",
    DType.float8e4m3fnuz: "uint8_t",
    DType.float8e5m2: "uint8_t",
    DType.float8e5m2fnuz: "uint8_t",
    DType.float8e8m0: "uint8_t",
    DType.float4e2m1: "uint8_t",
}
"""The C type of one element. Floats of 16 bits or fewer travel as their bits, one element to a byte or more."""


TEXTS_HINT = (
    "turn texts into numbers outside; onnx.utils.extract_model cuts out the part of a model behind them"
)


def not_passable(graph: Graph) -> list[tuple[str, str]]:
    """The inputs and outputs that no C program can pass: `("input 's'", why)`."""
    sides = [("input", value.name, value) for value in graph.inputs]
    sides += [("output", n, value) for n, value in zip(graph.output_names, graph.outputs, strict=True)]
    return [
        (f"{side} '{name}'", f"its elements are {value.type.dtype}, which a C program cannot pass")
        for side, name, value in sides
        if value.type is not None and value.type.dtype not in C_TYPES
    ]


def c_type(tensor: Tensor) -> str:
    """Of one element."""
    return C_TYPES[tensor.dtype]


def check_shapes(shapes: Sequence[Signature]) -> None:
    """Raise UsageError for two that a call could not tell apart, or that differ in more than dimensions."""
    first = shapes[0]
    seen: dict[tuple[tuple[int, ...], ...], int] = {}
    for number, shape in enumerate(shapes):
        dims = tuple(spec.shape for spec in shape.inputs)
        if dims in seen:
            listed = ", ".join(f"'{spec.name}' is {list(spec.shape)}" for spec in shape.inputs)
            raise UsageError(f"a shape is given twice: {listed}", where="input shapes", hint="give it once")
        seen[dims] = number
        pairs = [
            *zip(first.inputs, shape.inputs, strict=True),
            *zip(first.outputs, shape.outputs, strict=True),
        ]
        for a, b in pairs:
            if (a.name, a.dtype, len(a.shape)) != (b.name, b.dtype, len(b.shape)):
                raise UsageError(
                    f"'{a.name}' is {a.dtype}{list(a.shape)} for one shape, {b.dtype}{list(b.shape)} for another",
                    where="input shapes",
                    hint="compile them into libraries of their own",
                )


@dataclass(frozen=True)
class ModelAbi:
    """What a caller must know. `name` is a C identifier and the prefix of every exported symbol.

    `shapes` has a signature for each shape the model was compiled for, equal in all but their dimensions;
    `workspace_bytes` is enough for any of them. `profiled_layers` is the number of layers that
    `<model>_run_profiled` tells the time of; 0: there is no such function. The workspace starts at a multiple of
    `alignment`. Where inputs and outputs are in the workspace, `inputs_at` and `outputs_at` are the bytes in front of
    each; otherwise the caller passes them. `arenas` are regions of RAM and the bytes that it takes of each, where none
    holds it as a whole; places count as if they lay one behind the other. With `uses_amx` the operating system is
    asked for leave to use those registers.
    """

    name: str
    shapes: tuple[Signature, ...]
    workspace_bytes: int
    default_threads: int
    profiled_layers: int = 0
    alignment: int = ALIGNMENT
    inputs_at: tuple[int, ...] = ()
    outputs_at: tuple[int, ...] = ()
    arenas: tuple[tuple[str, int], ...] = ()
    uses_amx: bool = False

    @property
    def passes_tensors(self) -> bool:
        """The caller has buffers of its own for inputs and outputs."""
        return not self.outputs_at

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Those of shape 0."""
        return self.shapes[0].inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """Those of shape 0."""
        return self.shapes[0].outputs

    @property
    def macro(self) -> str:
        return self.name.upper()

    @property
    def exports(self) -> tuple[str, ...]:
        """The only symbols a library shows."""
        shown = ("run", "error_string", "description", "abi_version")
        profile = ("run_profiled",) if self.profiled_layers else ()
        several = ("run_shape", "find_shape") if len(self.shapes) > 1 else ()
        return tuple(f"{self.name}_{suffix}" for suffix in (*shown, *profile, *several))

    def describe(self) -> dict[str, Any]:
        """The contract as data: what `<model>_description` returns as JSON."""
        first, *more = [_describe_signature(signature) for signature in self.shapes]
        return {
            "model": self.name,
            "abi_version": ABI_VERSION,
            **first,
            **({"more_shapes": more} if more else {}),
            "workspace_bytes": self.workspace_bytes,
            "workspace_alignment": self.alignment,
            **({"arenas": [list(arena) for arena in self.arenas]} if self.arenas else {}),
            "default_threads": self.default_threads,
            **({"profiled_layers": self.profiled_layers} if self.profiled_layers else {}),
            **(
                {}
                if self.passes_tensors
                else {"inputs_at": list(self.inputs_at), "outputs_at": list(self.outputs_at)}
            ),
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> ModelAbi:
        """The contract that `describe` told. Raises KeyError, TypeError or ValueError for anything else."""
        sizes = (int(data["workspace_bytes"]), int(data["default_threads"]))
        layers, alignment = int(data.get("profiled_layers", 0)), int(data["workspace_alignment"])
        inputs_at, outputs_at = (tuple(map(int, data.get(side, ()))) for side in ("inputs_at", "outputs_at"))
        arenas = tuple((str(name), int(size)) for name, size in data.get("arenas", ()))
        name = str(data["model"])
        return cls(name, signatures(data), *sizes, layers, alignment, inputs_at, outputs_at, arenas)


def _describe_signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": [_describe_tensor(spec) for spec in signature.inputs],
        "outputs": [_describe_tensor(spec) for spec in signature.outputs],
    }


def _describe_tensor(spec: Tensor) -> dict[str, Any]:
    return {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.shape), "bytes": spec.nbytes}


def c_string(text: str) -> str:
    """A C string literal; anything but plain ASCII becomes octal escapes of its UTF-8 bytes."""
    plain = {ord('"'): '\\"', ord("\\"): "\\\\"}
    body = "".join(
        plain.get(byte) or (chr(byte) if 32 <= byte < 127 and byte != ord("?") else f"\\{byte:03o}")
        for byte in text.encode()
    )
    return f'"{body}"'


RESERVED = (sys.stdlib_module_names - {"test"}) | frozenset(
    "assert complex ctype errno float limits locale math setjmp signal stdatomic stdbool stddef stdint stdio"
    " stdlib string time threads wchar numpy"
    " anl c crypt dl gcc gcc_s m mvec nsl pthread resolv rt stdc stdcxx util".split()
)
"""Names whose header, Python module or library (`-lm`) would hide a standard one."""


def identifier(text: str, fallback: str = "model") -> str:
    """A C identifier made of `text`: other characters become `_`, runs of it collapse."""
    name = re.sub(r"[\W_]+", "_", text, flags=re.ASCII).strip("_").lower()
    if not name:
        return fallback
    return f"m_{name}" if name[0].isdigit() or name in RESERVED else name
