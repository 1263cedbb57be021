"""Two models side by side: how right, how near to each other, how fast, how large, and where they part."""

from graphopt.comparison.compare import ModelComparison, Side, compare
from graphopt.comparison.layers import LayerError

__all__ = ["LayerError", "ModelComparison", "Side", "compare"]
