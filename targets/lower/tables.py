"""Every operator that has a kernel, by `node.key`. Each module lists its own; here they come together."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from graphopt.ir import Node
from graphopt.targets.lower import (
    attention,
    blocked,
    channel_normalization,
    col2im,
    convolution,
    copies,
    einsum,
    elementwise,
    gather,
    generators,
    matmul,
    movement,
    normalization,
    padding,
    pooling,
    qlinear,
    quant,
    quantization,
    recurrent,
    reduction,
    regions,
    resize,
    sampling,
    scan,
    scatter,
    softmax,
    sorting,
    spectral,
)
from graphopt.targets.lower.tensors import Lowering

LOWERINGS: dict[str, Lowering] = {
    **attention.LOWERINGS,
    **blocked.LOWERINGS,
    **channel_normalization.LOWERINGS,
    **col2im.LOWERINGS,
    **convolution.LOWERINGS,
    **einsum.LOWERINGS,
    **elementwise.LOWERINGS,
    **gather.LOWERINGS,
    **generators.LOWERINGS,
    **matmul.LOWERINGS,
    **movement.LOWERINGS,
    **normalization.LOWERINGS,
    **padding.LOWERINGS,
    **pooling.LOWERINGS,
    **qlinear.LOWERINGS,
    **quant.LOWERINGS,
    **quantization.LOWERINGS,
    **reduction.LOWERINGS,
    **regions.LOWERINGS,
    **resize.LOWERINGS,
    **sampling.LOWERINGS,
    **softmax.LOWERINGS,
    **spectral.LOWERINGS,
}

OPAQUE: dict[str, Callable[[Node], tirx.PrimFunc]] = {
    **copies.OPAQUE,
    **recurrent.OPAQUE,
    **scan.OPAQUE,
    **scatter.OPAQUE,
    **sorting.OPAQUE,
}
