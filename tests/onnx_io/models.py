"""Small valid models that between them use every part of the format."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import parser

CNN = """
<ir_version: 6, opset_import: ["" : 11]>
small_cnn (float[N, 2, 8, 8] image) => (float[N, 3] label, int64[N, 2] top) {
    c = Conv <pads = [1, 1, 1, 1], auto_pad = "NOTSET"> (image, w, b)
    n = BatchNormalization <epsilon = 0.001> (c, scale, shift, mean, variance)
    r = Clip (n, zero, six)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (r)
    left, right = Split <axis = 1, split = [1, 3]> (p)
    j = Concat <axis = 1> (right, left)
    u = Resize <mode = "nearest"> (j, roi, scales)
    a = AveragePool <kernel_shape = [4, 4], strides = [2, 2]> (u)
    s = Slice (a, starts, ends, axes)
    d = Pad (s, pads)
    shape = Shape (d)
    batch = Gather (shape, first)
    column = Unsqueeze <axes = [0]> (batch)
    wide = Concat <axis = 0> (column, minus)
    f = Reshape (d, wide)
    g = Gemm <alpha = 0.5, transB = 1> (f, dense, bias)
    label = Softmax <axis = 1> (g)
    best, top = TopK <axis = 1> (label, two)
}
"""


def cnn() -> onnx.ModelProto:
    """Convolution to Softmax at opset 11, with a symbolic batch and shape arithmetic."""
    random = np.random.default_rng(5)
    model = parser.parse_model(CNN)
    _add(
        model.graph,
        w=random.normal(size=(4, 2, 3, 3)).astype(np.float32),
        b=random.normal(size=4).astype(np.float32),
        scale=random.normal(size=4).astype(np.float32),
        shift=random.normal(size=4).astype(np.float32),
        mean=random.normal(size=4).astype(np.float32),
        variance=random.uniform(0.5, 2, 4).astype(np.float32),
        zero=np.float32(0),
        six=np.float32(6),
        roi=np.zeros(0, np.float32),
        scales=np.array([1, 1, 2, 2], np.float32),
        starts=np.array([0, 0]),
        ends=np.array([2, 9]),
        axes=np.array([2, 3]),
        pads=np.array([0, 0, 1, 0, 0, 0, 0, 1]),
        first=np.int64(0),
        minus=np.array([-1]),
        dense=random.normal(size=(3, 48)).astype(np.float32),
        bias=random.normal(size=3).astype(np.float32),
        two=np.array([2]),
    )
    return model


CONTROL = """
<ir_version: 8, opset_import: ["" : 17, "local" : 1], metadata_props: ["author" : "nobody"]>
control (float[rows, 4] x, bool flag, int64 turns) => (float[rows, 4] y, float[times, rows, 4] trace, float[3] z) {
    half = Constant <value_float = 0.5> ()
    pair = Constant <value_ints = [2, 2]> ()
    scaled = local.affine <gain = 2.0> (x, half)
    y = If (flag) <
        then_branch = yes () => (float[rows, 4] t) { t = Add (scaled, half) },
        else_branch = no () => (float[rows, 4] e) {
            inner = If (flag) <
                then_branch = a () => (float[rows, 4] at) { at = Identity (x) },
                else_branch = b () => (float[rows, 4] bt) { bt = Sub (x, scaled) }
            >
            e = Neg (inner)
        }
    >
    keep = Constant <value_int = 1> ()
    go = Cast <to = 9> (keep)
    last, trace = Loop (turns, go, y) <
        body = step (int64 i, bool c, float[rows, 4] state) => (bool c_out, float[rows, 4] next, float[rows, 4] row) {
            c_out = Identity (c)
            f = Cast <to = 1> (i)
            next = Add (state, f)
            row = Mul (next, half)
        }
    >
    zero = ConstantOfShape <value = float[1] {1.5}> (pair)
    shape = Shape (zero)
    r = Range (start, limit, delta)
    wide = Expand (r, three)
    tiled = Tile (wide, one)
    mask = Where (which, tiled, wide)
    sum = ReduceSum <keepdims = 0> (zero)
    z = Einsum <equation = "i,->i"> (mask, sum)
}
<domain: "local", opset_import: ["" : 17]>
affine <gain> (v, w) => (out) {
    factor = Constant <value_float : float = @gain> ()
    p = Mul (v, factor)
    out = Add (p, w)
}
"""


def control() -> onnx.ModelProto:
    """If, Loop, captured values, a local function, shapes that are computed."""
    model = parser.parse_model(CONTROL)
    _add(
        model.graph,
        start=np.float32(0),
        limit=np.float32(3),
        delta=np.float32(1),
        three=np.array([3]),
        one=np.array([1]),
        which=np.array([True, False, True]),
    )
    return model


def _add(graph: onnx.GraphProto, **weights: np.ndarray) -> None:
    for name, data in weights.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(data), name))
