"""What the user calls the layers of his model, whose nodes fusing and quantising gave other names.

A layer is named after the node of the file that does its work: the first that multiplies, else the first that computes
at all, else what its own name stands for. A name that several layers have, such as bands of rows, gets a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from graphopt.ir import Graph, Node

MULTIPLY = frozenset(
    "Conv ConvTranspose Gemm MatMul LSTM GRU RNN QLinearConv QLinearMatMul ConvInteger MatMulInteger Attention".split()
)
NO_COMPUTATION = frozenset(
    "QuantizeLinear DequantizeLinear Cast Constant Identity Reshape Flatten Squeeze Unsqueeze Transpose Shape".split()
)

LONGEST = 72
"""Characters of a name in texts for people."""


def layer_names(layers: Iterable[Node], original: Graph) -> dict[Node, str]:
    """A name for each of the `layers`, which come from nodes of the `original` graph."""
    order = {node.name: (number, node.op_type) for number, node in enumerate(original.all_nodes())}
    times: Counter[str] = Counter()
    found = {}
    for layer in layers:
        name = _name(layer, order)
        times[name] += 1
        found[layer] = name if times[name] == 1 else f"{name} ({times[name]})"
    return found


def shortened(name: str) -> str:
    """Its beginning, which finds the node in a viewer: exporters put whole lists of operators into one name."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _name(layer: Node, order: dict[str, tuple[int, str]]) -> str:
    sources = sorted((name for name in layer.origin.sources if name in order), key=lambda name: order[name])
    for wanted in (
        [name for name in sources if order[name][1] in MULTIPLY],
        [name for name in sources if order[name][1] not in NO_COMPUTATION],
        sources,
    ):
        if wanted:
            return wanted[0]
    return layer.origin.known_as(layer.name)
