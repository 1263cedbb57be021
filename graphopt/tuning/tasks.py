"""What there is to tune: the distinct groups of a model that have templates with something to decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphopt.ir import Graph, Node
from graphopt.ir.fused import body_of
from graphopt.targets.device import Target
from graphopt.targets.kernels import constant_operands, describe, in_blocks_of, near_weights
from graphopt.targets.program import needs_kernel
from graphopt.targets.schedules.templates import Choice, Template, choose, fitting_templates
from graphopt.targets.tuning.record import Workload

if TYPE_CHECKING:
    import onnx

    from graphopt.pipeline import Pipeline


@dataclass(frozen=True)
class Task:
    """One workload: its body, the constants of the first group that has it, the templates that can build it, what is
    built without tuning, and how many groups of the model it serves."""

    workload: Workload
    body: Graph
    constants: Mapping[int, np.ndarray]
    templates: tuple[Template, ...]
    default: Choice
    groups: int

    @property
    def name(self) -> str:
        """`Conv+Relu 1x16x32x32`: the operators and the shape of the result."""
        shape = "x".join(map(str, self.body.outputs[0].static_shape))
        return f"{describe(self.body)} {shape}"

    @property
    def size(self) -> int:
        """Decisions in the space."""
        return sum(math.prod(map(len, template.decisions().values())) for template in self.templates)


def groups_of_model(
    model: Graph | str | Path | bytes | onnx.ModelProto,
    target: Target,
    *,
    pipeline: str | Pipeline | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    half: bool = False,
) -> list[Node]:
    """The groups that `compile` makes kernels for. Raises GraphoptError as it does."""
    from graphopt import api
    from graphopt.preparation import grouped_for, halved, legalized

    graph = model if isinstance(model, Graph) else api.load(model, input_shapes=input_shapes)
    ready = legalized(api.optimize(graph, pipeline), fixed_point=target.is_fixed_point)
    api.check_supported(ready, target)
    if half:
        ready = halved(ready)
    return [node for node in grouped_for(ready, target, half=half).nodes if needs_kernel(node)]


def tasks_of(
    groups: Sequence[Node], target: Target, *, winograd: bool = True, half: bool = False
) -> list[Task]:
    """One task for each distinct workload with more than one decision, in the order of the model."""
    near = near_weights(groups, target)
    members: dict[str, list[Node]] = {}
    for group in groups:
        members.setdefault(Workload.of(body_of(group)).key, []).append(group)
    tasks = []
    for first, *more in members.values():
        body, constants = body_of(first), constant_operands(first)
        machine = in_blocks_of(body, near)
        default = choose(body, constants, machine, winograd=winograd, half=half)
        if default is None:
            continue
        templates = tuple(fitting_templates(body, constants, machine, winograd=winograd, half=half))
        task = Task(Workload.of(body), body, constants, templates, default, 1 + len(more))
        if task.size > 1:
            tasks.append(task)
    return tasks
