"""What a bundle's manifest tells a program that wants to run it."""

from __future__ import annotations

import json
import math
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError
from graphopt.ir import DType

MANIFEST = "manifest.json"
FORMAT = "graphopt bundle 1"
"""What is written, and all that is read."""


@dataclass(frozen=True)
class Tensor:
    """One input or output of a compiled model: the ONNX name, the element type, the static shape."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * self.dtype.numpy.itemsize

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class Signature:
    """The tensors of a run."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        inputs, outputs = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return f"({inputs}) -> ({outputs})"


@dataclass(frozen=True)
class ModuleInfo:
    """What a compiled model is: the I/O contract, the machine it is for, what made it.

    `shapes` has a signature for each shape the model was compiled for; `inputs` and `outputs` are those of the
    first. `profiled_layers` is the number of layers it can tell the time of; 0 for most libraries.
    """

    name: str
    shapes: tuple[Signature, ...]
    workspace_bytes: int
    default_threads: int
    target: Mapping[str, Any]
    versions: Mapping[str, str]
    profiled_layers: int = 0

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.shapes[0].inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self.shapes[0].outputs


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the bundle in `folder`. Raises UsageError when there is none, or it is not what was written."""
    where = str(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        told = manifest["format"]
        if told == FORMAT:
            _check(manifest)
            return manifest
    except OSError as error:
        raise UsageError(
            f"not a bundle: {MANIFEST} cannot be read ({error.strerror})",
            where=where,
            hint="make one with `graphopt compile MODEL -o FOLDER`",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"not a bundle: {MANIFEST} is damaged", where=where, hint="compile again") from None
    raise UsageError(f"its format is '{told}', not '{FORMAT}'", where=where, hint="compile again")


def _check(manifest: Mapping[str, Any]) -> None:
    """Raise an error of Python's where something is missing or of another kind."""
    info = module_info(manifest)
    info.target["triple"].split("-"), set(info.target["cpu_flags"]), dict(info.versions)
    "".join(entry["sha256"] for entry in manifest["files"].values())
    str(manifest["files"][f"{info.name}.h" if is_firmware(info.target) else f"lib{info.name}.so"])
    "".join(tensor.name for tensor in (*info.inputs, *info.outputs))
    int(manifest["contract"]["workspace_alignment"]), int(manifest["contract"]["abi_version"])


def module_info(manifest: Mapping[str, Any]) -> ModuleInfo:
    contract = manifest["contract"]
    shapes = signatures(contract)
    return ModuleInfo(
        contract["model"],
        shapes,
        int(contract["workspace_bytes"]),
        int(contract["default_threads"]),
        manifest["target"],
        manifest["versions"],
        int(contract.get("profiled_layers", 0)),
    )


def signatures(contract: Mapping[str, Any]) -> tuple[Signature, ...]:
    """One for each shape. Raises KeyError, TypeError or ValueError where the contract does not tell them."""
    return tuple(_signature(entry) for entry in (contract, *contract.get("more_shapes", ())))


def _signature(data: Mapping[str, Any]) -> Signature:
    inputs, outputs = (
        tuple(Tensor(str(t["name"]), DType[t["dtype"]], tuple(map(int, t["shape"]))) for t in data[side])
        for side in ("inputs", "outputs")
    )
    return Signature(inputs, outputs)


def is_firmware(target: Mapping[str, Any]) -> bool:
    """`target`, as a manifest describes it, has no operating system."""
    return "none" in target["triple"].split("-")


def runs_here(target: Mapping[str, Any]) -> str:
    """Why code for `target` (as a manifest describes it) cannot run in this process; empty when it can."""
    architecture = target["triple"].split("-")[0]
    pointer_bits = struct.calcsize("P") * 8
    families = {
        "x86_64": (("x86_64",), 64),
        "aarch64": (("aarch64",), 64),
        "armv7": (("armv7l", "armv8l", "aarch64"), 32),
    }
    machines, bits = families.get(architecture, ((architecture,), pointer_bits))
    if platform.machine() not in machines or pointer_bits != bits:
        return f"this machine is {platform.machine()}"
    lacking = sorted(set(target["cpu_flags"]) - _cpu_flags())
    return f"this processor lacks {', '.join(lacking)}" if lacking else ""


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
