"""Attention heads and inner widths of feed-forward blocks taken out of a graph, those that weigh least.

    MatMul(x, Wqkv [64, 3*4*16]) -> 4 heads -> MatMul(_, Wo [64, 64])
        -->  MatMul(x, Wqkv' [64, 3*3*16]) -> 3 heads -> MatMul(_, Wo' [48, 64])

A head goes with its queries, keys and values and with the rows of the output projection that read it, whether these are
products of their own or one (`merge-parallel`), in front of a Softmax between two products or of Attention
(`recognize-attention`); a unit between two dense layers with its column, its bias and its row. Convolutions and
recurrences keep their widths. To fit what stays to samples needs more than a graph: `graphopt.prune(only=...)`.

Source: Michel et al. 2019 (heads).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graphopt.passes.prune_channels import PruneChannels


@dataclass(frozen=True)
class PruneHeads(PruneChannels):
    """Take heads and inner widths of feed-forward blocks out: a ratio of each, or until costs are a share."""

    name: ClassVar[str] = "prune-heads"
    only: tuple[str, ...] = ("heads", "inner")
