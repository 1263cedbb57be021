"""What one call of a compiled model costs beside the model itself, done as rarely as possible.

A small model takes ten microseconds, and what Python does around it is cold after each run. So names, element types
and dimensions are taken from the signature once, and an array is exported once, as a buffer: that tells its address,
that its elements lie together and may be written, and keeps it alive. One that may not be written is asked for its
address, and kept itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.runtime.array_address import first_address
from graphopt.runtime.manifest import ModuleInfo, Signature

ndarray = np.ndarray
empty: Callable[..., Any] = np.empty
address_of = ctypes.addressof
exported: Callable[[Any], ctypes.c_char] = ctypes.c_char.from_buffer


class ShapeCall:
    """Checks arrays against one shape of a model, and runs it in one of `frames`, or in a new one.

    `run` gets ctypes objects, and integers that are `int` in C: it needs no argument types, which would be looked
    through at every call. `failure` makes an exception of the number that it returns. May be called from several
    threads at once.
    """

    def __init__(
        self,
        run: Callable[..., int],
        signature: Signature,
        frames: list[Frame],
        new_frame: Callable[[], Frame],
        failure: Callable[[int], Exception],
    ) -> None:
        self._function = run
        self._count = len(signature.inputs)
        self._inputs = tuple(
            (spec.name, spec.dtype.numpy, spec.shape, spec.dtype.numpy.alignment) for spec in signature.inputs
        )
        self._outputs = tuple(
            (number, spec.name, spec.shape, spec.dtype.numpy) for number, spec in enumerate(signature.outputs)
        )
        self._frames = frames
        self._new_frame = new_frame
        self._failure = failure

    def __call__(self, inputs: Mapping[str, np.ndarray], threads: int) -> dict[str, np.ndarray] | None:
        """The outputs by name, as new arrays; None unless the inputs fit as they are, as most do."""
        if type(inputs) is not dict or len(inputs) != self._count:
            return None
        kept, addresses = [], []
        for name, dtype, shape, alignment in self._inputs:
            array: Any = inputs.get(name)
            if type(array) is not ndarray or array.dtype is not dtype or array.shape != shape:
                return None
            try:
                buffer: Any = exported(array)
                address = address_of(buffer)
            except TypeError:  # read-only
                if not array.flags.c_contiguous:
                    return None
                buffer, address = array, first_address(array)
            except ValueError:  # strided, or without elements
                return None
            if address % alignment:
                return None
            kept.append(buffer)
            addresses.append(address)
        return self.run(addresses, threads)

    def run(self, inputs: Sequence[int], threads: int, *more: Any) -> dict[str, np.ndarray]:
        """The outputs by name, as new arrays; `inputs` are the addresses of the arrays' first elements.

        `more` are arguments behind those that every run has.
        """
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = self._new_frame()
        input_table, output_table, workspace, size = frame.arguments
        for number, address in enumerate(inputs):
            input_table[number] = address
        outputs = {}
        for number, name, shape, dtype in self._outputs:
            outputs[name] = array = empty(shape, dtype)
            try:
                output_table[number] = address_of(exported(array))
            except ValueError:  # without elements
                output_table[number] = array.ctypes.data
        error = self._function(input_table, output_table, workspace, size, threads, *more)
        self._frames.append(frame)
        if error:
            raise self._failure(error)
        return outputs


class Frame:
    """What a run needs beside its arrays: tables of their addresses, and a workspace."""

    def __init__(self, info: ModuleInfo, alignment: int) -> None:
        inputs = (ctypes.c_void_p * len(info.inputs))()
        outputs = (ctypes.c_void_p * len(info.outputs))()
        self._workspace = _aligned_bytes(info.workspace_bytes, alignment)
        address, size = ctypes.c_void_p(self._workspace.ctypes.data), ctypes.c_size_t(info.workspace_bytes)
        self.arguments = (inputs, outputs, address, size)


def _aligned_bytes(size: int, alignment: int) -> np.ndarray:
    buffer = np.empty(size + alignment, np.uint8)
    start = -buffer.ctypes.data % alignment
    return buffer[start : start + size]
