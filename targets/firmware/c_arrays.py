"""Arrays as C text."""

from __future__ import annotations

import numpy as np

from graphopt.targets.firmware.c_expressions import C_TYPES, constant

PER_LINE = 16
"""Elements in a line."""


def numbers(array: np.ndarray) -> np.ndarray:
    """The array, or its bits as integers where C has no type for its elements."""
    if array.dtype.name in C_TYPES and array.dtype.name != "bool":
        return array
    return np.ascontiguousarray(array).view(f"uint{8 * array.dtype.itemsize}")


def element_type(array: np.ndarray) -> str:
    """The C type of an element."""
    return C_TYPES[numbers(array).dtype.name]


def length(array: np.ndarray) -> int:
    """Elements in the C array, which has at least one."""
    return max(array.size, 1)


def definition(head: str, array: np.ndarray) -> list[str]:
    """Lines that define the array; `head` is what stands before the equals sign."""
    held = numbers(array)
    texts = [constant(value, held.dtype.name) for value in held.ravel().tolist()] or ["0"]
    rows = [f"    {', '.join(texts[n : n + PER_LINE])}," for n in range(0, len(texts), PER_LINE)]
    return [f"{head} = {{", *rows, "};", ""]
