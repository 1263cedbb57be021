"""What samples tell of channels: how strong they are, and how well others can stand in for them.

    activation       the root mean square of a channel where layers read it
    reconstruction   what the layers that read it lose, once the weights of all other channels make up for it

Of a layer y = W x with the covariance C of what it reads, leaving out the columns S and fitting the others anew costs

    tr(W_S ([C^-1]_SS)^-1 W_S^T)  of  tr(W C W^T)

which is the optimal brain surgeon's loss (Hassibi and Stork 1993) for whole channels. They go a few at a time, the
cheapest first, and what is left of W and C^-1 is brought up to date between. A layer's loss is a share of its energy,
so that layers compare; several layers that read a channel add up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.groups.find import Group, Stretch
from graphopt.ir import Graph, Node, Use
from graphopt.passes.pruning.importance import Ranking, by_weights
from graphopt.passes.rounding.matrices import has_rows, operand_rows, weight_rows
from graphopt.passes.rounding.moments import Moments, damped, damping_for
from graphopt.runtime.stacked import Environment, Operand, Operands, evaluate, run

STEPS = 64
"""In so many steps all channels of a group go, or one at a time."""

DAMPING = 0.01

Observed = Mapping[Node, Moments]
"""Second moments of what each layer reads."""


def observe(graph: Graph, inputs: Environment, groups: Sequence[Group]) -> dict[Node, Moments]:
    """Moments of the layers that read a group's channels. `inputs` are stacks of samples."""
    return observe_layers(graph, inputs, {_node(s) for group in groups for s in _layers(group)})


def observe_layers(graph: Graph, inputs: Environment, wanted: Collection[Node]) -> dict[Node, Moments]:
    """Moments of what each of `wanted` reads."""
    found: dict[Node, Moments] = {}

    def each(node: Node, operands: Operands, environment: Mapping) -> list[Operand]:
        if node in wanted and operands[0] is not None and operands[0].is_stack:
            found[node] = _moments(node, operands[0].data)
        return evaluate(node, operands, environment)

    run(graph, inputs, each)
    return found


def _layers(group: Group) -> list[Stretch]:
    """Those of a group's readers whose operands make rows: no recurrences, no groups within a convolution."""
    return [
        s
        for s in group.readers
        if _use(s).index == 1 and has_rows(_node(s)) and _node(s).int("group", 1) == 1
    ]


def _moments(node: Node, x: np.ndarray) -> Moments:
    weights = node.inputs[1]
    assert weights is not None and weights.constant is not None
    shape = weights.constant.shape
    empty = np.zeros((1, 1, 0), np.float32)
    pairs = (
        (rows, np.broadcast_to(empty, (1, rows.shape[1], 0))) for _, rows in operand_rows(node, x, shape)
    )
    return Moments.of(pairs)


def by_activation(groups: Sequence[Group], observed: Observed) -> list[Ranking]:
    """By their strength; groups that no layer reads as a whole by their weights."""
    rankings = []
    for group in groups:
        scores = np.zeros(group.size)
        for layer in _read_by(group, observed):
            power = np.diagonal(layer.second, axis1=0, axis2=1)
            strength = np.sqrt(np.maximum(power, 0)[layer.columns].mean(1))
            scores += strength / max(float(strength.mean()), np.finfo(np.float32).tiny)
        rankings.append(Ranking.of_scores(group, scores) if scores.any() else by_weights([group], "l2")[0])
    return rankings


def by_reconstruction(groups: Sequence[Group], observed: Observed) -> list[Ranking]:
    """By what is lost without them; groups that no layer reads as a whole by their weights."""
    rankings = []
    for group in groups:
        layers = _read_by(group, observed)
        rankings.append(_reconstructed(group, layers) if layers else by_weights([group], "l2")[0])
    return rankings


@dataclass
class _Layer:
    """Weights (m, k), raw second moments and covariance (k, k), and the columns (units, s) of each unit."""

    weights: np.ndarray
    second: np.ndarray
    covariance: np.ndarray
    columns: np.ndarray

    def __post_init__(self) -> None:
        self.energy = float(
            np.einsum("mk,kl,ml->", self.weights, self.covariance, self.weights, optimize=True)
        )
        self.inverse = np.linalg.inv(self.covariance)

    def losses(self, units: np.ndarray) -> np.ndarray:
        """The share of the energy that each unit costs."""
        columns = self.columns[units]
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        read = self.weights.T[columns]
        solved = np.linalg.solve(blocks, read)
        return np.einsum("usm,usm->u", read, solved) / max(self.energy, np.finfo(np.float32).tiny)

    def remove(self, units: np.ndarray) -> None:
        """Leave units out; what stays makes up for them."""
        gone = self.columns[units].ravel()
        rows = self.inverse[gone]
        solved = np.linalg.solve(rows[:, gone], rows)
        self.weights = self.weights - self.weights[:, gone] @ solved
        self.inverse = self.inverse - rows.T @ solved
        self.weights[:, gone] = 0


def _read_by(group: Group, observed: Observed) -> list[_Layer]:
    found = []
    for stretch in _layers(group):
        node = _node(stretch)
        if node not in observed:
            continue
        raw = observed[node]
        moments = raw.about_mean()
        value = stretch.dimension.value.constant
        assert value is not None
        weights = weight_rows(node, value.astype(np.float64))[0]
        covariance = damped(moments.operands, damping_for(moments, DAMPING), moments.rounding)[0]
        taps = weights.shape[1] // value.shape[stretch.dimension.axis]
        columns = stretch.indices[:, :, None] * taps + np.arange(taps)
        found.append(_Layer(weights, raw.operands[0], covariance, columns.reshape(group.size, -1)))
    return found


def _reconstructed(group: Group, layers: list[_Layer]) -> Ranking:
    staying = np.arange(group.size)
    order: list[int] = []
    costs = [0.0]
    at_once = -(-group.size // STEPS)
    while len(staying):
        losses = np.sum([layer.losses(staying) for layer in layers], axis=0)
        chosen = np.argsort(losses, kind="stable")[:at_once]
        for place in chosen:
            costs.append(costs[-1] + max(float(losses[place]), 0.0))
        gone = staying[chosen]
        order += gone.tolist()
        staying = np.delete(staying, chosen)
        for layer in layers:
            if len(staying):
                layer.remove(gone)
    return Ranking(group, np.array(order), np.array(costs))


def _use(stretch: Stretch) -> Use:
    assert isinstance(stretch.dimension.holder, Use)
    return stretch.dimension.holder


def _node(stretch: Stretch) -> Node:
    return _use(stretch).node
