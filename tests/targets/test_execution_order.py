"""The order of calls: branches go by one after the other where that keeps less alive, and a chain stays as it is."""

from __future__ import annotations

import itertools

import numpy as np

from graphopt.analysis.storage import Storage
from graphopt.ir import Graph
from graphopt.runtime.reference import random_inputs, run
from graphopt.targets.abi import ALIGNMENT
from graphopt.targets.arena import Work, plan_arena
from graphopt.targets.execution_order import least_peak_order
from graphopt.targets.fuse import fuse
from graphopt.targets.program import Program, build_program, needs_kernel
from tests.passes.helpers import Draft
from tests.targets.interpret import interpret


def branches(widths: tuple[int, ...] = (32, 32, 16)) -> Graph:
    """Each branch is wide in the middle; all begin before one ends."""
    g = Draft()
    x = g.op("Conv", g.input(1, 4, 6, 5), g.weight(4, 4, 1, 1))
    wide = [g.op("Conv", x, g.weight(width, 4, 1, 1)) for width in widths]
    narrow = [g.op("Conv", y, g.weight(4, width, 1, 1)) for y, width in zip(wide, widths, strict=True)]
    g.output(g.op("Conv", g.op("Concat", *narrow, axis=1), g.weight(2, 4 * len(widths), 1, 1)))
    fuse(g.graph)
    return g.graph


def work_of(graph: Graph) -> list[Work]:
    return [Work(node) for node in graph.nodes if needs_kernel(node)]


def laid_out(graph: Graph, *, reorder: bool, tensors_in_arena: bool = True) -> Program:
    kernels = {work.node: f"k{number}" for number, work in enumerate(work_of(graph))}
    scratch: dict[str, tuple[int, ...]] = dict.fromkeys(kernels.values(), ())
    return build_program(graph, kernels, scratch, tensors_in_arena=tensors_in_arena, reorder=reorder)


def test_branches_go_by_one_after_the_other() -> None:
    graph = branches()
    given, better = laid_out(graph, reorder=False), laid_out(graph, reorder=True)
    assert better.plan.size < 0.6 * given.plan.size
    assert {call.node for call in better.calls} == {call.node for call in given.calls}


def test_another_order_computes_the_same() -> None:
    graph = branches()
    inputs = random_inputs(graph)
    given, better = (laid_out(graph, reorder=reorder, tensors_in_arena=False) for reorder in (False, True))
    assert [call.node for call in better.calls] != [call.node for call in given.calls]
    ((made, wanted),) = zip(
        interpret(graph, better, inputs).values(), run(graph, inputs).values(), strict=True
    )
    np.testing.assert_array_equal(made, wanted)


def test_no_order_is_better() -> None:
    """By all permutations of seven calls."""
    graph = branches((32, 16))
    work, storage = work_of(graph), Storage(graph)
    sizes = []
    for order in itertools.permutations(range(len(work))):
        if is_possible(graph, [work[number] for number in order]):
            plan = plan_arena([work[number] for number in order], storage, (), ALIGNMENT).plan
            sizes.append(plan.lower_bound)
    found = [work[number] for number in least_peak_order(work, storage, ())]
    assert plan_arena(found, storage, (), ALIGNMENT).plan.lower_bound == min(sizes)


def is_possible(graph: Graph, order: list[Work]) -> bool:
    known = {*graph.inputs, *graph.constants}
    for work in order:
        read = [v for v in work.node.inputs if v is not None]
        if not all(v in known or v.producer is None for v in read):
            return False
        known.update(work.node.outputs)
    return True


def test_a_chain_stays_as_it_is() -> None:
    g = Draft()
    x = g.input(1, 4, 6, 5)
    for _ in range(40):
        x = g.op("Conv", x, g.weight(4, 4, 1, 1))
    g.output(x)
    fuse(g.graph)
    work = work_of(g.graph)
    assert least_peak_order(work, Storage(g.graph), ()) == list(range(40))


def test_too_many_ways_leave_the_given_order() -> None:
    graph = branches((8,) * 14)
    work = work_of(graph)
    assert least_peak_order(work, Storage(graph), ()) == list(range(len(work)))
