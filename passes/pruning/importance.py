"""What the channels of a group are worth, by their weights.

    l1, l2       sums of magnitudes, or of squares, of the weights that make a channel
    batchnorm    the magnitude of the scale that a BatchNormalization gives it
    median       the distance of its weights from all others' (FPGM): near the geometric median it can be made up for

Where several layers make a channel each counts alike, whatever the size of its weights. Sources: Li et al. 2017 (l1),
Liu et al. 2017 (batchnorm), He et al. 2019 (median).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.groups.find import Group, Stretch
from graphopt.errors import UsageError
from graphopt.ir import Node, Use


@dataclass(frozen=True)
class Ranking:
    """The units of a group in the order in which they should go, and what is lost by then.

    `costs[k]` is that of the first k of `order`; it has one entry more than the group has units.
    """

    group: Group
    order: np.ndarray
    costs: np.ndarray

    @staticmethod
    def of_scores(group: Group, scores: np.ndarray) -> Ranking:
        """The least first. Scores are taken relative to their mean, so that groups compare."""
        mean = float(scores.mean())
        relative = scores / mean if mean > 0 else np.ones_like(scores)
        order = np.argsort(relative, kind="stable")
        return Ranking(group, order, np.concatenate([[0.0], np.cumsum(relative[order])]))


Score = Callable[[np.ndarray], np.ndarray]
"""From rows (units, numbers) to one number for each unit."""


def by_weights(groups: Sequence[Group], criterion: str) -> list[Ranking]:
    """Rank the units of each group. Raises UsageError where no group has what the criterion looks at."""
    if criterion == "batchnorm":
        return _by_scales(groups)
    return [
        Ranking.of_scores(group, _mean_of_layers(_weights(group), CRITERIA[criterion])) for group in groups
    ]


def _by_scales(groups: Sequence[Group]) -> list[Ranking]:
    scales = {group: [s for s in group.makers if _is_scale(s)] for group in groups}
    if not any(scales.values()):
        hint = "choose another --importance; a model whose BatchNormalization is folded has none left"
        raise UsageError(
            "there is no BatchNormalization whose scales could tell", where="importance", hint=hint
        )
    magnitude = CRITERIA["l1"]
    return [
        Ranking.of_scores(group, _mean_of_layers(found or _weights(group), magnitude))
        for group, found in scales.items()
    ]


def _weights(group: Group) -> list[Stretch]:
    """The matrices and filters that make the units; of a group that has none, whatever makes them."""
    matrices = [s for s in group.makers if (s.dimension.value.rank or 0) > 1]
    return matrices or group.makers


def _is_scale(stretch: Stretch) -> bool:
    return _node(stretch).is_op("BatchNormalization") and _use(stretch).index == 1


def _mean_of_layers(stretches: Sequence[Stretch], score: Score) -> np.ndarray:
    total = np.zeros(len(stretches[0].indices))
    for stretch in stretches:
        scores = score(rows_of(stretch))
        mean = float(scores.mean())
        total += scores / mean if mean > 0 else np.ones_like(scores)
    return total / len(stretches)


def rows_of(stretch: Stretch) -> np.ndarray:
    """The numbers of each unit as a row (units, numbers), in float64."""
    data = stretch.dimension.value.constant
    assert data is not None
    along = np.moveaxis(data.astype(np.float64), stretch.dimension.axis, 0)
    return along[stretch.indices].reshape(len(stretch.indices), -1)


def _distances(rows: np.ndarray) -> np.ndarray:
    """The sum of the distances to all others."""
    squares = np.square(rows).sum(1)
    apart = squares[:, None] + squares[None] - 2 * rows @ rows.T
    return np.sqrt(np.maximum(apart, 0.0)).sum(1)


CRITERIA: Mapping[str, Score] = {
    "l1": lambda rows: np.abs(rows).sum(1),
    "l2": lambda rows: np.sqrt(np.square(rows).sum(1)),
    "median": _distances,
}
"""Those that look at weights alone, but for `batchnorm`."""


def _use(stretch: Stretch) -> Use:
    assert isinstance(stretch.dimension.holder, Use)
    return stretch.dimension.holder


def _node(stretch: Stretch) -> Node:
    return _use(stretch).node
