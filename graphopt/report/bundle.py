"""A bundle's report for people: what each layer costs and which nodes of the model it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from graphopt.report import tables

if TYPE_CHECKING:
    from rich.console import RenderableType

    from graphopt.runtime.manifest import Tensor
    from graphopt.targets.bundle import Bundle


def as_data(bundle: Bundle) -> dict[str, Any]:
    """The contract, the target and the whole report, for a program."""
    manifest = bundle.manifest
    return {"contract": manifest["contract"], "target": manifest["target"], **bundle.report}


def as_tables(bundle: Bundle, memory: bool = False) -> list[Any]:
    """The same for a person; with `memory`, who lives where in the arena too."""
    shown: list[Any] = [_facts(bundle)]
    reports = [bundle.report, *bundle.report.get("more_shapes", ())]
    for report, signature in zip(reports, bundle.abi.shapes, strict=True):
        title = ", ".join(f"{s.name}{list(s.shape)}" for s in signature.inputs) if len(reports) > 1 else ""
        shown.append(_layers(report, title))
        if memory:
            shown.append(_memory(report["memory"]))
    return shown


def contract_facts(bundle: Bundle) -> dict[str, Any]:
    """Inputs, outputs, target, work and sizes, in words."""
    abi, told, target = bundle.abi, bundle.report["summary"], bundle.manifest["target"]
    return (
        {
            "inputs": tables.columns(_types(abi.inputs, [shape.inputs for shape in abi.shapes[1:]])),
            "outputs": tables.columns(_types(abi.outputs, [shape.outputs for shape in abi.shapes[1:]])),
            "target": f"{target['name']} ({target['description']})",
            "work": f"{told['layers']} layers, {told['kernels']} kernels, {tables.amount(told['macs'])} MACs",
            **_computes_in(bundle.report),
            **_sizes(bundle),
            "arena"
            if bundle.target.is_firmware
            else "workspace": f"{tables.size(abi.workspace_bytes)}, {_above_bound(bundle.report['memory'])}",
        }
        | _in_place(bundle.report["memory"])
        | _patched(bundle.report)
    )


def _sizes(bundle: Bundle) -> dict[str, str]:
    told = bundle.report["summary"]
    weights = tables.size(told["weights_bytes"])
    if bundle.target.is_firmware:
        return {"weights": f"{weights}{_bits(told)}"}
    return {"library": f"{tables.size(bundle.library.stat().st_size)}, {weights} of it weights{_bits(told)}"}


def _bits(told: Mapping[str, Any]) -> str:
    """What a weight of integers takes up, where there are such."""
    bits = told.get("bits_a_weight")
    return f" ({bits:.2f} bits for each integer)" if bits else ""


def _computes_in(report: Mapping[str, Any]) -> dict[str, str]:
    """What kernels compute in where it is not float32, and how many do; nothing for other models."""
    precision = report["summary"].get("precision", "float32")
    made = [layer for layer in report["layers"] if layer["output"][0].startswith(precision)]
    if precision == "float32":
        return {}
    return {"precision": f"{precision} in {len(made)} of {len(report['layers'])} layers"}


def _in_place(memory: Mapping[str, Any]) -> dict[str, str]:
    """How much concatenations and slices did not have to move; nothing where there are none."""
    spared = sum(entry["bytes"] for entry in memory["in_place"])
    return {"in place": f"{tables.size(spared)} joined and taken apart without a copy"} if spared else {}


def _patched(report: Mapping[str, Any]) -> dict[str, str]:
    """What computing the first layers in bands of rows saves and costs; nothing where they are not."""
    if "patched" not in report:
        return {}
    told = report["patched"]
    without = tables.size(told["arena_bytes_without"])
    return {
        "patched": f"the first layers in {told['bands']} bands of rows: {told['macs_more']:.1%} more MACs, "
        f"an arena of {without} without"
    }


def _types(first: Sequence[Tensor], more: Sequence[Sequence[Tensor]]) -> list[tuple[str, str]]:
    """Name and type of each tensor, with its shapes where there are several."""
    listed = []
    for index, spec in enumerate(first):
        shapes = [spec.shape, *(specs[index].shape for specs in more)]
        listed.append((spec.name, str(spec.dtype) + " or ".join(str(list(shape)) for shape in shapes)))
    return listed


def _facts(bundle: Bundle) -> RenderableType:
    told = bundle.report["summary"]
    entries = contract_facts(bundle)
    entries["model"] = f"{told['nodes_imported']} nodes, {told['nodes_optimized']} after the passes"
    return tables.facts(str(bundle.path), entries)


def _above_bound(memory: Mapping[str, Any]) -> str:
    excess = memory["over_bound"] - 1
    if excess <= 0 or memory.get("is_best"):
        return "the least possible"
    return f"{excess:.1%} above what is alive at once"


def _layers(report: Mapping[str, Any], title: str) -> RenderableType:
    """In the order they run. Moved is what a layer reads and writes, weights and workspace not counted."""
    everything = report["summary"]["macs"]
    rows = []
    for layer in report["layers"]:
        share = f"{layer['macs'] / everything:.1%}" if layer["macs"] and everything else ""
        rows.append(
            [
                layer["number"],
                layer["kernel"],
                layer["macs"] or "",
                share,
                _size(layer["weights_bytes"]),
                _size(layer["read_bytes"] + layer["written_bytes"]),
                _size(layer["workspace_bytes"]),
                _origin(layer["origin"]),
            ]
        )
    head = ("layer", "kernel", "MACs", "share", "weights", "moved", "workspace", "from")
    return tables.table(title, head, rows)


def _memory(memory: Mapping[str, Any]) -> RenderableType:
    rows = [
        [p["name"], p["offset"], p["bytes"], p["first"], p["last"]]
        for p in sorted(memory["map"], key=lambda p: (p["first"], p["offset"]))
    ]
    head = ("tensor", "offset", "bytes", "from layer", "to layer")
    return tables.table(f"arena of {memory['arena_bytes']:,} bytes", head, rows)


def _origin(names: list[str]) -> str:
    """The last node, which makes the result, and how many more: `relu +2`."""
    if not names:
        return ""
    return names[-1] if len(names) == 1 else f"{names[-1]} +{len(names) - 1}"


def _size(count: int) -> str:
    return tables.size(count) if count else ""
