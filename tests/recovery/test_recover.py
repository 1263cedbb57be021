"""Learning from the original: nearer to it, the same twice, taken up again, stopped in time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import graphopt
from graphopt.analysis.groups.find import channel_groups
from graphopt.errors import UsageError
from graphopt.ir import Graph, Value
from graphopt.passes.pruning.choose import by_ratio, without
from graphopt.passes.pruning.importance import by_weights
from tests.cli.conftest import Cli, cli, folder, model  # noqa: F401
from tests.passes.helpers import Draft, made

DATA = np.random.default_rng(0).normal(size=(300, 1, 8)).astype(np.float32)


def network(draft: Draft) -> Value:
    hidden = draft.op("Gemm", draft.input(1, 8), draft.weight(8, 24), draft.weight(24))
    return draft.op("Gemm", draft.op("Relu", hidden), draft.weight(24, 5), draft.weight(5))


@pytest.fixture(scope="module")
def teacher() -> Graph:
    return made(network)


@pytest.fixture(scope="module")
def student(teacher: Graph) -> Graph:
    rankings = by_weights(channel_groups(teacher).groups, "l2")
    return without(teacher, by_ratio(rankings, 0.5, 1))


def weights(graph: Graph) -> np.ndarray:
    return np.concatenate([value.constant.ravel() for value in graph.constants if value.constant is not None])


def test_without_jax_it_says_what_to_install(
    teacher: Graph, student: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("graphopt.recovery.")]:
        if not name.endswith(".recover"):
            monkeypatch.delitem(sys.modules, name)
    package = sys.modules.get("graphopt.recovery")
    for name in ("train", "function"):
        if package is not None and hasattr(package, name):
            monkeypatch.delattr(package, name)
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(UsageError, match=r"pip install graphopt\[recover\]"):
        graphopt.recover(student, teacher, DATA)


def test_a_teacher_with_other_outputs_is_refused(student: Graph) -> None:
    def build(draft: Draft) -> Value:
        return draft.op("Gemm", draft.input(1, 8), draft.weight(8, 6))

    with pytest.raises(UsageError, match="teacher: its outputs are"):
        graphopt.recover(student, made(build), DATA)


class TestLearning:
    @pytest.fixture(autouse=True)
    def needs_jax(self) -> None:
        pytest.importorskip("jax", reason="JAX is not here: pip install graphopt[recover]")
        pytest.importorskip("optax", reason="optax is not here: pip install graphopt[recover]")

    def test_it_comes_nearer_and_is_the_same_twice(self, teacher: Graph, student: Graph) -> None:
        first, second = (graphopt.recover(student, teacher, DATA, epochs=12, rate=0.01) for _ in range(2))
        assert first.course.best < 0.5 * first.course.first and first.course.ended == "all epochs are done"
        assert len(first.course.history) == 13
        np.testing.assert_array_equal(weights(first.graph), weights(second.graph))
        other = graphopt.recover(student, teacher, DATA, epochs=12, rate=0.01, seed=1)
        assert (weights(other.graph) != weights(first.graph)).any()

    @pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
    def test_zeros_of_sparse_weights_stay(self, teacher: Graph, pattern: str) -> None:
        ratio = 0.7 if pattern == "unstructured" else None
        sparse = graphopt.sparsify(teacher, pattern=pattern, ratio=ratio).graph
        result = graphopt.recover(sparse, teacher, DATA, epochs=8)
        assert result.course.best < 0.9 * result.course.first
        before, after = ([v.constant for v in graph.constants] for graph in (sparse, result.graph))
        for old, new in zip(before, after, strict=True):
            if old.ndim > 1:
                np.testing.assert_array_equal(old == 0, new == 0)

    def test_a_checkpoint_is_taken_up(self, teacher: Graph, student: Graph, tmp_path: Path) -> None:
        place = tmp_path / "state.npz"
        whole = graphopt.recover(student, teacher, DATA, epochs=6, rate=0.01)
        stopped = graphopt.recover(student, teacher, DATA, epochs=6, rate=0.01, minutes=0.0, checkpoint=place)
        assert stopped.course.epochs == 1 and stopped.course.ended == "0 minutes are over"
        taken_up = graphopt.recover(student, teacher, DATA, epochs=6, rate=0.01, checkpoint=place)
        assert taken_up.course.epochs == 6
        np.testing.assert_array_equal(weights(taken_up.graph), weights(whole.graph))
        with pytest.raises(UsageError, match="checkpoint of another student"):
            graphopt.recover(teacher, teacher, DATA, checkpoint=place)
        place.write_bytes(b"PK")
        with pytest.raises(UsageError, match="it is no checkpoint"):
            graphopt.recover(student, teacher, DATA, checkpoint=place)

    def test_divergence_keeps_the_best(self, teacher: Graph, student: Graph) -> None:
        """Samples that are no numbers end it at once."""

        def spoil(batch: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
            return {"x0": batch["x0"] * np.float32(np.nan)}

        result = graphopt.recover(student, teacher, DATA, epochs=20, augment=spoil)
        assert result.course.ended == "it diverged in epoch 1; the best weights before are kept"
        assert result.course.best == result.course.first
        np.testing.assert_array_equal(weights(result.graph), weights(student))

    def test_labels_and_other_samples_count(self, teacher: Graph, student: Graph) -> None:
        seen: list[int] = []

        def vary(batch: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, np.ndarray]:
            seen.append(len(batch["x0"]))
            return {"x0": batch["x0"] + 0.1 * random.normal(size=batch["x0"].shape).astype(np.float32)}

        labels = np.arange(300) % 5
        result = graphopt.recover(
            student, teacher, DATA, labels=labels, label_share=1.0, epochs=2, augment=vary, rate=0.01
        )
        assert seen == [64] * 8
        assert result.course.first > 1.5

    def test_frozen_weights_stay(self, teacher: Graph, student: Graph) -> None:
        first, *_, last = student.nodes
        result = graphopt.recover(student, teacher, DATA, epochs=2, freeze=[last.name])
        ours, before = (list(graph.nodes)[-1].inputs[1].constant for graph in (result.graph, student))
        np.testing.assert_array_equal(ours, before)
        assert (next(iter(result.graph.nodes)).inputs[1].constant != first.inputs[1].constant).any()
        with pytest.raises(UsageError, match="freeze: there is no node 'head'"):
            graphopt.recover(student, teacher, DATA, freeze=["head"])
        with pytest.raises(UsageError, match="no weights are left to learn"):
            graphopt.recover(student, teacher, DATA, freeze=["*"])

    def test_several_teachers_are_averaged(self, teacher: Graph, student: Graph) -> None:
        """With itself as one of two, the way to the teacher's answers is half as long."""
        alone = graphopt.recover(teacher, student, DATA, epochs=1, temperature=100.0)
        both = graphopt.recover(teacher, [student, teacher], DATA, epochs=1, temperature=100.0)
        assert both.course.first == pytest.approx(alone.course.first / 4, rel=0.1)
        with pytest.raises(UsageError, match="there is no teacher"):
            graphopt.recover(student, [], DATA)

    def test_few_samples_are_refused(self, teacher: Graph, student: Graph) -> None:
        with pytest.raises(UsageError, match="7 samples are too few"):
            graphopt.recover(student, teacher, DATA[:7])

    def test_the_command(self, cli: Cli, model: Path, tmp_path: Path) -> None:  # noqa: F811
        data, small, out = (tmp_path / name for name in ("x.npy", "small.onnx", "out.onnx"))
        np.save(data, np.random.default_rng(0).normal(size=(60, 3, 8, 8)).astype(np.float32))
        assert cli("prune", model, "--macs", "60%", "-d", data, "-o", small).code == 0
        done = cli("recover", small, "--teacher", model, "-d", data, "--epochs", 2, "-o", out)
        assert (done.code, done.err) == (0, "")
        for text in ("loss held back", "all epochs are done", "SQNR", str(out)):
            assert text in done.out
        told = cli("recover", small, "--teacher", model, "-d", data, "--epochs", 1, "--json").data
        assert told["course"]["epochs"] == 1 and told["out"] is None
        failed = cli(
            "recover", small, "--teacher", model, "-d", data, "--rate", "7", "-o", tmp_path / "no.onnx"
        )
        assert failed.code == 2 and "rate: 7.0 is out of range" in failed.error
