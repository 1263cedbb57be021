"""The default pipeline as a whole: every rule has a use, nothing changes the meaning, and a second run is idle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings

import graphopt
from graphopt.api import resolve_pipeline
from graphopt.ir import Graph
from graphopt.ir.compare import first_difference
from graphopt.ir.text import to_text
from graphopt.onnx_io.write import to_model
from graphopt.pipeline import Pass
from graphopt.runtime.reference import random_inputs
from tests.networks import NETWORKS
from tests.passes.models import ZOO, model
from tests.passes.test_transpose_property import walks
from tests.zoo import REASON

DEFAULT = resolve_pipeline(None)


def test_every_rule_fires_on_a_network() -> None:
    """A rule that no network needs has no reason to be shipped."""
    fired: Counter[str] = Counter()
    for name in sorted(NETWORKS):
        fired.update(DEFAULT.run(model(name)).statistics().fired)
    shipped = {rule.name for step in DEFAULT.passes for rule in step.rules}
    shipped |= {step.name for step in DEFAULT.passes if not step.rules}
    assert sorted(name for name in shipped if not fired[name]) == []


def test_every_network_passes_its_numeric_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass leaves the outputs as they were, within 1e-4 of their scale."""
    monkeypatch.setenv("GRAPHOPT_VERIFY", "numeric")
    for name in sorted(NETWORKS):
        DEFAULT.run(model(name))


@pytest.mark.zoo
@pytest.mark.skipif(not ZOO, reason=REASON)
@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_zoo_model_passes_its_numeric_checks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHOPT_VERIFY", "numeric")
    DEFAULT.run(model(name))


def check_idle(graph: Graph) -> None:
    once, again = graphopt.optimize(graph), graphopt.optimize(graph)
    assert to_text(once, weights="digest") == to_text(again, weights="digest")
    twice = once.clone()
    record = DEFAULT.run(twice)
    assert {rule: count for rule, count in record.statistics().fired.items() if count} == {}
    assert first_difference(once, twice) == ""


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_network_is_optimised_once_and_always_alike(name: str) -> None:
    """Two runs give one text; a run on the result finds nothing to do."""
    check_idle(model(name))


@settings(max_examples=60, deadline=None)
@given(walks())
def test_a_random_graph_is_optimised_once_and_always_alike(graph: Graph) -> None:
    """Branches that become one late would open the way for another transpose."""
    check_idle(graph)


@pytest.mark.zoo
@pytest.mark.skipif(not ZOO, reason=REASON)
@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_zoo_model_is_optimised_once_and_always_alike(name: str) -> None:
    check_idle(model(name))


SCRIPT = """
import graphopt
from graphopt.ir.text import to_text
from tests.networks import NETWORKS
for build in NETWORKS.values():
    print(to_text(graphopt.optimize(graphopt.load(build())), weights="digest"))
"""


def test_hash_seeds_change_nothing() -> None:
    root = Path(__file__).parents[2]
    texts = {
        subprocess.run(
            [sys.executable, "-c", "import conftest\n" + SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            cwd=root,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1 and "Fused" in texts.pop()


@pytest.mark.parametrize("name", ["bert", "keras_mobilenet", "keras_quantised", "llama", "mobilenet_v3"])
def test_after_every_pass_the_export_runs_in_onnx_runtime(name: str) -> None:
    """The checker accepts it and the outputs are those of the first export."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the oracle is ONNX Runtime")
    graph = model(name)
    inputs = random_inputs(graph)

    def outputs_of(graph: Graph) -> list[np.ndarray]:
        exported = to_model(graph)
        onnx.checker.check_model(exported, full_check=True)
        return onnxruntime.InferenceSession(exported.SerializeToString()).run(None, inputs)

    expected = outputs_of(graph)

    def check(step: Pass, graph: Graph) -> None:
        for want, got in zip(expected, outputs_of(graph), strict=True):
            assert got.shape == want.shape and got.dtype == want.dtype, step.name
            assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max(), step.name

    DEFAULT.run(graph, after_pass=check)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_node_tells_where_it_comes_from(name: str) -> None:
    graph = model(name)
    known = {node.name for node in graph.all_nodes()}
    for node in graphopt.optimize(graph).all_nodes():
        assert node.origin.sources, f"{node.name} by {node.origin.rule}"
        assert known.issuperset(node.origin.sources), node.name
