"""The report of a bundle: what each layer costs and where it comes from, who lives where, what passes did.

Nothing in it depends on the time a step took, so that equal inputs give equal bundles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graphopt.analysis.cost import cost_of, cost_of_graph
from graphopt.analysis.macs import total
from graphopt.ir import QUANT, Node
from graphopt.ir.fused import body_of, is_fused
from graphopt.report.shapes import sharpened
from graphopt.targets.arena import storage_bytes
from graphopt.targets.fuse import operators

PRODUCTS = ("Conv", "ConvTranspose", "MatMul")
"""Of integers."""

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.pipeline import PipelineRecord
    from graphopt.targets.device import Target
    from graphopt.targets.program import Call, Program


def bundle_report(
    original: Graph,
    program: Program,
    schedules: Mapping[str, str],
    record: PipelineRecord,
    target: Target,
    *,
    precision: str = "float32",
) -> dict[str, Any]:
    """What `report.json` holds: `summary`, `layers`, `memory` and `passes`; sizes are bytes.

    `schedules` tells for each kernel the template and its decisions, `precision` what the model was compiled for.
    """
    order = {node.name: number for number, node in enumerate(original.all_nodes())}
    return {
        "summary": {**_summary(original, program, record, target), "precision": precision},
        "layers": [_layer(number, call, schedules, order) for number, call in enumerate(program.calls)],
        "memory": _memory(program),
        "passes": [
            {
                "pass": step.spec,
                "nodes_before": step.nodes_before,
                "nodes_after": step.nodes_after,
                "rules": {rule: count for rule, count in sorted(step.statistics.fired.items()) if count},
            }
            for step in record.passes
        ],
    }


def _summary(original: Graph, program: Program, record: PipelineRecord, target: Target) -> dict[str, Any]:
    before = cost_of_graph(sharpened(original))
    after = [cost_of(call.node) for call in program.calls]
    return {
        "target": target.name,
        "nodes_imported": len(original),
        "nodes_optimized": record.passes[-1].nodes_after if record.passes else len(original),
        "layers": len(program.calls),
        "kernels": len({call.kernel for call in program.calls}),
        "macs_imported": before.macs,
        "macs": total(cost.macs for cost in after),
        "flops": total(cost.flops for cost in after),
        "parameters_imported": before.parameters,
        "weights_bytes": len(program.weights.blob),
        "bits_a_weight": _bits_a_weight(program),
    }


def _bits_a_weight(program: Program) -> float | None:
    """Bits that products of integers store for each weight, with all they have beside: where sums start, scales, and
    zeros that fill a vector. None where there are no such products."""
    weights = {call.node: integer_weights(call.node) for call in program.calls}
    count = sum(weights.values())
    bits = sum(8 * cost_of(node).weight_bytes for node, own in weights.items() if own)
    return round(bits / count, 4) if count else None


def integer_weights(node: Node) -> int:
    """How many weights the products of integers in a group have, as the model counts them."""
    if not is_fused(node):
        return 0
    body = body_of(node)
    given = zip(body.inputs, node.inputs, strict=True)
    constants = {own for own, value in given if value is not None and value.is_constant}
    products = (inner for inner in body.nodes if inner.is_op(*PRODUCTS, domain=QUANT))
    factors = (product.inputs[1] for product in products)
    return sum(factor.size for factor in factors if factor is not None and factor in constants)


def _layer(number: int, call: Call, schedules: Mapping[str, str], order: Mapping[str, int]) -> dict[str, Any]:
    node = call.node
    cost = cost_of(node)
    read = {value for value in node.inputs if value is not None and not value.is_constant}
    return {
        "number": number,
        "name": node.name,
        "kernel": call.kernel,
        "schedule": schedules[call.kernel],
        "operators": operators(node),
        "origin": sorted(node.origin.sources, key=lambda name: order.get(name, len(order))),
        "output": [str(value.type) for value in node.outputs],
        "macs": cost.macs,
        "flops": cost.flops,
        "weights_bytes": cost.weight_bytes,
        "read_bytes": sum(storage_bytes(value) for value in read),
        "written_bytes": sum(storage_bytes(value) for value in node.outputs),
        "workspace_bytes": sum(call.workspaces),
    }


def _memory(program: Program) -> dict[str, Any]:
    """The arena: its size against the liveness bound, and for each tensor its bytes and its life in layers; what
    concatenations and slices did not have to move.
    """
    plan = program.plan
    placed = [buffer for buffer in plan.buffers if buffer.size]
    placed.sort(key=lambda buffer: (buffer.first, plan.offsets[buffer.name]))
    return {
        "arena_bytes": plan.size,
        "lower_bound_bytes": plan.lower_bound,
        "over_bound": round(plan.over_bound, 4),
        "is_best": plan.is_best,
        "map": [
            {
                "name": buffer.name,
                "offset": plan.offsets[buffer.name],
                "bytes": buffer.size,
                "first": buffer.first,
                "last": buffer.last,
            }
            for buffer in placed
        ],
        "in_place": [{"name": name, "bytes": count} for name, count in program.in_place],
    }
