"""Expensive functions of one byte as tables of all its 256 values.

    Q(Sigmoid(DQ(x)))                  -->  quant::Lookup(x, table)
    Q(Mul(DQ(x), DQ(Q(Sigmoid(DQ(x))))))  alike: whatever depends on x alone, element by element

The table has the result for each byte, in the order of its bits: that of int8 begins with 0, 1, ..., 127, -128. What
would end in the kernel of a convolution or product stays there: x need not be written then. Cheap functions stay what
they are, for vectors are faster than a table. With `everything` all of these become tables too, for processors without
floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.ir import QUANT, Graph, Node, Value
from graphopt.onnx_io.infer import UNARY_ELEMENTWISE
from graphopt.passes.integers import BYTES
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Builder, Statistics
from graphopt.runtime.reference import evaluate_node

DEAR = frozenset(
    "Acos Acosh Asin Asinh Atan Atanh Celu Cos Cosh Elu Erf Exp Gelu Log Mish Pow Selu Sigmoid Sin Sinh Softplus "
    "Swish Tan Tanh".split()
)

ELEMENTWISE = (UNARY_ELEMENTWISE - {"Dropout"}) | frozenset(
    "Add DequantizeLinear Div Max Min Mul Pow QuantizeLinear Sub".split()
)

VALUES = 256


@dataclass(frozen=True)
class TabulateActivations(Pass):
    """Look expensive functions of bytes up."""

    name: ClassVar[str] = "tabulate-activations"
    everything: bool = False

    def run(self, graph: Graph, statistics: Statistics) -> None:
        places = {node: place for place, node in enumerate(graph.nodes)}
        kept: set[Node] = set()
        for node in reversed(places):
            if node.graph is not graph or not node.is_op("QuantizeLinear"):
                continue
            reason = self._tabulate(node, places, kept)
            statistics.tried[self.name] += 1
            statistics.fired[self.name] += not reason
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
        graph.remove_unused_constants()

    def _tabulate(self, node: Node, places: Mapping[Node, int], kept: set[Node]) -> str:
        """Replace what `node` ends by a table; or say why not, and add what stays as a whole to `kept`."""
        graph = node.graph
        assert graph is not None and node.output.type is not None
        if node.output.dtype not in BYTES:
            return "its result are no bytes"
        found = _function_ending_in(node, places)
        if found is None:
            return "it depends on more than one tensor of bytes"
        if not self.everything and not any(member.op_type in DEAR for member in found.members):
            return "it is cheap"
        if not self.everything and (node in kept or found.is_in_a_kernel):
            kept.update(found.members)
            return "it stays in the kernel that makes its operand"
        build = Builder(graph, node, node.origin.merged(self.name, found.members))
        table = build.const(found.table(), name=f"{node.name}.table")
        types = (node.output.type,)
        (made,) = build.ops("Lookup", found.x, table, outputs=1, domain=QUANT, types=types)
        node.output.replace_uses(made)
        name, value_name = node.name, node.output.name
        for member in found.members:
            if not member.output.uses and not member.output.is_graph_output:
                graph.remove(member)
        assert made.producer is not None
        graph.rename_node(made.producer, name)
        graph.rename(made, value_name)
        return ""


@dataclass(frozen=True)
class _Function:
    """`members`, the last node first, make of each element of the bytes `x` one of the result."""

    x: Value
    members: tuple[Node, ...]

    @property
    def is_in_a_kernel(self) -> bool:
        """Nobody else reads x, which is the last that another kernel makes."""
        x = self.x
        readers = [reader for user in x.users for reader in (user, *user.output.users)]
        private = not x.is_graph_output and all(reader in self.members for reader in readers)
        return private and x.producer is not None and x.producer.is_op("QuantizeLinear")

    def table(self) -> np.ndarray:
        """The results for every byte, in the order of its bits."""
        known = {self.x: np.arange(VALUES, dtype=np.uint8).view(self.x.dtype.numpy)}
        for node in reversed(self.members):
            (known[node.output],) = evaluate_node(node, [_operand(v, known) for v in node.inputs])
        return known[self.members[0].output]


def _operand(value: Value | None, known: Mapping[Value, np.ndarray]) -> np.ndarray | None:
    if value is None or value.constant is None:
        return None if value is None else known[value]
    return value.constant.reshape(())


def _function_ending_in(last: Node, places: Mapping[Node, int]) -> _Function | None:
    """The longest function of one tensor of bytes."""
    members, waiting = [last], set(_computed(last))
    found = None
    while waiting:
        if len(waiting) == 1:
            (x,) = waiting
            found = _Function(x, tuple(members)) if x.type and x.dtype in BYTES else found
        producers = [v.producer for v in waiting if v.producer in places]
        latest = max(producers, key=lambda node: places[node], default=None)  # type: ignore[index]
        if latest is None or not _may_join(latest, members):
            break
        members.append(latest)
        waiting.remove(latest.output)
        waiting.update(_computed(latest))
    return found


def _computed(node: Node) -> list[Value]:
    return [v for v in node.inputs if v is not None and v.constant is None]


def _may_join(node: Node, members: list[Node]) -> bool:
    """It works element by element, on nothing but what it reads and single numbers.

    It does so for `members` alone, but for what is dequantised: that costs nothing.
    """
    value = node.output
    if node.domain or node.op_type not in ELEMENTWISE or value.shape != members[0].output.shape:
        return False
    private = not value.is_graph_output and all(user in members for user in value.users)
    if not private and node.op_type != "DequantizeLinear":
        return False
    return all(v is None or v.constant is None or v.constant.size == 1 for v in node.inputs)
