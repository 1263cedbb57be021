"""Running sums and products: CumSum, CumProd. Neighbours behind the axis run in the lanes of one vector;
16-bit floats are accumulated in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm import tirx

from graphopt.ir import Node
from graphopt.targets.lower.kernel import Writer, folded, write_kernel
from graphopt.targets.lower.tensors import Expr, constant, normalise_axis, storage, wide_dtype

LANES = 16
"""Running totals that are kept at once."""


def _scan(node: Node, combine: Callable[[Expr, Expr], Expr], start: int) -> tirx.PrimFunc:
    """y[j] = x[0] o ... o x[j]; `exclusive` leaves x[j] out, `reverse` runs from the end."""
    x, axis = node.inputs[0], constant(node, 1)
    assert x is not None and axis is not None
    shape = x.static_shape
    outer, along, inner = folded(shape, normalise_axis(int(axis.item()), len(shape)))
    work = outer * along * inner
    kind = storage(node.output.dtype)
    wide = wide_dtype(kind)

    def build(write: Writer) -> None:
        with write.each(outer, work=work) as row:
            with write.each(inner // LANES, work=work if outer == 1 else 0) as group:
                run(write, row, group * LANES, LANES)
            if inner % LANES:
                run(write, row, inner - inner % LANES, inner % LANES)

    def run(write: Writer, row: Expr, first: Expr | int, count: int) -> None:
        data, result = write.operand(0), write.result(0)
        total = write.scratch((count,), wide)
        write.lanes(count, lambda i: total.store(tirx.const(start, wide), i), wide)
        with write.serial(along) as number:
            step = along - 1 - number if node.int("reverse") else number

            def add(i: Expr) -> None:
                total.store(combine(total[i], data[row, step, first + i].astype(wide)), i)

            def show(i: Expr) -> None:
                result.store(total[i].astype(kind), row, step, first + i)

            for action in (show, add) if node.int("exclusive") else (add, show):
                write.lanes(count, action, wide)

    return write_kernel(node, build, [(outer, along, inner), None, (outer, along, inner)])


OPAQUE: dict[str, Callable[[Node], tirx.PrimFunc]] = {
    "CumProd": partial(_scan, combine=lambda total, x: total * x, start=1),
    "CumSum": partial(_scan, combine=lambda total, x: total + x, start=0),
}
