"""A compiled model in this process: arrays in, arrays out."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.errors import GraphoptError, UsageError
from graphopt.runtime.arguments import fitting
from graphopt.runtime.array_address import first_address
from graphopt.runtime.manifest import ModuleInfo, Signature, module_info, read_manifest, runs_here
from graphopt.runtime.shape_call import Frame, ShapeCall


class Module:
    """A bundle loaded into this process.

    `path` is the bundle, its folder, or the library in it. Calls may come from several threads at once;
    each uses a workspace of its own, kept for the next call. Raises UsageError when the bundle is damaged, or
    made for another machine.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        folder = given.parent if given.suffix == ".so" else given
        manifest = read_manifest(folder)
        self._info = module_info(manifest)
        self._path = given
        library = folder / f"lib{self._info.name}.so"
        _check_machine(self._info, given)
        self._library = _load(library, manifest["files"][library.name]["sha256"])
        contract = manifest["contract"]
        self._alignment = int(contract["workspace_alignment"])
        self._threads = 0
        self._frames: list[Frame] = []
        version = self._function("abi_version")()
        if version != contract["abi_version"]:
            raise UsageError(
                f"the library has ABI version {version}, its manifest {contract['abi_version']}",
                where=str(given),
                hint="compile again",
            )
        self._error_string = self._function("error_string")
        self._error_string.restype = ctypes.c_char_p
        self._shapes = [
            self._shape_call(self._run_of(number), signature)
            for number, signature in enumerate(self._info.shapes)
        ]

    @property
    def info(self) -> ModuleInfo:
        return self._info

    def set_num_threads(self, count: int) -> None:
        """Share each run's work among `count` threads, the calling one among them."""
        if count < 1:
            raise UsageError(f"{count} threads cannot run anything", hint="give 1 or more")
        self._threads = count

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, as new arrays; inputs have the shape of one that the model was compiled for.

        Raises UsageError, naming the input, for a name, an element type or a shape that does not fit.
        """
        for shape in self._shapes:
            outputs = shape(inputs, self._threads)
            if outputs is not None:
                return outputs
        number, arrays = fitting(inputs, self._info.shapes)
        return self._shapes[number].run(list(map(first_address, arrays)), self._threads)

    def profile(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Nanoseconds that each layer took in one run, in the order of report.json's layers (int64).

        Raises UsageError for a library that was compiled without `profile`.
        """
        if not self._info.profiled_layers:
            what = "it was compiled without counters"
            raise UsageError(what, where=str(self._path), hint="compile with --profile")
        taken = np.zeros(self._info.profiled_layers, np.uint64)
        _, arrays = fitting(inputs, self._info.shapes[:1])
        shape = self._shape_call(self._function("run_profiled"), self._info.shapes[0])
        shape.run(list(map(first_address, arrays)), self._threads, ctypes.c_void_p(taken.ctypes.data))
        return taken.astype(np.int64)

    def __repr__(self) -> str:
        shapes = " or ".join(map(str, self._info.shapes))
        return f"Module {self._info.name} for {self._info.target['name']}: {shapes}"

    def _shape_call(self, run: Callable[..., int], signature: Signature) -> ShapeCall:
        new_frame = partial(Frame, self._info, self._alignment)
        return ShapeCall(run, signature, self._frames, new_frame, self._failure)

    def _failure(self, error: int) -> GraphoptError:
        return GraphoptError(self._error_string(error).decode(), where=self._info.name)

    def _run_of(self, shape: int) -> Callable[..., int]:
        """What runs the shape of this number."""
        return self._function("run") if shape == 0 else partial(self._function("run_shape"), shape)

    def _function(self, suffix: str) -> Any:
        return self._library[f"{self._info.name}_{suffix}"]


def _check_machine(info: ModuleInfo, path: Path) -> None:
    reason = runs_here(info.target)
    if reason:
        raise UsageError(
            f"it was compiled for {info.target['name']}, and {reason}",
            where=str(path),
            hint=f"run it under emulation with `graphopt run {path} --on qemu`",
        )


_loading = threading.Lock()
_loaded: dict[Path, str] = {}
"""Libraries of this process, and their hashes: the dynamic linker knows a library by its path alone."""


def _load(library: Path, sha256: str) -> ctypes.CDLL:
    """Load `library` once its bytes are what the manifest says: a cut file would kill the process."""
    path = library.resolve()
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}",
            where=str(library),
            hint="copy the whole folder again, or compile again",
        ) from None
    if found != sha256:
        raise UsageError(
            "it is not the library that its manifest names",
            where=str(library),
            hint="copy the whole folder again, or compile again",
        )
    with _loading:
        if _loaded.setdefault(path, sha256) == sha256:
            return ctypes.CDLL(str(path))
        # Compiled again at the same place: the linker would hand out the old one.
        with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
            copy = shutil.copy(path, folder)
            return ctypes.CDLL(copy)
