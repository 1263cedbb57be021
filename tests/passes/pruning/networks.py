"""Random networks of small integers, in which every sum is exact whatever its order.

Each layer maps [1, C, 4, 4] to [1, C', 4, 4] and ends in whole numbers from -8 to 8; zero stays zero on the way. A head
makes numbers of them: dense layers, attention over the pixels, or a recurrence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.ir import Graph, Value
from graphopt.ir.verify import verify
from tests.passes.helpers import Draft

PIXELS = 4


class Network:
    """A network under construction; `x` is what the last layer made."""

    def __init__(self, seed: int) -> None:
        self.draft = Draft()
        self.random = np.random.default_rng(seed)
        self.x = self.draft.input(1, 4, PIXELS, PIXELS)

    @property
    def channels(self) -> int:
        return self.x.static_shape[1]

    def weight(self, *shape: int) -> Value:
        return self.draft.const(self.random.integers(-1, 2, shape))

    def conv(self, x: Value, channels: int, kernel: int = 3, group: int = 1) -> Value:
        weights = self.weight(channels, x.static_shape[1] // group, kernel, kernel)
        pads = (kernel // 2,) * 4
        return self.draft.op("Conv", x, weights, self.weight(channels), pads=pads, group=group)

    def whole(self, x: Value) -> Value:
        """Whole numbers from -8 to 8."""
        low, high = self.draft.const(-8.0), self.draft.const(8.0)
        return self.draft.op("Clip", self.draft.op("Floor", x), low, high)

    # --- layers ---

    def plain(self) -> Value:
        return self.conv(self.x, int(self.random.integers(2, 7)))

    def depthwise(self) -> Value:
        times = int(self.random.integers(1, 3))
        return self.conv(self.x, times * self.channels, group=self.channels)

    def grouped(self) -> Value:
        """Of two or four groups, narrow or wide."""
        groups = int(self.random.choice([2, 4]))
        x = self.whole(self.conv(self.x, groups * int(self.random.choice([2, 3, 6])), 1))
        return self.conv(x, groups * int(self.random.integers(1, 4)), group=groups)

    def residual(self) -> Value:
        inner = self.draft.op("Relu", self.conv(self.x, int(self.random.integers(2, 7))))
        return self.draft.op("Add", self.x, self.conv(self.whole(inner), self.channels))

    def concat(self) -> Value:
        return self.draft.op("Concat", self.x, self.conv(self.x, 3), self.x, axis=1)

    def split(self) -> Value:
        if self.channels == 1:
            return self.draft.op("Relu", self.x)
        first = int(self.random.integers(1, self.channels))
        sizes = self.draft.ints(first, self.channels - first)
        a, b = self.draft.ops("Split", self.x, sizes, outputs=2, axis=1)
        return self.draft.op("Concat", self.draft.op("Relu", b), a, axis=1)

    def cut(self) -> Value:
        """A slice of the channels, and a choice of them in another order."""
        ints = self.draft.ints
        part = self.draft.op("Slice", self.x, ints(1), ints(self.channels + 5), ints(1))
        order = self.random.permutation(self.channels)
        return self.draft.op("Concat", part, self.draft.op("Gather", self.x, ints(*order), axis=1), axis=1)

    def padded(self) -> Value:
        """A shortcut that fills up with channels of zeros."""
        pads = self.draft.ints(0, 1, 0, 0, 0, 2, 0, 0)
        return self.draft.op("Add", self.draft.op("Pad", self.x, pads), self.conv(self.x, self.channels + 3))

    def excited(self) -> Value:
        """Squeeze and excitation."""
        mean = self.whole(self.draft.op("GlobalAveragePool", self.x))
        gate = self.whole(self.conv(self.draft.op("Relu", self.conv(mean, 3, 1)), self.channels, 1))
        return self.draft.op("Mul", self.x, gate)

    def normalised(self) -> Value:
        shapes = [self.weight(self.channels) for _ in range(3)]
        variance = self.draft.const(self.random.integers(1, 4, self.channels))
        return self.draft.op("BatchNormalization", self.x, *shapes, variance)

    def normalised_groups(self) -> Value:
        x = self.whole(self.conv(self.x, 6))
        return self.draft.op("GroupNormalization", x, self.weight(6), self.weight(6), num_groups=3)

    def transposed(self) -> Value:
        """One that doubles the image, and a pool."""
        groups = int(self.random.choice([1, self.channels]))
        width = int(self.random.integers(1, 4))
        weights = self.weight(self.channels, width, 2, 2)
        bias = self.weight(groups * width)
        y = self.draft.op("ConvTranspose", self.x, weights, bias, strides=(2, 2), group=groups)
        return self.draft.op("MaxPool", y, kernel_shape=(2, 2), strides=(2, 2))

    def deep(self) -> Value:
        """Pixels into channels and back."""
        deep = self.draft.op("SpaceToDepth", self.x, blocksize=2)
        y = self.draft.op("Relu", self.conv(self.draft.op("Relu", deep), 8))
        mode = str(self.random.choice(["DCR", "CRD"]))
        return self.draft.op("DepthToSpace", self.whole(y), blocksize=2, mode=mode)

    # --- heads ---

    def flat(self) -> Value:
        x = self.draft.op("Flatten", self.x)
        hidden = self.draft.op("Gemm", x, self.weight(x.static_shape[1], 5), self.weight(5))
        transposed = self.weight(3, 5)
        return self.draft.op("Gemm", self.whole(hidden), transposed, self.weight(3), transB=1)

    def tokens(self) -> Value:
        """[1, pixels, channels]"""
        x = self.draft.op("Reshape", self.x, self.draft.ints(1, self.channels, -1))
        return self.draft.op("Transpose", x, perm=(0, 2, 1))

    def dense(self, x: Value, width: int) -> Value:
        product = self.draft.op("MatMul", x, self.weight(x.static_shape[-1], width))
        return self.draft.op("Add", self.weight(width), product)

    def attention(self) -> Value:
        """Queries, keys and values from one product, and a block of two dense layers behind."""
        draft, heads, width = self.draft, int(self.random.integers(2, 4)), 2
        x = self.tokens()
        qkv = self.whole(self.dense(x, 3 * heads * width))
        split = draft.op("Reshape", qkv, draft.ints(1, PIXELS**2, 3, heads, width))
        moved = draft.op("Transpose", split, perm=(2, 0, 3, 1, 4))
        parts = draft.ops("Split", moved, outputs=3, axis=0, num_outputs=3)
        q, k, v = (draft.op("Squeeze", part, draft.ints(0)) for part in parts)
        scores = draft.op("MatMul", q, draft.op("Transpose", k, perm=(0, 1, 3, 2)))
        shares = draft.op("Mul", draft.op("Softmax", scores, axis=-1), draft.const(8.0))
        mixed = draft.op("Transpose", draft.op("MatMul", self.whole(shares), v), perm=(0, 2, 1, 3))
        joined = draft.op("Reshape", mixed, draft.ints(0, 0, heads * width))
        x = self.whole(draft.op("Add", x, self.dense(self.whole(joined), x.static_shape[-1])))
        inner = self.whole(draft.op("Gelu", self.dense(x, 5)))
        x = self.whole(draft.op("Add", x, self.dense(inner, x.static_shape[-1])))
        return self.dense(draft.op("ReduceMax", x, draft.ints(1), keepdims=0), 3)

    def separate_attention(self) -> Value:
        """Queries, keys and values from products of their own."""
        draft, heads, width = self.draft, 3, 2
        x = self.tokens()
        q, k, v = (
            draft.op(
                "Transpose",
                draft.op("Reshape", self.whole(self.dense(x, heads * width)), draft.ints(0, 0, heads, width)),
                perm=(0, 2, 1, 3),
            )
            for _ in range(3)
        )
        scores = draft.op("MatMul", q, draft.op("Transpose", k, perm=(0, 1, 3, 2)))
        scaled = draft.op("Mul", scores, draft.const(width**-0.5))
        mixed = draft.op("MatMul", draft.op("Softmax", scaled, axis=-1), v)
        joined = draft.op("Reshape", draft.op("Transpose", mixed, perm=(0, 2, 1, 3)), draft.ints(0, 0, -1))
        inner = draft.op("Relu", self.dense(self.whole(joined), 5))
        return self.dense(inner, 3)

    def fused_attention(self) -> Value:
        """The operator Attention on three axes; two heads of queries share keys and values."""
        x = self.tokens()
        q, k, v = (self.whole(self.dense(x, width)) for width in (12, 6, 6))
        mixed = self.draft.op("Attention", q, k, v, q_num_heads=6, kv_num_heads=3)
        return self.dense(self.whole(mixed), 3)

    def recurrent(self) -> Value:
        """Both directions, over the pixels."""
        cell = str(self.random.choice(["LSTM", "GRU"]))
        gates, hidden = (4 if cell == "LSTM" else 3), 3
        x = self.draft.op("Transpose", self.tokens(), perm=(1, 0, 2))
        weights = [self.weight(2, gates * hidden, size) for size in (self.channels, hidden)]
        bias = self.weight(2, 2 * gates * hidden)
        y = self.draft.ops(cell, x, *weights, bias, outputs=1, hidden_size=hidden, direction="bidirectional")[
            0
        ]
        joined = self.draft.op("Transpose", y, perm=(0, 2, 1, 3))
        flat = self.draft.op("Reshape", joined, self.draft.ints(0, 1, -1))
        scaled = self.draft.op("Mul", flat, self.draft.const(8.0))
        return self.dense(self.whole(scaled), 3)


LAYERS: dict[str, Callable[[Network], Value]] = {
    layer.__name__: layer
    for layer in (
        Network.plain,
        Network.depthwise,
        Network.grouped,
        Network.residual,
        Network.concat,
        Network.split,
        Network.cut,
        Network.padded,
        Network.excited,
        Network.normalised,
        Network.normalised_groups,
        Network.transposed,
        Network.deep,
    )
}
HEADS: dict[str, Callable[[Network], Value]] = {
    head.__name__: head
    for head in (
        Network.flat,
        Network.attention,
        Network.separate_attention,
        Network.fused_attention,
        Network.recurrent,
    )
}


def random_network(layers: list[str], head: str, seed: int) -> Graph:
    """Layers by name behind a convolution, and a head."""
    network = Network(seed)
    for layer in ("plain", *layers):
        network.x = network.whole(LAYERS[layer](network))
    network.draft.output(HEADS[head](network))
    verify(network.draft.graph)
    return network.draft.graph
