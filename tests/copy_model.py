"""A library with the C contract whose outputs are its inputs: bundles without compiling a model."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

from graphopt.ir import DType
from graphopt.runtime.manifest import Signature, Tensor
from graphopt.targets.abi import ABI_VERSION, ERRORS, ModelAbi, c_string
from graphopt.targets.bundle import Bundle, write_bundle
from graphopt.targets.device import Target, load_target
from graphopt.targets.header import header_text
from graphopt.targets.toolchain import Toolchain

EVERY_TYPE = tuple(
    Tensor(name, dtype, shape)
    for name, dtype, shape in (
        ("x", DType.float32, (2, 3)),
        ("serving_default:0", DType.int8, (5,)),
        ('odd "name" */ \\', DType.float64, (1, 2, 3)),
        ("größe", DType.float16, (3,)),
        ("größe?", DType.bfloat16, (3,)),
        ("scalar", DType.int64, ()),
        ("empty", DType.uint8, (0, 4)),
        ("flag", DType.bool, (4,)),
        ("a:0", DType.uint32, (2,)),
        ("a_0", DType.int16, (12,)),
    )
)


def abi_of(inputs: tuple[Tensor, ...] = EVERY_TYPE, name: str = "copied") -> ModelAbi:
    """A contract whose outputs are `y of <input>`."""
    outputs = tuple(Tensor(f"y of {s.name}", s.dtype, s.shape) for s in inputs)
    return ModelAbi(name, (Signature(inputs, outputs),), workspace_bytes=256, default_threads=2)


def source(abi: ModelAbi, factor: int = 1) -> str:
    """C text; with `factor` other than 1, float inputs are multiplied by it."""
    lines = [
        f'#include "{abi.name}.h"',
        "#include <string.h>",
        f"int {abi.name}_abi_version(void) {{ return {ABI_VERSION}; }}",
        f"const char *{abi.name}_description(void) {{ return {c_string(json.dumps(abi.describe()))}; }}",
        f"const char *{abi.name}_error_string(int code) {{",
        f"    return code == 2 ? {c_string(ERRORS[2][1])} : 0;",
        "}",
        f"int {abi.name}_run(const void *const in[], void *const out[], void *work, size_t bytes, int n) {{",
        f"    if (bytes < {abi.workspace_bytes} || (uintptr_t)work % 64) return 2;",
        f"    memset(work, n, {abi.workspace_bytes});",
    ]
    for index, spec in enumerate(abi.inputs):
        lines.append(f"    memcpy(out[{index}], in[{index}], {spec.nbytes});")
        if factor != 1 and spec.dtype is DType.float32:
            lines.append(
                f"    for (int i = 0; i < {spec.elements}; ++i) ((float *)out[{index}])[i] *= {factor};"
            )
    return "\n".join([*lines, "    return 0;", "}", ""])


def copy_bundle(
    out: Path, abi: ModelAbi | None = None, target: str | Target = "host", factor: int = 1
) -> Bundle:
    """Compile the library with zig and write its bundle."""
    abi = abi or abi_of()
    machine = load_target(target) if isinstance(target, str) else target
    with tempfile.TemporaryDirectory() as folder:
        build = Path(folder)
        (build / "model.c").write_text(source(abi, factor))
        (build / f"{abi.name}.h").write_text(header_text(abi))
        library = build / f"lib{abi.name}.so"
        Toolchain().link_shared([build / "model.c"], library, machine, exports=list(abi.exports))
        return write_bundle(
            out,
            abi,
            library=library,
            target=machine,
            report={"layers": []},
            manifest_extra={"pipeline": "", "source": {}, "weights_bytes": 0},
        )


def random_arrays(abi: ModelAbi) -> dict[str, np.ndarray]:
    """Inputs of the contract's types."""
    random = np.random.default_rng(0)
    return {s.name: random.integers(0, 2, s.shape).astype(s.dtype.numpy) for s in abi.inputs}
