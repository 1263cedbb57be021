"""A bundle for another machine, run under emulation.

The bundle's own example.c, compiled for that machine, is the runner: what is tested is what the user gets.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from graphopt.errors import ToolchainError
from graphopt.runtime.arguments import fitting
from graphopt.runtime.manifest import ModuleInfo, module_info
from graphopt.targets import emulator
from graphopt.targets.bundle import Bundle
from graphopt.targets.toolchain import Toolchain


class EmulatedModule:
    """Like `graphopt.Module`, for any machine there is an emulator for; each call is a process of its own.

    Raises ToolchainError when the emulator or the C library it needs is missing.
    """

    def __init__(self, bundle: Bundle, toolchain: Toolchain | None = None) -> None:
        reason = emulator.missing(bundle.target)
        if reason:
            raise ToolchainError(reason)
        self._info = module_info(bundle.manifest)
        self._target = bundle.target
        self._threads = 1
        self._folder = tempfile.TemporaryDirectory(prefix="graphopt-")
        self._path = Path(self._folder.name)
        files = [self._path / name for name in ("example.c", bundle.library.name)]
        for file in (*files, self._path / bundle.header.name):
            file.write_bytes((bundle.path / file.name).read_bytes())
        (toolchain or Toolchain()).link_executable(files, self._path / "example", bundle.target)

    @property
    def info(self) -> ModuleInfo:
        return self._info

    def set_num_threads(self, count: int) -> None:
        """Share each run's work among `count` threads."""
        self._threads = count

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name. Raises UsageError for inputs that do not fit, ToolchainError for a failed run."""
        names = []
        number, arrays = fitting(inputs, self._info.shapes)
        for index, array in enumerate(arrays):
            names.append(f"input_{index}.bin")
            (self._path / names[-1]).write_bytes(array.tobytes())
        options = ["--repeat", "0", "--threads", str(self._threads), "--shape", str(number), "--out", "."]
        command = ["./example", *options, *names]
        emulator.run(self._target, command, folder=self._path)
        outputs = {}
        for index, spec in enumerate(self._info.shapes[number].outputs):
            data = (self._path / f"output_{index}.bin").read_bytes()
            outputs[spec.name] = np.frombuffer(data, spec.dtype.numpy).reshape(spec.shape).copy()
        return outputs
