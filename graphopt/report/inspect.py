"""What is to know of a model before any work starts: its contract, its arithmetic, what a target cannot run.

Counts are those of the model as it was written. What a target cannot run is asked after the default passes and
the expansion of operators into others, as the compiler does: many an odd operator is gone by then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.analysis.cost import Cost, cost_of, cost_of_graph
from graphopt.analysis.liveness import liveness
from graphopt.report.inspect_memory import arena_at_least, grouped_without_packing, memory_shortages
from graphopt.report.shapes import sharpened

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.targets.device import Target


@dataclass(frozen=True)
class Problem:
    """A node that a target cannot run. `sources` are the nodes of the model that it stands for.

    An input or output that it cannot pass is one too, and a model that its memory cannot hold, without an operator:
    `node` is `input 's'` or `the whole model` then.
    """

    node: str
    operator: str
    reason: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """A model, and what `target` says to it.

    `nodes_left` counts the nodes after the default passes. `arena_at_least` are the bytes of the activations alive at
    once when those are grouped into kernels and images lie in the target's blocks; the kernels' workspaces, and what
    no placement can help, come on top. `in_floats` is what a quantised model computes in floats although the target
    asks for fixed point.
    """

    path: Path
    graph: Graph
    opsets: dict[str, int]
    target: Target
    problems: tuple[Problem, ...]
    nodes_left: int
    arena_at_least: int | None
    in_floats: tuple[Problem, ...] = ()

    @property
    def unfixed(self) -> list[str]:
        """Inputs whose shape is not fixed; nothing can be compiled before it is."""
        return [value.name for value in self.graph.inputs if not value.is_static]


def inspect_model(
    path: Path, target: Target, input_shapes: Mapping[str, Sequence[int]] | None = None
) -> Inspection:
    """Read a model and ask `target` about it. Raises ModelError, UnsupportedError or UsageError."""
    from graphopt.api import load, optimize
    from graphopt.preparation import legalized

    graph = sharpened(load(path, input_shapes=input_shapes))
    optimized = optimize(graph)
    ready = legalized(optimized, fixed_point=target.is_fixed_point)
    grouped = grouped_without_packing(ready, target)
    arena = None if grouped is None else arena_at_least(grouped, target)
    problems = _problems(ready)
    if grouped is not None and arena is not None:
        short = memory_shortages(grouped, arena, target)
        problems += [Problem("the whole model", "", reason, ()) for reason in short]
    opsets, floats = _opsets(path, graph), _in_floats(ready, target)
    return Inspection(path, graph, opsets, target, tuple(problems), len(optimized), arena, floats)


def _in_floats(graph: Graph, target: Target) -> tuple[Problem, ...]:
    from graphopt.passes.requantize_fixed import left_in_floats
    from graphopt.preparation import sums_integers

    if not target.is_fixed_point or not sums_integers(graph):
        return ()
    return tuple(_problem(node, reason) for node, reason in left_in_floats(graph).items())


def _problems(graph: Graph) -> list[Problem]:
    """While an input's shape is open, only what no shape can mend."""
    from graphopt.preparation import obstacles
    from graphopt.targets.abi import not_passable
    from graphopt.targets.lower.support import SUPPORTED

    found = obstacles(graph)
    if not all(value.is_static for value in graph.inputs):
        found = [(node, reason) for node, reason in found if node.key not in SUPPORTED]
    interface = [Problem(place, "", reason, ()) for place, reason in not_passable(graph)]
    return interface + [_problem(node, reason) for node, reason in found]


def _problem(node: Node, reason: str) -> Problem:
    return Problem(node.origin.known_as(node.name), node.key, reason, node.origin.sources)


def _opsets(path: Path, graph: Graph) -> dict[str, int]:
    """The versions that the file declares of the domains in use; the graph in memory speaks a newer one."""
    from graphopt.onnx_io.read import declared_versions

    opset, others = declared_versions(path)
    used = {node.domain for node in graph.all_nodes()}
    return {"ai.onnx": opset} | {domain: others[domain] for domain in sorted(used) if domain in others}


def as_data(inspection: Inspection, nodes: bool = False) -> dict[str, Any]:
    """Everything, for a program."""
    graph = inspection.graph
    cost = cost_of_graph(graph)
    lives = liveness(graph, varying=True)
    data: dict[str, Any] = {
        "model": inspection.path.name,
        "opsets": inspection.opsets,
        "inputs": [{"name": v.name, "type": str(v.type)} for v in graph.inputs],
        "outputs": [
            {"name": name, "type": str(value.type)}
            for name, value in zip(graph.output_names, graph.outputs, strict=True)
        ],
        "nodes": len(graph),
        "operators": dict(_operator_counts(graph).most_common()),
        "macs": cost.macs,
        "flops": cost.flops,
        "parameters": cost.parameters,
        "weight_bytes": cost.weight_bytes,
        "peak_activation_bytes": lives.peak_bytes,
        "peak_at": None if lives.peak_step is None else lives.steps[lives.peak_step].name,
        "target": inspection.target.name,
        "arena_bytes_at_least": inspection.arena_at_least,
        "nodes_after_passes": inspection.nodes_left,
        "unfixed_inputs": inspection.unfixed,
        "unsupported": [_problem_data(problem) for problem in inspection.problems],
        "in_floats": [_problem_data(problem) for problem in inspection.in_floats],
    }
    if nodes:
        data["node_list"] = [_node_data(node, cost_of(node)) for node in graph.nodes]
    return data


def _problem_data(problem: Problem) -> dict[str, Any]:
    return {
        "node": problem.node,
        "operator": problem.operator,
        "reason": problem.reason,
        "sources": list(problem.sources),
    }


def _operator_counts(graph: Graph) -> Counter[str]:
    return Counter(node.key for node in graph.all_nodes())


def _node_data(node: Node, cost: Cost) -> dict[str, Any]:
    return {
        "name": node.name,
        "operator": node.key,
        "outputs": [str(value.type) for value in node.outputs],
        "macs": cost.macs,
        "flops": cost.flops,
        "parameters": cost.parameters,
        "weight_bytes": cost.weight_bytes,
        "activation_bytes": cost.activation_bytes,
    }
