"""RoiAlign and DeformConv: windows whose taps lie between the elements, where data says.

An element between four others is their mean, weighted by how near they are. He et al., "Mask R-CNN" (2017); Dai et
al., "Deformable Convolutional Networks" (2017).
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx

from graphopt.errors import UnsupportedError
from graphopt.ir import Node
from graphopt.targets.lower.reducers import largest
from graphopt.targets.lower.support import where
from graphopt.targets.lower.tensors import Expr, Lowering, dtype_of, shape_of, wide_dtype, widen
from graphopt.targets.lower.windows import window_of


def roi_align(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x (N, C, H, W), rois (R, 4) as x1 y1 x2 y2, batch_indices (R,) -> (R, C, output_height, output_width).

    Raises UnsupportedError for a sampling ratio that depends on the size of the region.
    """
    x, rois, batches = inputs
    assert x is not None and rois is not None and batches is not None
    ratio = node.int("sampling_ratio")
    if ratio <= 0:
        raise UnsupportedError(
            "sampling_ratio 0: the number of samples depends on the data", where=where(node)
        )
    out = node.output.static_shape
    kind = wide_dtype(dtype_of(x))
    boxes = _boxes(node, rois, out[2:], kind)
    iy, ix = te.reduce_axis((0, ratio), "iy"), te.reduce_axis((0, ratio), "ix")
    averages = node.str("mode", "avg").lower() == "avg"

    def element(r: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
        places = [
            boxes(r, axis) + (o.astype(kind) + (k.var.astype(kind) + 0.5) / float(ratio)) * boxes(r, axis + 2)
            for axis, o, k in ((0, i, iy), (1, j, ix))
        ]
        terms = _corners(x, lambda h, w: (batches(r).astype("int32"), c, h, w), places, kind)
        if averages:
            return te.sum(terms[0] + terms[1] + terms[2] + terms[3], axis=[iy, ix])
        peak = tirx.max(tirx.max(terms[0], terms[1]), tirx.max(terms[2], terms[3]))
        return largest(peak, axis=[iy, ix])

    samples = te.compute(out, element, name="samples")
    scale = tirx.const(1 / ratio**2 if averages else 1.0, kind)
    return te.compute(out, lambda *i: (samples(*i) * scale).astype(dtype_of(x)), name="roi_align")


def _boxes(node: Node, rois: te.Tensor, pooled: tuple[int, ...], kind: str) -> te.Tensor:
    """(R, 4): where each region begins, y and x, and the height and width of its bins."""
    half_pixel = node.str("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    scale = tirx.const(node.float("spatial_scale", 1.0), kind)
    shift = tirx.const(0.5 if half_pixel else 0.0, kind)

    def bound(r: Expr, column: int) -> Expr:
        return widen(rois(r, column)).astype(kind) * scale - shift

    def bin_size(r: Expr, axis: int) -> Expr:
        span = bound(r, 3 - axis) - bound(r, 1 - axis)
        if not half_pixel:
            span = tirx.max(span, tirx.const(1.0, kind))
        return span / float(pooled[axis])

    def element(r: Expr, column: Expr) -> Expr:
        value = bin_size(r, 1)
        for index, other in ((2, bin_size(r, 0)), (1, bound(r, 0)), (0, bound(r, 1))):
            value = tirx.Select(tirx.EQ(column, index), other, value)
        return value

    return te.compute((shape_of(rois)[0], 4), element, name="boxes")


def _corners(
    x: te.Tensor, at: Callable[[Expr, Expr], tuple[Expr, ...]], places: list[Expr], kind: str
) -> list[Expr]:
    """The four weighted elements around a place; all zero when it is more than one element outside."""
    sizes = shape_of(x)[2:]
    outside = tirx.any(*(t for p, s in zip(places, sizes, strict=True) for t in (p < -1.0, p > float(s))))
    axes = []
    for place, size in zip(places, sizes, strict=True):
        bounded = tirx.max(tirx.min(place, tirx.const(float(size - 1), kind)), tirx.const(0.0, kind))
        low = bounded.astype("int32")
        share = bounded - low.astype(kind)
        axes.append(((low, 1.0 - share), (tirx.min(low + 1, size - 1), share)))
    return [
        tirx.Select(outside, tirx.const(0.0, kind), wy * wx * x(*at(h, w)).astype(kind))
        for h, wy in axes[0]
        for w, wx in axes[1]
    ]


def deform_conv(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """A convolution in two dimensions whose taps are moved by `offset` and weighted by `mask`.

    x (N, C, H, W), w (M, C / group, kh, kw), offset (N, groups kh kw 2, oh, ow), bias (M,), mask (N, groups kh kw,
    oh, ow). Outside x there are zeros. Raises UnsupportedError for other than two spatial axes.
    """
    x, w, offset, bias, mask = [*inputs, None, None][:5]
    assert x is not None and w is not None and offset is not None
    if len(shape_of(x)) != 4:
        raise UnsupportedError(f"{len(shape_of(x)) - 2} spatial axes", where=where(node))
    kernel, out = shape_of(w)[2:], node.output.static_shape
    window = window_of(node, kernel, shape_of(x)[2:])
    channels = shape_of(x)[1]
    per_offset = channels // node.int("offset_group", 1)
    kind = wide_dtype(dtype_of(x))

    def tap(n: Expr, c: Expr, kh: Expr, kw: Expr, i: Expr, j: Expr) -> Expr:
        number = (tirx.indexdiv(c, per_offset) * kernel[0] + kh) * kernel[1] + kw
        fixed = window.positions((i, j), (kh, kw))
        places = [
            (fixed[a] - window.begin[a]).astype(kind) + offset(n, number * 2 + a, i, j).astype(kind)
            for a in range(2)
        ]
        value = _between(x, n, c, places, kind)
        return value if mask is None else value * mask(n, number, i, j).astype(kind)

    sampled = te.compute((out[0], channels, *kernel, *out[2:]), tap, name="sampled")
    groups, per_group = node.int("group", 1), shape_of(w)[1]
    share = out[1] // groups
    rc, kh, kw = (te.reduce_axis((0, d), f"r{d_}") for d, d_ in zip((per_group, *kernel), "chw", strict=True))

    def product(n: Expr, m: Expr, i: Expr, j: Expr) -> Expr:
        channel = tirx.indexdiv(m, share) * per_group + rc
        return te.sum(sampled(n, channel, kh, kw, i, j) * w(m, rc, kh, kw).astype(kind), axis=[rc, kh, kw])

    sums = te.compute(out, product, name="conv")

    def finish(n: Expr, m: Expr, i: Expr, j: Expr) -> Expr:
        value = sums(n, m, i, j) if bias is None else sums(n, m, i, j) + bias(m).astype(kind)
        return value.astype(dtype_of(x))

    return te.compute(out, finish, name="bias")


def _between(x: te.Tensor, n: Expr, c: Expr, places: list[Expr], kind: str) -> Expr:
    """x between its elements, with zeros around it."""
    sizes = shape_of(x)[2:]
    axes = []
    for place, size in zip(places, sizes, strict=True):
        bounded = tirx.max(tirx.min(place, tirx.const(float(size), kind)), tirx.const(-1.0, kind))
        low = tirx.floor(bounded)
        share = bounded - low
        index = low.astype("int32")
        axes.append(((index, 1.0 - share, size), (index + 1, share, size)))
    total: Expr = tirx.const(0.0, kind)
    for h, wy, height in axes[0]:
        for w, wx, width in axes[1]:
            inside = tirx.all(h >= 0, h < height, w >= 0, w < width)
            read = x(n, c, tirx.max(tirx.min(h, height - 1), 0), tirx.max(tirx.min(w, width - 1), 0))
            total = total + tirx.Select(inside, wy * wx * read.astype(kind), tirx.const(0.0, kind))
    return total


LOWERINGS: dict[str, Lowering] = {"DeformConv": deform_conv, "RoiAlign": roi_align}
