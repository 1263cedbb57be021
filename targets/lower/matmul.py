"""MatMul, Gemm and the integer MatMul: one `matmul` stage of sums, then element-wise ones."""

from __future__ import annotations

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.tensors import Expr, Lowering, broadcast_read, dtype_of, shape_of, wide_dtype


def matmul(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """numpy's matmul: (..., M, K) x (..., K, N), batch axes broadcast, vectors on either side."""
    a, b = inputs[0], inputs[1]
    assert a is not None and b is not None
    return product(a, b, node.output.static_shape, wide_dtype(dtype_of(a)))


def product(a: te.Tensor, b: te.Tensor, out: tuple[int, ...], wide: str) -> te.Tensor:
    """The product with sums of type `wide`; a vector operand has no row (column) index in `out`."""
    k = te.reduce_axis((0, shape_of(a)[-1]), name="rk")
    a_vector, b_vector = len(shape_of(a)) == 1, len(shape_of(b)) == 1

    def element(*indices: Expr) -> Expr:
        rest = list(indices)
        column = [] if b_vector else [rest.pop()]
        row = [] if a_vector else [rest.pop()]
        left = a(*_batch(a, rest), *row, k) if not a_vector else a(k)
        right = b(*_batch(b, rest), k, *column) if not b_vector else b(k)
        return te.sum(left.astype(wide) * right.astype(wide), axis=k)

    return te.compute(out, element, name="matmul")


def _batch(tensor: te.Tensor, batch: list[Expr]) -> list[Expr]:
    """The batch indices of an operand whose batch axes broadcast."""
    axes = shape_of(tensor)[:-2]
    tail = batch[len(batch) - len(axes) :]
    return [tirx.const(0, "int32") if dim == 1 else i for dim, i in zip(axes, tail, strict=True)]


def gemm(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """alpha * op(a) @ op(b) + beta * c, where c broadcasts to (M, N)."""
    a, b, *rest = inputs
    assert a is not None and b is not None
    transpose_a, transpose_b = node.int("transA"), node.int("transB")
    alpha, beta = node.float("alpha", 1.0), node.float("beta", 1.0)
    wide = wide_dtype(dtype_of(a))
    k = te.reduce_axis((0, shape_of(a)[0 if transpose_a else 1]), name="rk")

    def element(i: Expr, j: Expr) -> Expr:
        left = a(k, i) if transpose_a else a(i, k)
        right = b(j, k) if transpose_b else b(k, j)
        return te.sum(left.astype(wide) * right.astype(wide), axis=k)

    y = te.compute(node.output.static_shape, element, name="matmul")
    c = rest[0] if rest else None
    if alpha == 1.0 and c is None:
        return y

    def finish(i: Expr, j: Expr) -> Expr:
        value = y(i, j) if alpha == 1.0 else y(i, j) * tirx.const(alpha, y.dtype)
        if c is None or beta == 0.0:
            return value
        added = broadcast_read(c, (i, j)).astype(y.dtype)
        return value + (added if beta == 1.0 else added * tirx.const(beta, y.dtype))

    return te.compute(y.shape, finish, name="gemm")


def matmul_integer(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """(a - a_zero_point) @ (b - b_zero_point) in int32."""
    a, b, *zeros = inputs
    assert a is not None and b is not None
    points = [*zeros, None, None][:2]
    left = _centred(a, points[0], per_row=True)
    right = _centred(b, points[1], per_row=False)
    return product(left, right, node.output.static_shape, "int32")


def _centred(x: te.Tensor, zero: te.Tensor | None, *, per_row: bool) -> te.Tensor:
    def element(*indices: Expr) -> Expr:
        value = x(*indices).astype("int32")
        if zero is None:
            return value
        shape = shape_of(zero)
        if len(shape) == 0:
            return value - zero().astype("int32")
        if len(shape) == 1:
            axis = indices[-2] if per_row and len(indices) > 1 else indices[-1]
            return value - zero(0 if shape[0] == 1 else axis).astype("int32")
        return value - broadcast_read(zero, indices).astype("int32")

    return te.compute(x.shape, element, name="centred")


LOWERINGS: dict[str, Lowering] = {"Gemm": gemm, "MatMul": matmul, "MatMulInteger": matmul_integer}
