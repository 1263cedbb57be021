"""Large channels handed from a normalisation to the products that read it: the same function, ranges more alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphopt.analysis.ranges import Range, Ranges
from graphopt.analysis.ranges_file import save_ranges
from graphopt.errors import UsageError
from graphopt.ir import Graph, Value
from graphopt.passes import catalog
from graphopt.passes.migrate_outliers import migration
from graphopt.pipeline import PipelineRecord, parse_pipeline
from graphopt.runtime.reference import random_inputs, run
from tests.passes.helpers import Build, Draft, made

OUTLIER = 50.0


def normalised(g: Draft, **attributes: object) -> Value:
    scale = g.const(np.array([1, 0.5, OUTLIER, 1, 2, 1]))
    return g.op("LayerNormalization", g.input(2, 3, 6), scale, g.weight(6), **attributes)


def two_readers(g: Draft) -> Value:
    x = normalised(g)
    return g.op("Add", g.op("MatMul", x, g.weight(6, 4)), g.op("MatMul", x, g.weight(6, 4)))


def read_elsewhere(g: Draft) -> Value:
    x = normalised(g)
    return g.op("Concat", g.op("MatMul", x, g.weight(6, 4)), x, axis=2)


def returned(g: Draft) -> Value:
    x = normalised(g)
    g.output(x, g.op("MatMul", x, g.weight(6, 4)))
    return x


def _output(graph: Graph) -> Value:
    return next(node for node in graph.nodes if node.is_op("LayerNormalization")).output


def _seen(graph: Graph) -> np.ndarray:
    """The largest value of each channel of the normalisation, over a few inputs."""
    tapped = graph.clone()
    tapped.add_output(_output(tapped), "seen")
    arrays = [run(tapped, random_inputs(tapped, seed))["seen"] for seed in range(8)]
    return np.abs(arrays).max(axis=(0, 1, 2))


def migrated(graph: Graph, folder: Path, channels: int = 6) -> PipelineRecord:
    high = _seen(graph)[:channels].astype(np.float64)
    path = folder / "ranges.json"
    save_ranges(Ranges({_output(graph).name: Range(-high, high, 2)}), path)
    spec = f"migrate-outliers{{ranges={path}}}"
    return parse_pipeline(spec, catalog()).run(graph, explain=("migrate-outliers",))


def test_channels_become_alike(tmp_path: Path) -> None:
    graph = made(two_readers)
    before, spread = run(graph, random_inputs(graph, 9)), _seen(graph)
    record = migrated(graph, tmp_path)
    assert record.statistics().fired["migrate-outliers"] == 1
    after, now = run(graph, random_inputs(graph, 9)), _seen(graph)
    for name, want in before.items():
        assert np.abs(after[name] - want).max() <= 1e-5 * np.abs(want).max()
    assert now.max() / now.min() < 0.3 * spread.max() / spread.min()


@pytest.mark.parametrize(
    ("build", "channels", "reason"),
    [(read_elsewhere, 6, "is no product"), (returned, 6, "needed elsewhere"), (two_readers, 4, "is known")],
)
def test_stays(build: Build, channels: int, reason: str, tmp_path: Path) -> None:
    graph = made(build)
    statistics = migrated(graph, tmp_path, channels).statistics()
    assert not statistics.fired["migrate-outliers"]
    assert any(reason in attempt.reason for attempt in statistics.attempts)


def test_ranges_are_needed() -> None:
    with pytest.raises(UsageError, match="needs the ranges"):
        parse_pipeline("migrate-outliers", catalog()).run(made(two_readers))


def test_the_strength_moves_between_both_ends() -> None:
    seen, weights = np.array([1.0, 4.0, 0.0]), [np.array([0.5, 0.25, 1.0])]
    all_of_it = seen[:2] / migration(seen, weights, 1.0)[:2]
    assert all_of_it[0] == pytest.approx(all_of_it[1])
    none_of_it = weights[0] * migration(seen, weights, 0.0)
    assert np.ptp(none_of_it) == pytest.approx(0)
    assert (migration(np.zeros(3), weights, 0.5) == 1).all()
