"""Products behind the last recurrence, with 16 bits for what they read.

    LSTM -> moves -> Gemm {int8}  -->  LSTM -> moves -> Gemm {16x8}

No layer is behind such a product: what rounding does to its operand is in the results as it is, and no activation or
sum of many errors hides it. A recurrence makes its states as floats, so that the wider integers cost no pass of their
own. Weights keep their bits. Where other operators make the operand from integers, they would have to compute in 16
bits too: that is slower, and left to `mixed_precision`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphopt.analysis.macs import macs
from graphopt.ir import Graph, Node, Value
from graphopt.passes.quantization.operators import PRODUCTS, RECURRENT, data_operands, is_move
from graphopt.passes.quantization.scheme import Scheme
from graphopt.targets.device import Target

SHARE = 0.01
"""Of all multiply-adds, that may read 16 bits: the rest counts as int8."""

BITS = 8
"""Of operands that are worth more."""


def finishing_products(
    graph: Graph, layers: Mapping[Node, Scheme], target: Target | None
) -> dict[Node, Scheme]:
    """Wider schemes for the products of `layers` that gain by them, where `target` sums what these multiply.

    All of the products are taken, or none where they are more than a hundredth of the multiply-adds.
    """
    found = {node: replace(layers[node], activations="int16") for node in graph.nodes if _gains(node, layers)}
    if target is not None and any(s.product not in target.integer_products for s in found.values()):
        return {}
    work = sum(macs(node) or 0 for node in graph.nodes)
    return found if sum(macs(node) or 0 for node in found) <= SHARE * work else {}


def _gains(node: Node, layers: Mapping[Node, Scheme]) -> bool:
    scheme = layers.get(node)
    if scheme is None or not node.is_op(*PRODUCTS) or scheme.group:
        return False
    if scheme.activation_type is None or scheme.activation_type.bits > BITS:
        return False
    states = {_moved_from(value) for value in data_operands(node) if not value.is_constant}
    if not states or any(value.producer is None or value.producer not in layers for value in states):
        return False
    if not all(value.producer.is_op(*RECURRENT) for value in states if value.producer is not None):
        return False
    return not _reaches_a_layer(node, layers)


def _moved_from(value: Value) -> Value:
    """What `value` was before it was moved."""
    while value.producer is not None and is_move(value.producer) and len(data_operands(value.producer)) == 1:
        (value,) = data_operands(value.producer)
    return value


def _reaches_a_layer(node: Node, layers: Mapping[Node, Scheme]) -> bool:
    waiting, seen = [node], {node}
    while waiting:
        for user in (user for value in waiting.pop().outputs for user in value.users):
            if user in layers:
                return True
            if user not in seen:
                seen.add(user)
                waiting.append(user)
    return False
