"""Conv and ConvTranspose of one to three spatial axes, grouped and depthwise included.

Stages: `pad` (the padded input), `conv` (the sums), `bias`. A depthwise convolution has no channel reduction.
"""

from __future__ import annotations

from tvm import te, tirx

from graphopt.ir import Node
from graphopt.targets.lower.tensors import Expr, Lowering, dtype_of, shape_of, wide_dtype
from graphopt.targets.lower.windows import Window, pad_spatial, window_of


def conv(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x (N, C, *spatial), w (M, C / group, *kernel), optional bias (M,) -> (N, M, *out)."""
    x, w, *rest = inputs
    assert x is not None and w is not None
    window = window_of(node, shape_of(w)[2:], shape_of(x)[2:])
    y = sums(x, w, window, node.int("group", 1))
    return _add_bias(y, rest[0] if rest else None)


def sums(x: te.Tensor, w: te.Tensor, window: Window, groups: int) -> te.Tensor:
    """The convolution without bias, accumulated in float32 for 16-bit floats."""
    batch, channels, *spatial = shape_of(x)
    outputs, per_group = shape_of(w)[0], shape_of(w)[1]
    out = [
        (size + b + e - s) // stride + 1
        for size, b, e, s, stride in zip(
            spatial, window.begin, window.end, window.span, window.strides, strict=True
        )
    ]
    padded = pad_spatial(x, window.begin, window.end, tirx.const(0, x.dtype))
    wide = wide_dtype(dtype_of(x))
    taps = window.axes()
    share = outputs // groups

    def product(n: Expr, m: Expr, c: Expr, channel: Expr, o: tuple[Expr, ...]) -> Expr:
        element = padded(n, channel, *window.positions(o, taps))
        return element.astype(wide) * w(m, c, *taps).astype(wide)

    if per_group == 1:
        return te.compute(
            (batch, outputs, *out),
            lambda n, m, *o: te.sum(
                product(n, m, 0, m if share == 1 else tirx.indexdiv(m, share), o), axis=taps
            ),
            name="depthwise",
        )
    rc = te.reduce_axis((0, per_group), name="rc")

    def dense(n: Expr, m: Expr, *o: Expr) -> Expr:
        channel = rc if groups == 1 else tirx.indexdiv(m, share) * per_group + rc
        return te.sum(product(n, m, rc, channel, o), axis=[rc, *taps])

    return te.compute((batch, outputs, *out), dense, name="conv")


def conv_transpose(node: Node, inputs: list[te.Tensor | None]) -> te.Tensor:
    """x (N, C, *spatial), w (C, M / group, *kernel), optional bias -> (N, M, *out).

    The input is spread out with zeros (stride - 1 between neighbours), padded, and convolved with the
    flipped kernel: stages `spread`, `conv`, `bias`.
    """
    x, w, *rest = inputs
    assert x is not None and w is not None
    rank = len(shape_of(x)) - 2
    groups = node.int("group", 1)
    kernel = shape_of(w)[2:]
    strides = node.ints("strides", (1,) * rank)
    dilations = node.ints("dilations", (1,) * rank)
    assert strides is not None and dilations is not None
    out = node.output.static_shape
    begin, extra = transposed_pads(node, shape_of(x)[2:], kernel, strides, dilations, out[2:])
    spread = _spread(x, strides, begin, kernel, dilations, out[2:])
    channels, per_group = shape_of(x)[1] // groups, shape_of(w)[1]
    wide = wide_dtype(dtype_of(x))
    rc = te.reduce_axis((0, channels), name="rc")
    taps = Window(kernel, strides, dilations, begin, extra).axes()

    def element(n: Expr, m: Expr, *o: Expr) -> Expr:
        base = 0 if groups == 1 else tirx.indexdiv(m, per_group) * channels
        inner = m if groups == 1 else tirx.indexmod(m, per_group)
        flipped = [k - 1 - t for k, t in zip(kernel, taps, strict=True)]
        places = [i + t * d for i, t, d in zip(o, taps, dilations, strict=True)]
        read = spread(n, base + rc, *places).astype(wide)
        return te.sum(read * w(base + rc, inner, *flipped).astype(wide), axis=[rc, *taps])

    y = te.compute(out, element, name="conv")
    return _add_bias(y, rest[0] if rest else None)


def _spread(
    x: te.Tensor,
    strides: tuple[int, ...],
    begin: tuple[int, ...],
    kernel: tuple[int, ...],
    dilations: tuple[int, ...],
    out: tuple[int, ...],
) -> te.Tensor:
    """Zeros with the input's elements `stride` apart, as far as the window reaches."""
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    shape = shape_of(x)
    wide = tuple(o + s - 1 for o, s in zip(out, spans, strict=True))
    offsets = [s - 1 - b for s, b in zip(spans, begin, strict=True)]

    def element(*indices: Expr) -> Expr:
        tests, places = [], []
        for index, offset, stride, dim in zip(indices[2:], offsets, strides, shape[2:], strict=True):
            place = index - offset
            tests += [place >= 0, place < (dim - 1) * stride + 1]
            if stride > 1:
                tests.append(tirx.indexmod(place, stride) == 0)
                place = tirx.indexdiv(place, stride)
            places.append(place)
        zero = tirx.const(0, x.dtype)
        return tirx.if_then_else(tirx.all(*tests), x(*indices[:2], *places), zero)

    return te.compute((*shape[:2], *wide), element, name="spread")


def transposed_pads(
    node: Node,
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    out: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Begin and end pads; `output_shape` and SAME modes determine them from the size `out` of the output."""
    rank = len(kernel)
    mode = node.str("auto_pad", "NOTSET")
    pads = node.ints("pads", (0,) * 2 * rank)
    assert pads is not None
    if node.ints("output_shape") is None and mode in ("NOTSET", "VALID"):
        return (pads[:rank], pads[rank:]) if mode == "NOTSET" else ((0,) * rank, (0,) * rank)
    extra = node.ints("output_padding", (0,) * rank)
    assert extra is not None
    totals = [
        max(s * (i - 1) + e + (k - 1) * d + 1 - o, 0)
        for i, k, s, d, e, o in zip(spatial, kernel, strides, dilations, extra, out, strict=True)
    ]
    low = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in totals]
    return tuple(low), tuple(t - b for t, b in zip(totals, low, strict=True))


def _add_bias(y: te.Tensor, bias: te.Tensor | None) -> te.Tensor:
    if bias is None:
        return y
    return te.compute(y.shape, lambda n, m, *o: y(n, m, *o) + bias(m).astype(y.dtype), name="bias")


LOWERINGS: dict[str, Lowering] = {"Conv": conv, "ConvTranspose": conv_transpose}
