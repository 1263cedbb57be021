"""ONNX to IR: the file, its checks, type inference, specialisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import defs

from graphopt.errors import GraphoptError, IRError, ModelError, UnsupportedError, UsageError
from graphopt.ir import Graph, verify
from graphopt.onnx_io.check import check_model
from graphopt.onnx_io.check_scales import check_scales
from graphopt.onnx_io.construct import Construction
from graphopt.onnx_io.local_functions import inlined
from graphopt.onnx_io.protos import standard
from graphopt.onnx_io.specialise import specialise
from graphopt.onnx_io.upgrade import CANONICAL_OPSET, OLDEST_OPSET

INPUT_HINT = "is this an ONNX file? `python -m onnx.bin.checker FILE` may tell more"
MEND_HINT = "ONNX forbids this: export the model again, or mend it with onnx.load and onnx.save"


def read_model(
    source: str | Path | bytes | onnx.ModelProto, *, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> Graph:
    """The graph of a model file, of its bytes, or of a ModelProto.

    `input_shapes` fixes the shapes of inputs by name; symbols they share with other values are fixed too.
    Raises ModelError for what is not valid ONNX, UnsupportedError for what the IR cannot hold, UsageError for
    a file that cannot be read, and for shapes that do not fit the model.
    """
    folder = Path(source).parent if isinstance(source, str | Path) else None
    name = Path(source).name if isinstance(source, str | Path) else ""
    try:
        model = source if isinstance(source, onnx.ModelProto) else _parse(source)
        return _read(model, folder, input_shapes or {})
    except (IRError, ModelError) as error:
        hint = error.hint or MEND_HINT
        raise ModelError(error.what, where=_inside(name, error.where), hint=hint) from None
    except UsageError:  # of the shapes given, not of the file
        raise
    except GraphoptError as error:
        raise type(error)(error.what, where=_inside(name, error.where), hint=error.hint) from None
    except (RecursionError, MemoryError) as error:
        reason = f"it is nested too deeply or too large ({type(error).__name__})"
        raise ModelError(reason, where=name) from None


def _inside(file: str, place: str) -> str:
    return ": ".join(part for part in (file, place) if part)


def declared_versions(source: str | Path | bytes) -> tuple[int, dict[str, int]]:
    """The standard opset that a model file declares, and its versions of other domains."""
    versions = _versions(_parse(source))
    return versions.pop(""), versions


def _parse(source: str | Path | bytes) -> onnx.ModelProto:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            folder = Path(source).is_dir()
            hint = f"{source} is a folder: name a model's file" if folder else f"check the path {source}"
            where = Path(source).name
            raise UsageError(f"cannot be read: {error.strerror}", where=where, hint=hint) from None
    if not data:
        raise ModelError("the file is empty", hint=INPUT_HINT)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RuntimeError) as error:
        raise ModelError(f"not an ONNX model, or cut short ({error})", hint=INPUT_HINT) from None
    return model


def _read(model: onnx.ModelProto, folder: Path | None, shapes: Mapping[str, Sequence[int]]) -> Graph:
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise ModelError("the file holds no graph", hint=INPUT_HINT)
    versions = _versions(model)
    check_model(model, versions)
    if model.functions:
        model = inlined(model)
        versions = _versions(model)
        check_model(model, versions)
    opset = versions[""]
    given = specialise(model.graph, shapes)
    graph = Graph(model.graph.name or "main", opset=max(opset, CANONICAL_OPSET))
    graph.domains = {domain: version for domain, version in versions.items() if domain}
    graph.metadata = {entry.key: entry.value for entry in model.metadata_props}
    Construction(graph, opset, folder, given).fill(model.graph)
    verify(graph)
    check_scales(graph)
    return graph


def _versions(model: onnx.ModelProto) -> dict[str, int]:
    """The versions of the domains imported; the standard operators' is checked."""
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = standard(entry.domain)
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ModelError(f"it imports two versions of the domain '{domain or 'ai.onnx'}'")
    if not versions:
        raise ModelError("it imports no opset", hint=INPUT_HINT)
    opset = versions.setdefault("", CANONICAL_OPSET)
    newest = defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        hint = f"supported are {OLDEST_OPSET} to {newest}; convert it, or install a newer onnx"
        raise UnsupportedError(f"the model uses opset {opset}", hint=hint)
    return versions
