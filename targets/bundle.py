"""A bundle: the folder that goes to the device.

The library, its header, a Python module, an example program, CMake and pkg-config files, the optimised
model, a report, and a manifest with the hash of everything. It is written beside its place and renamed at the
end, so that nothing half-written is ever found there; equal inputs give equal bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError
from graphopt.pipeline import PipelineRecord
from graphopt.runtime.manifest import FORMAT, MANIFEST, read_manifest
from graphopt.targets.abi import ModelAbi
from graphopt.targets.bundle_text import text_files
from graphopt.targets.device import Target, list_targets, load_target
from graphopt.targets.memory_map import regions_of

REPORT = "report.json"
FIELDS_OF_THIS_MACHINE = ("emulator", "emulator_board", "emulator_cpu", "emulator_machine", "sysroot")
"""What a target says of the machine that compiles, not of the bundle."""


@dataclass(frozen=True)
class Bundle:
    """An existing bundle. `Bundle.open` reads and checks one.

    `record` tells what each pass did where the bundle was compiled just now; it is empty otherwise.
    """

    path: Path
    manifest: dict[str, Any]
    record: PipelineRecord = field(default_factory=PipelineRecord, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """The bundle in the folder `path`. Raises UsageError when it is none, or not what was written."""
        folder = Path(path)
        bundle = cls(folder, read_manifest(folder))
        changed = bundle.changed_files()
        if changed:
            raise UsageError(
                f"missing, or changed since the bundle was written: {', '.join(changed)}",
                where=str(folder),
                hint="copy the whole folder again, or compile again",
            )
        return bundle

    def __fspath__(self) -> str:
        """A bundle may stand wherever its folder does: `Module(bundle)`."""
        return str(self.path)

    @cached_property
    def abi(self) -> ModelAbi:
        return ModelAbi.parse(self.manifest["contract"])

    @cached_property
    def report(self) -> dict[str, Any]:
        return json.loads((self.path / REPORT).read_text(encoding="utf-8"))

    @property
    def name(self) -> str:
        return self.abi.name

    @property
    def library(self) -> Path:
        return self.path / f"lib{self.name}.so"

    @property
    def header(self) -> Path:
        return self.path / f"{self.name}.h"

    @property
    def optimized(self) -> Path | None:
        """The optimised model as ONNX; None where ONNX lacks an operator for it."""
        path = self.path / f"{self.name}.onnx"
        return path if path.name in self.manifest["files"] else None

    @cached_property
    def target(self) -> Target:
        """The machine the bundle is for; how to emulate it comes from the catalog's target of its kind."""
        told = self.manifest["target"]
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in told.items()
        }
        del fields["cpu_flags"]
        fields["regions"] = regions_of(told.get("regions", ()), MANIFEST)
        known = [load_target(name) for name in list_targets() if name != "host"]
        alike = [t for t in known if t.triple == fields["triple"]]
        needed = set(fields["features"])
        alike.sort(
            key=lambda t: (
                t.cpu != fields["cpu"],
                not needed <= set(t.features),
                not t.emulator_board,
                t.name,
            )
        )
        emulation = {key: getattr(alike[0], key) for key in FIELDS_OF_THIS_MACHINE} if alike else {}
        return Target(**fields, **emulation)

    def changed_files(self) -> list[str]:
        """Files that are missing or no longer have the manifest's hash."""
        return [
            name
            for name, entry in self.manifest["files"].items()
            if _sha256_of_file(self.path / name) != entry["sha256"]
        ]


def write_bundle(
    out: Path,
    abi: ModelAbi,
    *,
    library: bytes | Path,
    target: Target,
    report: Mapping[str, Any],
    manifest_extra: Mapping[str, Any] | None = None,
    optimized: bytes | None = None,
) -> Bundle:
    """Write a bundle at `out`; one that is there already is replaced.

    `report` and `manifest_extra` hold what JSON can. Raises UsageError when `out` cannot be written, or holds
    anything that would be lost; `out` is untouched then.
    """
    files = {
        f"lib{abi.name}.so": library if isinstance(library, bytes) else library.read_bytes(),
        **text_files(abi, target),
    }
    return write_files(
        out,
        abi,
        files,
        target=target,
        report=report,
        manifest_extra=manifest_extra,
        optimized=optimized,
    )


