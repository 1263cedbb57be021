"""Templates for bytes in images that are kept channels-last, on cores without vectors.

A kernel goes from one tile of a few pixels to the next. What the windows of a tile read is brought into a strip
(`strips`), whose pads hold the zero point; the sums of so many pixels and channels are then kept in registers while one
of the functions of `inner` goes over the strip and the weights, and are finished by the epilogue.
"""

from __future__ import annotations

from graphopt.targets.schedules.templates.channels_last.convolution import ChannelsLastConvolution
from graphopt.targets.schedules.templates.channels_last.product import ChannelsLastProduct
from graphopt.targets.schedules.templates.channels_last.sparse import SparseConvolution, SparseProduct

__all__ = ["ChannelsLastConvolution", "ChannelsLastProduct", "SparseConvolution", "SparseProduct"]
