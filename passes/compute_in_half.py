"""float16 instead of float32 where that is safe; the graph's inputs and outputs keep their types.

    Conv(x, W, b)           -->   Conv(Cast(x), W', b')     ConvTranspose, Gemm and MatMul alike
    Relu(h), Add(h, y)      -->   Relu(h), Add(h, Cast(y))  where an operand is float16 already; pools, moves alike
    Softmax(h), Sigmoid(h)  -->   Softmax(Cast(h)), ...     anything else in float32

h is in float16, W' and b' are constants rounded to it. What grows fast or is a difference of large numbers (exp,
powers, variances) stays in float32, and so does whatever reads nothing else. A constant that float16 cannot hold, being
too large or so small that its digits are lost, keeps its node in float32. Each value is converted once, for all its
readers; what only moves elements is done in the type that its readers want, so that values are converted beside a
product. Results beyond 65504 become infinite: no graph tells how large they get.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphopt.analysis.storage import ALIASES
from graphopt.ir import DType, Graph, Node, TensorType, Value
from graphopt.ir.structural import structural_inputs
from graphopt.pipeline import Pass
from graphopt.rewrite import Attempt, Builder, Statistics

PRODUCTS = frozenset("Conv ConvTranspose Gemm MatMul".split())
"""They bring values into float16."""

MOVES = ALIASES | frozenset(
    "Concat DepthToSpace Expand Gather Pad Slice SpaceToDepth Split Tile Transpose".split()
)

FOLLOWERS = MOVES | frozenset(
    "Abs Add AveragePool Clip GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish LeakyRelu Max MaxPool Min Mul Neg "
    "PRelu ReduceMax ReduceMean ReduceMin Relu Resize Sub Sum Where".split()
)
"""They keep values in float16. Kernels of pools and means have their sums in float32."""

SMALLEST = float(np.finfo(np.float16).smallest_normal)
"""Of a tensor of constants, the largest must not be below it: float16 would lose some of its digits."""


@dataclass(frozen=True)
class ComputeInHalf(Pass):
    """Compute in float16 where that is safe."""

    name: ClassVar[str] = "compute-in-half"

    def run(self, graph: Graph, statistics: Statistics) -> None:
        work = _Conversion(graph, self.name)
        for node in list(graph.nodes):
            reason = work.convert(node)
            statistics.tried[self.name] += 1
            if self.name in statistics.explain:
                statistics.attempts.append(Attempt.at(node, self.name, reason))
            if not reason:
                statistics.fired[self.name] += 1
        work.restore_outputs()
        graph.remove_unused_constants()


class _Conversion:
    """`halved` are values that were float32; `casts` leads from a value to its counterpart in the other type."""

    def __init__(self, graph: Graph, rule: str) -> None:
        self.graph = graph
        self.rule = rule
        self.halved: set[Value] = set()
        self.casts: dict[Value, Value] = {}
        self.welcome, self.leading = _moves_before(graph)

    def convert(self, node: Node) -> str:
        """Let `node` compute in float16; else give it float32 operands, and say why."""
        reason = self._refusal(node)
        structural = structural_inputs(node)
        for index, value in enumerate(node.inputs):
            if value is None or index in structural:
                continue
            if not reason and value.dtype is DType.float32:
                node.set_input(index, self._in_half(value, node))
            elif reason and value in self.halved:
                node.set_input(index, self._cast(value, DType.float32, node))
        if not reason:
            for value in node.outputs:
                if value.dtype is DType.float32:
                    value.type = _typed(value, DType.float16)
                    self.halved.add(value)
        return reason

    def restore_outputs(self) -> None:
        """The graph gives what it gave, in float32."""
        for index, value in enumerate(self.graph.outputs):
            if value in self.halved:
                self.graph.set_output(index, self._cast(value, DType.float32, None))

    def _refusal(self, node: Node) -> str:
        """Why `node` stays as it is; empty when it may compute in float16."""
        if node.domain or node.op_type not in PRODUCTS | FOLLOWERS:
            return "it is not safe in float16"
        structural = structural_inputs(node)
        operands = [v for n, v in enumerate(node.inputs) if v is not None and n not in structural]
        floats = [v for v in operands if v.dtype.is_float]
        if any(v.dtype is not DType.float32 and v not in self.halved for v in floats):
            return "it has a type of its own"
        if not any(v.dtype is DType.float32 or v in self.halved for v in node.outputs):
            return "its result is not in float32"
        if node in self.leading:
            return self._unfit(floats)
        if node.op_type in FOLLOWERS and not any(v in self.halved for v in floats):
            return "no operand is in float16"
        if node.op_type in MOVES and node not in self.welcome:
            return "nobody reads its result in float16"
        return self._unfit(floats)

    @staticmethod
    def _unfit(floats: list[Value]) -> str:
        unfit = next((v for v in floats if v.constant is not None and not fits(v.constant)), None)
        return "" if unfit is None else f"float16 cannot hold '{unfit.name}'"

    def _in_half(self, value: Value, reader: Node) -> Value:
        if value.constant is None:
            return self._cast(value, DType.float16, reader)
        if value not in self.casts:
            self.casts[value] = self.graph.add_constant(value.constant.astype(np.float16), value.name)
        return self.casts[value]

    def _cast(self, value: Value, dtype: DType, before: Node | None) -> Value:
        """`value` in another type, converted before its first reader."""
        if value not in self.casts:
            readers = [] if before is None else [before]
            maker = value.producer
            origin = (maker or readers[0]).origin.merged(self.rule, [n for n in (maker, *readers) if n])
            build = Builder(self.graph, before, origin)
            (self.casts[value],) = build.ops(
                "Cast", value, outputs=1, types=(_typed(value, dtype),), to=dtype.onnx_code
            )
        return self.casts[value]


def fits(constant: np.ndarray) -> bool:
    """float16 has the range for `constant`, and for most digits of its largest element."""
    largest = float(np.abs(constant).max(initial=0.0))
    return largest == 0 or SMALLEST <= largest <= float(np.finfo(np.float16).max)


def _typed(value: Value, dtype: DType) -> TensorType:
    assert value.type is not None
    return TensorType(dtype, value.type.shape, value.type.layout)


def _moves_before(graph: Graph) -> tuple[set[Node], set[Node]]:
    """Moves whose result reaches, over other moves, some operator that may compute in float16; and products alone."""
    welcome: set[Node] = set()
    leading: set[Node] = set()
    for node in reversed(list(graph.nodes)):
        if node.domain or node.op_type not in MOVES:
            continue
        users = [user for value in node.outputs for user in value.users]
        if any(_is(user, PRODUCTS | FOLLOWERS - MOVES) or user in welcome for user in users):
            welcome.add(node)
        inside = not any(v.is_graph_output for v in node.outputs)
        if inside and all(_is(user, PRODUCTS) or user in leading for user in users):
            leading.add(node)
    return welcome, leading


def _is(node: Node, operators: frozenset[str]) -> bool:
    return not node.domain and node.op_type in operators
