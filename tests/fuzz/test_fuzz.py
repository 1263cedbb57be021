"""A few random models, those that failed once, and the harness itself: what is broken on purpose is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.ir import Graph
from graphopt.passes.fold_affine import FoldAffine
from tests.fuzz import check, generate
from tests.fuzz.check import failure_of, oracle_of
from tests.fuzz.shrink import shrunk

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.onnx"))
SEEDS = range(900_000, 900_012)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_models(seed: int) -> None:
    assert failure_of(generate.model(seed), seed) is None


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_failed_once(path: Path) -> None:
    assert failure_of(onnx.load(path), compiled=True) is None


def test_models_are_valid_various_and_the_same_by_seed() -> None:
    models = [generate.model(seed) for seed in range(60)]
    for model in models:
        onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for model in models for node in model.graph.node}
    assert len(operators) > 40
    assert generate.model(7).SerializeToString() == models[7].SerializeToString()


def test_a_wrong_pass_is_found_and_its_model_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that moves every convolution's weights a little."""
    seed = next(
        s for s in range(100) if {n.op_type for n in generate.model(s).graph.node} >= {"Conv", "Transpose"}
    )
    model = generate.model(seed)
    right = FoldAffine.run

    def wrong(self: FoldAffine, graph: Graph, *rest: object, **options: object) -> object:
        for node in graph.nodes:
            if node.is_op("Conv") and node.inputs[1] is not None and node.inputs[1].constant is not None:
                changed = graph.add_constant(node.inputs[1].constant * np.float32(1.01), "changed")
                node.inputs[1].replace_uses(changed)
        return right(self, graph, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(FoldAffine, "run", wrong)
    found = failure_of(model, seed)
    assert found is not None and found.stage == "fold-affine" and "is off by" in found.reason

    def fails(cut: onnx.ModelProto) -> bool:
        failure = failure_of(cut, seed)
        return failure is not None and failure.stage == "fold-affine"

    small = shrunk(model, fails)
    assert [node.op_type for node in small.graph.node] == ["Conv"]


def test_what_may_differ_is_little() -> None:
    oracle = oracle_of(generate.model(3))
    for name, answer in oracle.answer.items():
        assert oracle.allowed[name] < 1e-3 * max(np.abs(answer).max(), 1)
    name, answer = next(iter(oracle.answer.items()))
    moved = {**oracle.answer, name: answer + 3 * np.float32(oracle.allowed[name])}
    assert "is off by" in oracle.parts_from(moved) and not oracle.parts_from(oracle.answer)
    assert check.LEFT_OUT
