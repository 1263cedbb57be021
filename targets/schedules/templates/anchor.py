"""The convolution or the product that a body computes: what all templates for them ask first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.ir import KERNEL, QUANT, DType, Graph, Node, Value
from graphopt.ir.layout import Blocked, blocked_of
from graphopt.targets.schedules.templates.epilogue import FLOATS, QUANTISED, fits

INTEGERS = (DType.int8, DType.uint8, DType.int16, DType.int32)
"""Types of what sums of integers are made of."""


@dataclass(frozen=True)
class Anchor:
    """The one convolution of a body and its operands; the input is plain where `read` is None."""

    node: Node
    x: Value
    weights: Value
    kernel: tuple[int, ...]
    read: Blocked | None
    made: Blocked

    @classmethod
    def of(cls, body: Graph, op_type: str = "Conv", *, prologue: bool = False) -> Anchor | None:
        """None where there are several, or where more is in the body than element-wise work behind the convolution
        or, with `prologue`, before its input: its weights and bias are the body's own inputs."""
        nodes = [node for node in body.nodes if node.is_op(op_type, domain=KERNEL)]
        if len(nodes) != 1 or not fits(body, nodes[0], FLOATS, prologue=prologue):
            return None
        return cls._of(nodes[0])

    @classmethod
    def of_bytes(cls, body: Graph, op_type: str = "Conv") -> Anchor | None:
        """The same for a convolution of bytes in blocks, which makes sums in int32 in blocks."""
        nodes = [node for node in body.nodes if node.is_op(op_type, domain=QUANT)]
        if len(nodes) != 1 or blocked_of(nodes[0].output.type) is None:
            return None
        if not fits(body, nodes[0], (DType.int32,), operands=INTEGERS):
            return None
        found = cls._of(nodes[0])
        return found if found and found.read and found.x.dtype in QUANTISED else None

    @classmethod
    def _of(cls, node: Node) -> Anchor | None:
        x, weights = node.input(0), node.input(1)
        made, kernel = blocked_of(node.output.type), node.ints("kernel_shape")
        assert x is not None and weights is not None and made is not None and kernel is not None
        if any(v is not None and v.producer is not None for v in node.inputs[1:]):
            return None
        return cls(node, x, weights, kernel, blocked_of(x.type), made)

    @property
    def groups(self) -> int:
        return self.node.int("group", 1)

    @property
    def channels(self) -> int:
        return self.read.channels if self.read else self.x.static_shape[1]

    @property
    def image(self) -> tuple[int, ...]:
        """The spatial axes of the input."""
        return self.x.static_shape[2:-1] if self.read else self.x.static_shape[2:]


def product_of_bytes(body: Graph, operands: Sequence[DType]) -> Node | None:
    """The one product of integers of these types in a body that has nothing else but element-wise work behind it."""
    nodes = [node for node in body.nodes if node.is_op("MatMul", domain=QUANT)]
    if len(nodes) != 1 or not fits(body, nodes[0], (DType.int32,), operands=operands):
        return None
    return nodes[0]