def write_files(
    out: Path,
    abi: ModelAbi,
    files: Mapping[str, bytes],
    *,
    target: Target,
    report: Mapping[str, Any],
    manifest_extra: Mapping[str, Any] | None = None,
    optimized: bytes | None = None,
) -> Bundle:
    """The same with any files."""
    check_destination(out)
    held = {REPORT: _json(report), **files}
    if optimized is not None:
        held[f"{abi.name}.onnx"] = optimized
    manifest = {
        "format": FORMAT,
        "contract": abi.describe(),
        "target": _describe_target(target),
        "versions": versions(),
        **(manifest_extra or {}),
        "files": {name: _entry(data) for name, data in sorted(held.items())},
    }
    put_folder(out, {**held, MANIFEST: _json(manifest)})
    return Bundle(out, json.loads(_json(manifest)))


def with_report(bundle: Bundle, report: Mapping[str, Any]) -> Bundle:
    """The bundle with another `report.json`, at the same place. Raises UsageError when it cannot be written."""
    files = {name: (bundle.path / name).read_bytes() for name in bundle.manifest["files"]}
    files[REPORT] = _json(report)
    told = {**bundle.manifest["files"], REPORT: _entry(files[REPORT])}
    manifest = {**bundle.manifest, "files": told}
    put_folder(bundle.path, {**files, MANIFEST: _json(manifest)})
    return Bundle(bundle.path, manifest)


def put_folder(out: Path, files: Mapping[str, bytes]) -> None:
    """Make the folder `out` hold `files`, whose names may be paths in it, all or nothing.

    Raises UsageError where it cannot be written.
    """
    place = out.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as folder:
            fresh = Path(folder, "new")
            fresh.mkdir()
            for name, data in files.items():
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                (fresh / name).write_bytes(data)
            if place.exists():
                place.rename(Path(folder, "old"))
            fresh.rename(place)
    except OSError as error:
        hint = "choose another place with -o"
        raise UsageError(f"cannot be written: {error.strerror}", where=str(out), hint=hint) from None


def _entry(data: bytes) -> dict[str, Any]:
    """What the manifest tells of a file."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def check_destination(out: Path) -> None:
    """Raise UsageError when a bundle at `out` would destroy something, or cannot be written.

    An empty folder and an unchanged bundle may be replaced.
    """
    hint = "choose another place with -o, or move it away"
    if out.exists() and not out.is_dir():
        raise UsageError("it is a file, not a folder", where=str(out), hint=hint)
    existing = next((p for p in (out.resolve(), *out.resolve().parents) if p.exists()), Path("/"))
    writable = existing if not out.exists() else out.resolve().parent
    if not existing.is_dir():
        raise UsageError(f"{existing} is a file, not a folder", where=str(out), hint=hint)
    if not writable.is_dir() or not os.access(writable, os.W_OK | os.X_OK):
        raise UsageError("cannot be written: permission denied", where=str(out), hint="choose another place")
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        bundle = Bundle(out, read_manifest(out))
    except UsageError:
        raise UsageError("the folder exists and is not a bundle", where=str(out), hint=hint) from None
    expected = {MANIFEST, "__pycache__", *bundle.manifest["files"]}
    lost = sorted({p.name for p in out.iterdir()} - expected)
    lost += [name for name in bundle.changed_files() if (out / name).exists()]
    if lost:
        raise UsageError(f"{', '.join(lost[:5])} would be lost", where=str(out), hint=hint)


def versions() -> dict[str, str]:
    """The versions that decide what the compiler writes."""
    from importlib import metadata

    return {name: metadata.version(name) for name in ("graphopt", "apache-tvm", "onnx", "ziglang")}


def _describe_target(target: Target) -> dict[str, Any]:
    fields = dataclasses.asdict(target)
    for name in FIELDS_OF_THIS_MACHINE:
        del fields[name]
    return {**fields, "features": list(target.features), "cpu_flags": list(target.cpu_flags)}


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _sha256_of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
