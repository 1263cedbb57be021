"""A layer of a quantised graph: its integer weights as rows on a grid, its bias, and how to replace them.

Conv(x, DequantizeLinear(W', s, z), DequantizeLinear(b', s_x s, 0))         also Gemm, and MatMul -> Add
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from graphopt.ir import DType, Node, Value
from graphopt.passes.integers import weight_axis
from graphopt.passes.rounding.grid import Grid
from graphopt.passes.rounding.matrices import has_rows, weight_rows, weights_from_rows

INT32_MAX = float((1 << 31) - 1)


@dataclass(frozen=True)
class QuantisedLayer:
    """A product whose weights a DequantizeLinear makes of a constant."""

    node: Node
    dequantize: Node

    @property
    def weights(self) -> Value:
        """The weights as floats."""
        return self.dequantize.output

    @cached_property
    def integers(self) -> np.ndarray:
        """As rows (g, m, k), in float64."""
        return weight_rows(self.node, _data(self.dequantize, 0).astype(np.float64))

    @cached_property
    def grid(self) -> Grid:
        """Of the rows. Weights of 3 and 2 bits are kept as int4: the integers tell how many are used.

        The least int8 is left out, as kernels that add pairs of products want it.
        """
        rows, channels = self.integers, self.integers.shape[0] * self.integers.shape[1]
        scale, zero = (self._by_row(_data(self.dequantize, k), channels) for k in (1, 2))
        bits = _bits(self.integers, _integer(self.dequantize).dtype)
        high = (1 << (bits - 1)) - 1
        return Grid(scale, zero, -high if bits == 8 else -high - 1, high, self._groups(rows.shape[-1]))

    @property
    def has_one_scale(self) -> bool:
        """All rows share a scale, which therefore stays what it is."""
        return _data(self.dequantize, 1).size == 1

    @property
    def in_groups(self) -> bool:
        return self.dequantize.int("block_size") > 0

    def replace(self, integers: np.ndarray, grid: Grid, bias: np.ndarray | None) -> None:
        """Write other weights, and another bias (one number for each channel) where there is one."""
        old = [_data(self.dequantize, k) for k in range(3)]
        shape = old[0].shape
        data = weights_from_rows(self.node, integers, shape).astype(old[0].dtype)
        scale = self._from_rows(grid.scale, old[1]).astype(np.float32)
        zero = self._from_rows(grid.zero_point, old[2]).astype(old[2].dtype)
        for index, array in enumerate((data, scale, zero)):
            _replace_constant(self.dequantize, index, array)
        if self.bias is not None:
            self._replace_bias(self.bias_data if bias is None else bias, scale)

    @cached_property
    def bias(self) -> tuple[Node, int] | None:
        """Which input of which node is the bias: constant, or dequantised from one."""
        reader, index = self.node, 2
        if self.node.op_type == "MatMul":
            uses = self.node.output.uses
            if len(uses) != 1 or not uses[0].node.is_op("Add") or self.node.output.is_graph_output:
                return None
            reader, index = uses[0].node, 1 - uses[0].index
        elif self.node.op_type == "Gemm" and self.node.float("beta", 1.0) != 1:
            return None
        value = reader.input(index)
        if value is None or _source(value).constant is None:
            return None
        channels = self.integers.shape[0] * self.integers.shape[1]
        shape = _source(value).static_shape
        is_row = bool(shape) and shape[-1] == channels == int(np.prod(shape))
        return (reader, index) if is_row else None

    @cached_property
    def bias_data(self) -> np.ndarray:
        """The bias as it is, one number for each channel."""
        assert self.bias is not None
        reader, index = self.bias
        value = reader.inputs[index]
        assert value is not None
        if value.producer is None:
            assert value.constant is not None
            return value.constant.reshape(-1).astype(np.float64)
        data, scale = _data(value.producer, 0), _data(value.producer, 1)
        return (data.astype(np.float64) * scale.astype(np.float64)).reshape(-1)

    def _replace_bias(self, bias: np.ndarray, weight_scale: np.ndarray) -> None:
        assert self.bias is not None
        reader, index = self.bias
        value = reader.inputs[index]
        assert value is not None
        if value.producer is None:
            assert value.constant is not None
            _replace_constant(reader, index, bias.reshape(value.constant.shape).astype(value.constant.dtype))
            return
        dequantize, source = value.producer, self.node.inputs[0]
        assert source is not None and source.producer is not None
        scale = np.asarray(_data(source.producer, 1) * weight_scale, np.float32)
        integers = np.clip(np.rint(bias / scale.astype(np.float64)), -INT32_MAX, INT32_MAX)
        shape = _data(dequantize, 0).shape
        _replace_constant(dequantize, 0, integers.reshape(shape).astype(np.int32))
        _replace_constant(dequantize, 1, scale.reshape(_data(dequantize, 1).shape))

    def _by_row(self, numbers: np.ndarray, channels: int) -> np.ndarray:
        """Scales or zero points as (g, m, groups)."""
        groups, by_group, _ = self.integers.shape
        wide = numbers.astype(np.float64)
        if wide.size == 1:
            return np.broadcast_to(wide.reshape(1, 1, 1), (groups, by_group, 1)).copy()
        if not self.in_groups:
            return wide.reshape(groups, by_group, 1)
        return weight_rows(self.node, wide)

    def _from_rows(self, numbers: np.ndarray, like: np.ndarray) -> np.ndarray:
        if like.size == 1:
            return numbers.reshape(-1)[:1].reshape(like.shape)
        return (
            weights_from_rows(self.node, numbers, like.shape)
            if self.in_groups
            else numbers.reshape(like.shape)
        )

    def _groups(self, size: int) -> np.ndarray:
        """The group of each weight of a row: of so many input channels, each tap of a kernel by itself."""
        if not self.in_groups:
            return np.zeros(size, np.int64)
        shape = _data(self.dequantize, 0).shape
        taps = int(np.prod(shape[2:])) if self.node.op_type == "Conv" else 1
        channel, tap = np.divmod(np.arange(size), taps)
        return channel // self.dequantize.int("block_size") * taps + tap


def layer_of(node: Node) -> QuantisedLayer | None:
    """`node` as a layer with integer weights, if it is one whose rows can be rounded anew."""
    value = node.input(1)
    if value is None or value.producer is None or not has_rows(node) or len(value.uses) > 1:
        return None
    dequantize = value.producer
    if not dequantize.is_op("DequantizeLinear") or any(
        v is None or v.constant is None for v in dequantize.inputs
    ):
        return None
    if len(dequantize.inputs) < 3 or _integer(dequantize).dtype not in (DType.int8, DType.int4):
        return None
    if node.op_type == "Gemm" and node.float("alpha", 1.0) != 1:
        return None
    rank = value.rank or 0
    axis, along = dequantize.int("axis", 1) % rank, weight_axis(node) % rank
    if dequantize.int("block_size"):
        return QuantisedLayer(node, dequantize) if axis == 1 - along else None
    has_one = _data(dequantize, 1).size == 1
    return QuantisedLayer(node, dequantize) if has_one or axis == along else None


def _bits(integers: np.ndarray, dtype: DType) -> int:
    """The fewest bits, of 8, 4, 3 and 2, that hold all integers of the type."""
    reach = max(int(integers.max(initial=0)) + 1, -int(integers.min(initial=0)))
    return next(bits for bits in (2, 3, 4, 8) if reach <= 1 << (bits - 1)) if dtype.bits == 4 else dtype.bits


def _integer(dequantize: Node) -> Value:
    value = dequantize.inputs[0]
    assert value is not None
    return value


def _data(node: Node, index: int) -> np.ndarray:
    value = node.inputs[index]
    assert value is not None and value.constant is not None
    return value.constant


def _source(value: Value) -> Value:
    """What `value` is dequantised from, or itself."""
    node = value.producer
    source = node.inputs[0] if node is not None and node.is_op("DequantizeLinear") else value
    return value if source is None else source


def _replace_constant(node: Node, index: int, data: np.ndarray) -> None:
    old = node.inputs[index]
    assert old is not None and old.graph is not None
    node.set_input(index, old.graph.add_constant(data, old.name))
