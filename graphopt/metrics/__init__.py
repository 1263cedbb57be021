"""How good a model's answers are: metrics that gather sample by sample, with a bootstrap interval.

tally = Tally(metric_named("top5"))
for image, label in data:
    tally.add(model(image), label)
score = tally.score()     # value, interval, direction
"""

from graphopt.metrics.base import Metric
from graphopt.metrics.catalog import METRICS, metric_named
from graphopt.metrics.tally import Score, Tally, difference

__all__ = ["METRICS", "Metric", "Score", "Tally", "difference", "metric_named"]
