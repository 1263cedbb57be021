"""Layers that templates must get right, odd sizes first: `LAYERS` by the template that builds them."""

from __future__ import annotations

from tests.targets.layers import (
    attentions,
    convolutions,
    depthwise,
    normalizations,
    pools,
    products,
    transposed,
)
from tests.targets.layers.base import Layer

LAYERS: dict[str, tuple[Layer, ...]] = {
    "direct-convolution": convolutions.LAYERS,
    "depthwise-convolution": depthwise.LAYERS,
    "transposed-convolution": transposed.LAYERS,
    "blocked-pool": pools.LAYERS,
    "attention": attentions.LAYERS,
    "row-normalization": normalizations.LAYERS,
    "packed-product": products.LAYERS,
}
