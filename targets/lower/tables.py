"""Every operator that has a kernel, by `node.key`. Each module lists its own; here they come together."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from graphopt.ir import Node
from graphopt.targets.lower import (
    convolution,
    elementwise,
    matmul,
    normalization,
    pooling,
    quantization,
    reduction,
)
from graphopt.targets.lower.tensors import Lowering

LOWERINGS: dict[str, Lowering] = {
    **convolution.LOWERINGS,
    **elementwise.LOWERINGS,
    **matmul.LOWERINGS,
    **normalization.LOWERINGS,
    **pooling.LOWERINGS,
    **quantization.LOWERINGS,
    **reduction.LOWERINGS,
}

OPAQUE: dict[str, Callable[[Node], tirx.PrimFunc]] = {}
