"""The C text of a self-test: a sample, the outputs it should give, and the function that compares.

The outputs are those of the numpy reference. Integers may differ by one in the last place, floats by `TOLERANCE` of the
largest output: sums of floats depend on their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.runtime.manifest import Tensor
from graphopt.targets.abi import ModelAbi, c_type
from graphopt.targets.firmware.c_arrays import definition, length
from graphopt.targets.firmware.c_expressions import constant
from graphopt.targets.firmware.interface import parameter_names

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Sample:
    """Arrays by the names of the model's inputs, and of its outputs."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


def selftest_text(abi: ModelAbi, sample: Sample) -> str:
    """`<model>_selftest.c`."""
    inputs, outputs = parameter_names(abi)
    lines = [f'#include "{abi.name}_internal.h"', ""]
    for name, spec in zip(inputs, abi.inputs, strict=True):
        array = sample.inputs[spec.name]
        lines += definition(f"static const {c_type(spec)} given_{name}[{length(array)}]", array)
    for name, spec in zip(outputs, abi.outputs, strict=True):
        array = sample.outputs[spec.name]
        lines += definition(f"static const {c_type(spec)} wanted_{name}[{length(array)}]", array)
        lines += [f"static {c_type(spec)} made_{name}[{max(spec.elements, 1)}];", ""]
    passed = [*(f"given_{name}" for name in inputs), *(f"made_{name}" for name in outputs)]
    lines += [
        f"int {abi.name}_selftest(void *arena, size_t arena_bytes) {{",
        f"    const int error = {abi.name}_run({', '.join([*passed, 'arena', 'arena_bytes'])});",
        "    if (error) return -error;",
    ]
    for number, (name, spec) in enumerate(zip(outputs, abi.outputs, strict=True), 1):
        lines += _comparison(number, name, spec, sample.outputs[spec.name])
    return "\n".join([*lines, "    return 0;", "}", ""])


def _comparison(number: int, name: str, spec: Tensor, wanted: np.ndarray) -> list[str]:
    """Bits are compared where C has no arithmetic for them."""
    made, want = f"made_{name}[i]", f"wanted_{name}[i]"
    if spec.dtype.numpy.name in ("float32", "float64"):
        finite = np.abs(wanted[np.isfinite(wanted)])
        bound = constant(TOLERANCE * max(float(finite.max(initial=0.0)), 1e-6), "float32")
        differs = f"!({made} - {want} <= {bound}) || !({want} - {made} <= {bound})"
    elif spec.dtype.numpy.itemsize < 4 and spec.dtype.numpy.kind in "iu":
        differs = f"{made} - {want} > 1 || {want} - {made} > 1"
    else:
        differs = f"{made} != {want}"
    return [
        f"    for (size_t i = 0; i < {max(spec.elements, 1)}u; i++) {{",
        f"        if ({differs}) return {number};",
        "    }",
    ]
