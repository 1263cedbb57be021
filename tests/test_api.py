"""What a program calls: load, optimize, compile, Module."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.ir.compare import equal
from graphopt.runtime.reference import run
from tests.cli.conftest import network


@pytest.fixture(scope="module")
def graph() -> graphopt.Graph:
    return graphopt.load(network())


@pytest.fixture(scope="module")
def bundle(graph: graphopt.Graph, tmp_path_factory: pytest.TempPathFactory) -> graphopt.Bundle:
    return graphopt.compile(graph, target="host", out=tmp_path_factory.mktemp("api") / "net.bundle")


def test_load_takes_a_path_bytes_or_a_message(graph: graphopt.Graph, tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "net.onnx")
    for source in (tmp_path / "net.onnx", str(tmp_path / "net.onnx"), network().SerializeToString()):
        assert equal(graphopt.load(source), graph)


def test_load_fixes_shapes() -> None:
    loaded = graphopt.load(network("N"), input_shapes={"x": (4, 3, 8, 8)})
    assert str(loaded.outputs[0].type) == "float32[4, 5]"


def test_optimize_leaves_its_argument_alone(graph: graphopt.Graph) -> None:
    before = graph.clone()
    optimized = graphopt.optimize(graph)
    assert equal(graph, before)
    assert len(optimized) < len(graph)
    assert len(graphopt.optimize(graph, "fold-batchnorm")) == len(graph) - 1


def test_a_module_answers_as_the_graph_does(graph: graphopt.Graph, bundle: graphopt.Bundle) -> None:
    module = graphopt.Module(bundle)
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    want = run(graph, {"x": x})["y"]
    limit = 128 * np.finfo(np.float32).eps * np.abs(want).max()
    for threads in (1, 2):
        module.set_num_threads(threads)
        answer = module({"x": x})
        assert list(answer) == ["y"]
        assert np.abs(answer["y"] - want).max() <= limit


def test_a_module_is_found_by_bundle_folder_and_library(bundle: graphopt.Bundle) -> None:
    infos = [graphopt.Module(place).info for place in (bundle, bundle.path, str(bundle.path), bundle.library)]
    assert infos[1:] == infos[:-1]


def test_info_tells_the_contract(bundle: graphopt.Bundle) -> None:
    info = graphopt.Module(bundle).info
    assert [str(tensor) for tensor in info.inputs] == ["x: float32[1, 3, 8, 8]"]
    assert [str(tensor) for tensor in info.outputs] == ["y: float32[1, 5]"]
    assert info.name == "net" and info.target["name"] == "host"
    assert info.default_threads >= 1 and info.workspace_bytes > 0


def test_many_threads_may_call_one_module(bundle: graphopt.Bundle) -> None:
    module = graphopt.Module(bundle)
    xs = np.random.default_rng(2).normal(size=(40, 1, 3, 8, 8)).astype(np.float32)
    want = [module({"x": x})["y"] for x in xs]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda x: module({"x": x})["y"], xs))
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_wrong_calls_are_told(graph: graphopt.Graph, bundle: graphopt.Bundle) -> None:
    module = graphopt.Module(bundle)
    with pytest.raises(UsageError, match="0 threads"):
        module.set_num_threads(0)
    with pytest.raises(UsageError, match=r"missing input x: float32\[1, 3, 8, 8\]"):
        module({})
    with pytest.raises(UsageError, match="input_shapes"):
        graphopt.compile(graph, input_shapes={"x": (1, 3, 8, 8)})
    with pytest.raises(graphopt.GraphoptError, match="no target 'rpi44'.*rpi4"):
        graphopt.compile(graph, target="rpi44")


def test_a_fresh_bundle_tells_what_passes_did(bundle: graphopt.Bundle) -> None:
    assert sum(bundle.record.statistics().fired.values()) > 0
    opened = graphopt.Bundle.open(bundle.path)
    assert opened == bundle and not opened.record.passes


def test_public_names_are_there() -> None:
    assert all(hasattr(graphopt, name) for name in graphopt.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        graphopt.nonsense  # noqa: B018


def test_the_manifest_tells_the_options_as_given(tmp_path: Path) -> None:
    from bench.network import Network

    net = Network()
    model = net.model({"input": ["N", 3]}, {net.op("Relu", "input"): ["N", 3]}, "net")
    bundle = graphopt.compile(model, out=tmp_path / "b", input_shapes={"input": (2, 3)}, threads=3)
    assert bundle.manifest["options"] == {
        "name": None,
        "threads": 3,
        "profile": False,
        "winograd": True,
        "precision": "float32",
        "input_shapes": [{"input": [2, 3]}],
    }


def test_a_model_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    from bench.network import Network

    net = Network()
    large = net.op("Expand", "input", net.ints(1 << 28, 4))
    model = net.model({"input": [1, 4]}, {large: [1 << 28, 4]}, "net")
    with pytest.raises(graphopt.GraphoptError, match=r"needs 4096 MiB, rpi3 has 1024 MiB"):
        graphopt.compile(model, target="rpi3", out=tmp_path / "b")
    assert not (tmp_path / "b").exists()
