"""An inspection as tables, for people: facts, operators, nodes, and what the target says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.analysis.cost import cost_of, cost_of_graph
from graphopt.analysis.liveness import liveness
from graphopt.analysis.macs import total
from graphopt.report import tables

if TYPE_CHECKING:
    from rich.console import RenderableType

    from graphopt.ir import Graph, Node
    from graphopt.report.inspect import Inspection

OPEN = "unknown while a shape or a branch is open"


def as_tables(inspection: Inspection, nodes: bool = False) -> list[Any]:
    """What the model is, then what the target cannot run; with `nodes`, every node in between."""
    shown: list[Any] = [_facts(inspection), _operators(inspection.graph)]
    if nodes:
        shown.append(_nodes(inspection.graph))
    shown.extend(_verdict(inspection))
    return shown


def _facts(inspection: Inspection) -> RenderableType:
    graph = inspection.graph
    cost, lives = cost_of_graph(graph), liveness(graph, varying=True)
    outputs = zip(graph.output_names, graph.outputs, strict=True)
    entries: dict[str, Any] = {
        "inputs": tables.columns([(v.name, str(v.type)) for v in graph.inputs]),
        "outputs": tables.columns([(name, str(value.type)) for name, value in outputs]),
        "opset": ", ".join(
            str(version) if domain == "ai.onnx" else f"{domain} {version}"
            for domain, version in inspection.opsets.items()
        ),
        "nodes": f"{len(graph)}, {inspection.nodes_left} after the default passes",
    }
    entries["arithmetic"] = f"{tables.amount(cost.macs)} MACs, {tables.amount(cost.flops)} FLOPs"
    if cost.macs is None:
        entries["arithmetic"] = OPEN
    entries["parameters"] = f"{cost.parameters:,} in {tables.size(cost.weight_bytes)}"
    if lives.peak_bytes is None:
        entries["peak memory"] = OPEN
    elif lives.peak_step is not None:
        where = lives.steps[lives.peak_step].name
        entries["peak memory"] = f"{tables.size(lives.peak_bytes)} of activations, at '{where}'"
        if inspection.arena_at_least is not None:
            least = tables.size(inspection.arena_at_least)
            entries["when compiled"] = (
                f"{least} at least on {inspection.target.name}; kernels' workspaces come on top"
            )
    return tables.facts(inspection.path.name, entries)


def _operators(graph: Graph) -> RenderableType:
    """One line for each operator type, the most arithmetic first."""
    by_key: dict[str, list[Node]] = {}
    for node in graph.all_nodes():
        by_key.setdefault(node.key, []).append(node)
    all_macs = cost_of_graph(graph).macs
    rows = []
    for key, members in by_key.items():
        costs = [cost_of(node) for node in members]
        macs = total(cost.macs for cost in costs)
        share = f"{macs / all_macs:.1%}" if macs and all_macs else ""
        parameters = sum(cost.parameters for cost in costs)
        rows.append((macs, len(members), [key, len(members), _blank(macs), share, _blank(parameters)]))
    rows.sort(key=lambda row: (-(row[0] or 0), -row[1], row[2][0]))
    return tables.table("", ("operator", "nodes", "MACs", "share", "parameters"), [row[2] for row in rows])


def _nodes(graph: Graph) -> RenderableType:
    rows = []
    for node in graph.nodes:
        cost = cost_of(node)
        made = ", ".join(str(value.type) for value in node.outputs)
        rows.append([node.name, node.key, made, _blank(cost.macs), _blank(cost.parameters)])
    return tables.table("", ("node", "operator", "makes", "MACs", "parameters"), rows)


def _verdict(inspection: Inspection) -> list[Any]:
    name = inspection.target.name
    said: list[Any] = []
    if inspection.problems:
        rows = [[p.node, p.operator, p.reason] for p in inspection.problems]
        said.append(tables.table(f"{name} cannot run this model", ("node", "operator", "why"), rows))
    elif not inspection.unfixed:
        said.append(f"{name} can run all of it.")
    if inspection.in_floats:
        rows = [[p.node, p.operator, p.reason] for p in inspection.in_floats]
        said.append(tables.table(f"{name} computes this in floats", ("node", "operator", "why"), rows))
    if inspection.unfixed:
        shapes = " ".join(f"--input-shape {name}=..." for name in inspection.unfixed)
        said.append(f"Shapes are open: to compile, and to see the rest, add {shapes}")
    return said


def _blank(count: int | None) -> int | str | None:
    """Zeros are left out of tables, to let the rest be seen."""
    return "" if count == 0 else count
