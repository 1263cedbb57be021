"""Blocked layouts: the channels of an image kept in blocks, one vector register wide.

A plain tensor (N, C, H, W) in the layout `NCHW16c` has the shape (N, ceil(C / 16), H, W, 16):

    blocked[n, c // 16, h, w, c % 16]  =  plain[n, c, h, w]

so that neighbouring channels lie in the lanes of one register. Where 16 does not divide C the label tells C
(`NCHW16c/24`) and the lanes beyond it hold finite numbers that nobody reads. A channels-last tensor is the same thing
with one block of all channels. Source: Georganas et al., "Anatomy of high-performance deep learning convolutions on
SIMD architectures", 2018.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from graphopt.ir.graph import ONNX, QUANT, Graph, Node
from graphopt.ir.types import TensorType

_LABEL = re.compile(r"NC(D?H?W)(\d+)c(?:/(\d+))?")


@dataclass(frozen=True)
class Blocked:
    """`channels` in blocks of `block`, before `spatial` axes."""

    channels: int
    block: int
    spatial: int

    @property
    def label(self) -> str:
        """What `TensorType.layout` says."""
        exact = "" if self.channels % self.block == 0 else f"/{self.channels}"
        return f"NC{'DHW'[3 - self.spatial :]}{self.block}c{exact}"

    @property
    def blocks(self) -> int:
        return -(-self.channels // self.block)


def blocked_of(type: TensorType | None) -> Blocked | None:
    """The blocking of a value's type; None for a plain tensor."""
    if type is None or type.layout is None:
        return None
    found = _LABEL.fullmatch(type.layout)
    if found is None:
        return None
    block = int(found[2])
    channels = int(found[3]) if found[3] else type.static_shape[1] * block
    return Blocked(channels, block, len(found[1]))


def blocked_type(plain: TensorType, block: int) -> TensorType:
    """The type of a plain (N, C, spatial...) tensor in blocks."""
    batch, channels, *spatial = plain.static_shape
    layout = Blocked(channels, block, len(spatial))
    return TensorType(plain.dtype, (batch, layout.blocks, *spatial, block), layout.label)


def plain_type(blocked: TensorType) -> TensorType:
    """Inverse of `blocked_type`."""
    layout = blocked_of(blocked)
    assert layout is not None
    batch, _, *spatial, _ = blocked.static_shape
    return TensorType(blocked.dtype, (batch, layout.channels, *spatial))


def to_blocks(array: np.ndarray, block: int) -> np.ndarray:
    """(N, C, spatial...) as (N, ceil(C / block), spatial..., block), filled up with zeros."""
    missing = -array.shape[1] % block
    padded = np.pad(array, [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)])
    split = padded.reshape(array.shape[0], padded.shape[1] // block, block, *array.shape[2:])
    return np.ascontiguousarray(np.moveaxis(split, 2, -1))


def from_blocks(array: np.ndarray, channels: int) -> np.ndarray:
    """Inverse of `to_blocks`."""
    joined = np.moveaxis(array, -1, 2)
    flat = joined.reshape(array.shape[0], joined.shape[1] * joined.shape[2], *joined.shape[3:])
    return np.ascontiguousarray(flat[:, :channels])


def plain_node(node: Node) -> Node:
    """The operator on plain tensors that one on blocks stands for, alone in a graph: ONNX's, or `graphopt.quant`'s.

    Its inputs and outputs have the plain types; operands that are left out stay left out.
    """
    graph = Graph("plain", opset=node.graph.opset if node.graph else 0)
    inputs = [
        None if v is None else graph.add_input(v.name, _plain(v.type), unique=True) for v in node.inputs
    ]
    types = [_plain(v.type) for v in node.outputs]
    domain = QUANT if node.domain == QUANT else ONNX
    return graph.add(node.op_type, inputs, node.attributes, types=types, domain=domain, name=node.name)


def _plain(type: TensorType | None) -> TensorType | None:
    return type if type is None or blocked_of(type) is None else plain_type(type)
